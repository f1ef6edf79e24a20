"""The training loss: focal classification of all cells, L1 and GIoU of those that have a target."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from example.matching import Matcher
from losses import Normalizer, sigmoid_focal_loss
from matchers import Assignment, Predictions, Targets, giou


@dataclass(frozen=True, kw_only=True)
class DetectionCriterion:
    """Match predictions to targets and compute the weighted loss terms.

    Args:
        matcher: Says which target each prediction has.
        image_size: Height and width of the images in pixels, the unit of L1 distances.
        class_weight: Weight of the focal loss.
        l1_weight: Weight of the L1 distance between corners.
        giou_weight: Weight of 1 - GIoU.
        normalizer: Turns the number of positives into a divisor; the default counts over all ranks.
    """

    matcher: Matcher
    image_size: float
    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    normalizer: Normalizer = field(default_factory=Normalizer)

    def __call__(self, predictions: Predictions, targets: Targets) -> dict[str, Tensor]:
        """Match, and return the loss terms; see `loss`."""
        return self.loss(predictions, targets, self.matcher(predictions, targets))

    def loss(self, predictions: Predictions, targets: Targets, assignment: Assignment) -> dict[str, Tensor]:
        """Return the loss terms for a given assignment.

        Args:
            predictions: Logits (B, P, C) and boxes (B, P, 4), xyxy in pixels.
            targets: Boxes, xyxy in pixels, and labels.
            assignment: Which target each prediction has.

        Returns:
            Scalars ``"class"``, ``"l1"`` and ``"giou"``: sums over the batch, weighted, and divided by the number of
            predictions with a target in the batch (at least 1).
        """
        logits, boxes = predictions.logits, predictions.boxes
        assert logits is not None and boxes is not None
        positive = assignment.is_positive
        count = self.normalizer(positive.sum())
        focal = sigmoid_focal_loss(logits, assignment.gather(targets.labels, fill=-1)).sum(dim=-1)
        # Cells without a target are compared with themselves, which costs nothing.
        gt = torch.where(positive.unsqueeze(-1), assignment.gather(targets.boxes), boxes.detach())
        l1 = (boxes - gt).abs().sum(dim=-1) / self.image_size
        separation = 1 - giou(boxes, gt)
        return {
            "class": self.class_weight * (focal * ~assignment.is_ignored).sum() / count,
            "l1": self.l1_weight * (l1 * positive).sum() / count,
            "giou": self.giou_weight * (separation * positive).sum() / count,
        }
