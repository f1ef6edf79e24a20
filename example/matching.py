"""One-to-one matching of predictions and targets: costs for the whole batch at once, then an exact assignment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import ragged
from example.boxes import giou
from example.model import Predictions
from ragged import RaggedBatch


def focal_class_cost(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return what calling a prediction by a target's class would change in the focal loss.

    ``cost = alpha (1 - p)^gamma (-log p) - (1 - alpha) p^gamma (-log(1 - p))`` with the probability p of the class.

    Args:
        logits: Class logits, shape (B, P, C).
        labels: Classes, shape (B, G), int64, every one of them in [0, C).
        alpha: Share of the positive term.
        gamma: Exponent that plays down what is already well classified.

    Returns:
        Costs, shape (B, G, P).
    """
    p = logits.sigmoid()
    positive = alpha * (1 - p) ** gamma * F.softplus(-logits)
    negative = (1 - alpha) * p**gamma * F.softplus(logits)
    index = labels.unsqueeze(-1).expand(-1, -1, logits.shape[1])
    return (positive - negative).transpose(1, 2).gather(1, index)


def assign(costs: RaggedBatch) -> tuple[RaggedBatch, RaggedBatch]:
    """Find the cheapest one-to-one assignment of every sample.

    Args:
        costs: Cost of every pair, shape (B, G, P), ragged along the targets (dimension 1).

    Returns:
        ``(matched_gt_indices, matched_pred_indices)``, each int64 of shape (B, M) with min(n, P) pairs in a sample of
        n targets; entry k of the one belongs to entry k of the other, and targets are in ascending order.
    """
    # The transfer to the CPU is the only synchronisation, and this list the only step that is taken sample by sample.
    pairs = [linear_sum_assignment(cost.numpy()) for cost in costs.detach().cpu().split()]
    gt = ragged.combine_data([torch.from_numpy(rows) for rows, _ in pairs], device=costs.device)
    pred = ragged.combine_data(
        [torch.from_numpy(columns) for _, columns in pairs], other_with_same_sample_sizes=gt, device=costs.device
    )
    return gt, pred


@dataclass(frozen=True, kw_only=True)
class HungarianMatcher:
    """Match every target to one prediction so that the sum of class, L1 and GIoU costs is smallest.

    Args:
        image_size: Height and width of the images in pixels; box distances are measured in this unit.
        class_weight: Weight of the focal class cost.
        l1_weight: Weight of the L1 distance between corners.
        giou_weight: Weight of 1 - GIoU.
    """

    image_size: float
    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0

    def costs(self, predictions: Predictions, targets: dict[str, RaggedBatch]) -> RaggedBatch:
        """Return the costs (B, G, P), ragged along the targets; see `__call__` for the arguments."""
        # Filler may hold anything: make it a valid class and a finite box before it takes part in the arithmetic.
        labels = targets["labels"].with_padded_set_to(0)
        gt = targets["boxes"].with_padded_set_to(0.0).tensor.unsqueeze(2)
        pred = predictions.boxes.unsqueeze(1)
        l1 = (gt - pred).abs().sum(dim=-1) / self.image_size
        cost = self.class_weight * focal_class_cost(predictions.logits, labels.tensor)
        cost = cost + self.l1_weight * l1 + self.giou_weight * (1 - giou(gt, pred))
        return labels.create_with_sample_sizes_like_self(cost, non_uniform_dim=1)

    @torch.no_grad()
    def __call__(self, predictions: Predictions, targets: dict[str, RaggedBatch]) -> tuple[RaggedBatch, RaggedBatch]:
        """Match a batch.

        Args:
            predictions: Logits (B, P, C) and boxes (B, P, 4), xyxy in pixels.
            targets: Ragged ``"boxes"`` (B, G, 4), xyxy in pixels, and ``"labels"`` (B, G), int64.

        Returns:
            ``(matched_gt_indices, matched_pred_indices)``, see `assign`.
        """
        return assign(self.costs(predictions, targets))
