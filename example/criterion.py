"""A training loss of one's own: focal classification of all cells, L1 and GIoU of those that have a target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from example.matching import Matcher
from losses import Normalizer, sigmoid_focal_loss
from matchers import Assignment, Predictions, Targets, giou


class DetectionCriterion(nn.Module):
    """Match predictions to targets and compute the weighted loss terms.

    Args:
        matcher: Says which target each prediction has.
        image_size: Height and width of the images in pixels, the unit of L1 distances.
        class_weight: Weight of the focal loss.
        l1_weight: Weight of the L1 distance between corners.
        giou_weight: Weight of 1 - GIoU.
        reduction: ``"mean"`` over the batch, or ``"sample"`` for what each image would have alone.
        normalizer: Turns the number of positives into a divisor; the default counts over all ranks.
    """

    def __init__(
        self,
        *,
        matcher: Matcher,
        image_size: float,
        class_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sample"):
            raise ValueError(f"reduction must be 'mean' or 'sample', got {reduction!r}")
        self.matcher, self.image_size, self.reduction = matcher, image_size, reduction
        self.class_weight, self.l1_weight, self.giou_weight = class_weight, l1_weight, giou_weight
        self.normalizer = normalizer or Normalizer()

    def forward(self, predictions: Predictions, targets: Targets) -> dict[str, Tensor]:
        """Match, and return the loss terms; see `loss`."""
        return self.loss(predictions, targets, self.assign(predictions, targets))

    @torch.no_grad()
    def assign(self, predictions: Predictions, targets: Targets) -> Assignment:
        """The first step: which target each prediction has."""
        return self.matcher(predictions, targets)

    def loss(self, predictions: Predictions, targets: Targets, assignment: Assignment) -> dict[str, Tensor]:
        """The second step: the loss terms of a given assignment.

        Args:
            predictions: Logits (B, P, C) and boxes (B, P, 4), xyxy in pixels.
            targets: Boxes, xyxy in pixels, and labels.
            assignment: Which target each prediction has.

        Returns:
            ``"class"``, ``"l1"`` and ``"giou"``: sums over the batch, weighted, and divided by the number of
            predictions with a target in the batch (at least 1); or the same of each image, (B,).
        """
        logits, boxes = predictions.logits, predictions.boxes
        assert logits is not None and boxes is not None
        logits, positive = logits.float(), assignment.is_positive
        focal = sigmoid_focal_loss(logits, assignment.gather(targets.labels, fill=-1)).sum(dim=-1)
        # Cells without a target are compared with themselves, which costs nothing.
        gt = torch.where(positive.unsqueeze(-1), assignment.gather(targets.boxes), boxes.detach())
        l1 = (boxes - gt).abs().sum(dim=-1) / self.image_size
        separation = 1 - giou(boxes, gt)
        terms = {
            "class": self.class_weight * focal * ~assignment.is_ignored,
            "l1": self.l1_weight * l1 * positive,
            "giou": self.giou_weight * separation * positive,
        }
        if self.reduction == "sample":
            count = positive.sum(dim=-1).clamp(min=1)
            return {name: values.sum(dim=-1) / count for name, values in terms.items()}
        count = self.normalizer(positive.sum())
        return {name: values.sum() / count for name, values in terms.items()}
