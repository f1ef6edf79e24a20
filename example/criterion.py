"""The training loss: focal classification of all cells, L1 and GIoU of the matched pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import ragged
from example.boxes import giou
from example.matching import HungarianMatcher
from example.model import Predictions
from ragged import RaggedBatch

Pairs = tuple[RaggedBatch, RaggedBatch]


def focal_loss(logits: Tensor, is_class: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the sigmoid focal loss (Lin et al., 2017), elementwise, for logits and 0/1 targets of one shape."""
    p = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, is_class, reduction="none")
    wrong = p + is_class - 2 * p * is_class
    share = (1 - alpha) + (2 * alpha - 1) * is_class
    return share * wrong**gamma * cross_entropy


@dataclass(frozen=True, kw_only=True)
class DetectionCriterion:
    """Match predictions to targets one-to-one and compute the weighted loss terms.

    Args:
        matcher: Gives the matched pairs.
        class_weight: Weight of the focal loss.
        l1_weight: Weight of the L1 distance between matched corners, in units of the image size.
        giou_weight: Weight of 1 - GIoU of the matched boxes.
    """

    matcher: HungarianMatcher
    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0

    def __call__(self, predictions: Predictions, targets: dict[str, RaggedBatch]) -> dict[str, Tensor]:
        """Match, and return the loss terms; see `loss`."""
        return self.loss(predictions, targets, self.matcher(predictions, targets))

    def loss(self, predictions: Predictions, targets: dict[str, RaggedBatch], pairs: Pairs) -> dict[str, Tensor]:
        """Return the loss terms for given pairs.

        Args:
            predictions: Logits (B, P, C) and boxes (B, P, 4), xyxy in pixels.
            targets: Ragged ``"boxes"`` (B, G, 4), xyxy in pixels, and ``"labels"`` (B, G), int64.
            pairs: ``(matched_gt_indices, matched_pred_indices)``.

        Returns:
            Scalars ``"class"``, ``"l1"`` and ``"giou"``: sums over the batch, weighted, and divided by the number of
            targets in the batch (at least 1).
        """
        num_targets = targets["labels"].sample_sizes.sum().clamp(min=1)
        l1, overlap = self._box_losses(predictions.boxes, targets["boxes"], pairs)
        return {
            "class": self.class_weight * self._class_loss(predictions.logits, targets["labels"], pairs) / num_targets,
            "l1": self.l1_weight * l1 / num_targets,
            "giou": self.giou_weight * overlap / num_targets,
        }

    def _class_loss(self, logits: Tensor, labels: RaggedBatch, pairs: Pairs) -> Tensor:
        gt_indices, pred_indices = pairs
        matched = ragged.batched_indexing_access(labels, gt_indices, filler_value=0)
        one_hot = matched.apply(lambda label: F.one_hot(label, logits.shape[-1]).to(logits.dtype))
        is_class = ragged.batched_indexing_write(one_hot, pred_indices, torch.zeros_like(logits))
        return focal_loss(logits, is_class).sum()

    def _box_losses(self, boxes: Tensor, gt_boxes: RaggedBatch, pairs: Pairs) -> tuple[Tensor, Tensor]:
        gt_indices, pred_indices = pairs
        gt = ragged.batched_indexing_access(gt_boxes, gt_indices)
        pred = ragged.batched_indexing_access(boxes, pred_indices)
        distance = abs(pred - gt).apply(lambda corners: corners.sum(dim=-1)) / self.matcher.image_size
        separation = gt.create_with_sample_sizes_like_self(1 - giou(pred.tensor, gt.tensor))
        return ragged.sum_over_targets(distance).sum(), ragged.sum_over_targets(separation).sum()
