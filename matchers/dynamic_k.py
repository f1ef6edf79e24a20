"""The dynamic-k rule that SimOTA and RTMDet share: a target takes as many predictions as its overlaps add up to."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.boxes import iou
from matchers.pairs import Pairs
from matchers.problem import Problem
from matchers.selection import BestTarget, smallest

AVOIDED = 1e36
"""What replaces a cost that is not finite: more than any other, so that such a pair is the last resort."""

# Sums of IoUs that are this close below a whole number count as that number: they depend on the order of addition.
_ROUNDING = 1e-4
_ONE_TAKER = 1 << 32


class DynamicK:
    """Collects what targets want, block by block, and settles who gets which prediction (Ge et al., OTA, 2021).

    A target takes the ``k`` cheapest of its candidates, where ``k`` is the sum of its ``topk`` largest overlaps,
    rounded down, and at least 1. A prediction that several targets took goes to the cheapest of all targets that it is
    a candidate of; to the first of them on ties.

    Args:
        problem: Of the call.
        topk: How many overlaps are added up.
    """

    def __init__(self, problem: Problem, topk: int) -> None:
        self.problem, self.topk = problem, topk
        shape = (problem.num_samples, problem.num_predictions)
        self.cheapest = BestTarget(*shape, problem.device, highest=False)
        # Number of takers in the upper half, sum of their targets in the lower; one slot more for pairs not taken.
        self.takers = torch.zeros(shape[0] * shape[1] + 1, dtype=torch.int64, device=problem.device)

    def see(self, pairs: Pairs, cost: Tensor, overlap: Tensor) -> None:
        """Take in a block of R targets.

        Args:
            pairs: The targets.
            cost: (R, P), not negative; +inf for predictions that are no candidates of the target. Overwritten.
            overlap: (R, P), the overlaps that are added up.
        """
        if not pairs.packed:
            cost.masked_fill_(~pairs.valid.unsqueeze(-1), torch.inf)
        self.cheapest.see_rows(cost, pairs.sample, pairs.target)
        count = min(self.topk, cost.shape[-1])
        k = (overlap.topk(count, -1).values.sum(-1, keepdim=True) + _ROUNDING).floor().clamp(min=1)
        value, index = smallest(cost, count, nonnegative=True)
        taken = (torch.arange(count, device=cost.device) < k) & (value < torch.inf)
        slot = pairs.sample.unsqueeze(-1) * self.problem.num_predictions + index
        slot = slot.masked_fill_(~taken, self.takers.numel() - 1).flatten()
        entry = (_ONE_TAKER + pairs.target).unsqueeze(-1).expand_as(index)
        self.takers.scatter_add_(0, slot, entry.flatten())

    def result(self) -> tuple[Tensor, Tensor]:
        """Target index and the IoU of its predicted box, (N, P) each."""
        takers = self.takers[:-1].view(self.problem.num_samples, self.problem.num_predictions)
        only = torch.where(takers >= _ONE_TAKER, takers % _ONE_TAKER, -1)
        target = torch.where(takers >= 2 * _ONE_TAKER, self.cheapest.result()[0], only)
        return target, self._overlap(target)

    def _overlap(self, target: Tensor) -> Tensor:
        boxes = self.problem.gt_boxes
        if not boxes.shape[1]:
            return torch.zeros_like(target, dtype=torch.float32)
        index = target.clamp(min=0).unsqueeze(-1).expand(-1, -1, 4)
        return iou(self.problem.need_boxes("this matcher"), boxes.gather(1, index)).nan_to_num(0)
