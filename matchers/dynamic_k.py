"""The dynamic-k rule that SimOTA and RTMDet share: a target takes as many predictions as its overlaps add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from matchers.assignment import Assignment
from matchers.boxes import iou
from matchers.cost_matcher import count_invalid
from matchers.ignored import in_ignored_region, mark_ignored, point_in_region
from matchers.pairs import Pairs
from matchers.problem import Problem
from matchers.selection import BestTarget, reduce_rows_, smallest
from ragged.precision import wide

# What replaces a cost that is not finite: more than any other, so that such a pair is the last resort.
_AVOIDED = 1e36
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
        candidates: (N, P), bool: predictions whose overlaps are added up.
    """

    def __init__(self, problem: Problem, topk: int, candidates: Tensor) -> None:
        self.problem, self.topk, self.candidates = problem, topk, candidates
        shape = (problem.num_samples, problem.num_predictions)
        self.cheapest = BestTarget(*shape, problem.device, highest=False)
        # Number of takers in the upper half, sum of their targets in the lower; one slot more for pairs not taken.
        self.takers = torch.zeros(shape[0] * shape[1] + 1, dtype=torch.int64, device=problem.device)
        self.num_invalid = torch.zeros_like(problem.num_targets)

    def see(self, pairs: Pairs, cost: Tensor, overlap: Tensor, region: Tensor | None = None) -> None:
        """Take in a block of R targets.

        Args:
            pairs: The targets.
            cost: (R, P), not negative where finite. Overwritten.
            overlap: (R, P). Overwritten.
            region: (R, P), bool: which predictions are candidates of the target. By default, those that are
                ``candidates`` of the image.
        """
        self.num_invalid += count_invalid(cost, pairs)
        overlap.add_(cost, alpha=0)  # a prediction that is avoided adds to no sum
        candidates = pairs.of_sample(self.candidates)
        overlap.nan_to_num_(0).mul_(candidates.view(torch.uint8))  # torch is slower at multiplying by booleans
        allowed = candidates if region is None else region
        if not pairs.packed:
            allowed = allowed & pairs.valid.unsqueeze(-1)
        cost.nan_to_num_(_AVOIDED, posinf=_AVOIDED).masked_fill_(~allowed, torch.inf)
        self.cheapest.see_rows(cost, pairs.sample, pairs.target)
        count = min(self.topk, cost.shape[-1])
        k = (overlap.topk(count, -1).values.sum(-1, keepdim=True) + _ROUNDING).floor().clamp(min=1)
        value, index = smallest(cost, count, nonnegative=True)
        taken = (torch.arange(count, device=cost.device) < k) & (value < torch.inf)
        slot = pairs.sample.unsqueeze(-1) * self.problem.num_predictions + index
        slot = slot.masked_fill_(~taken, self.takers.numel() - 1).flatten()
        entry = (_ONE_TAKER + pairs.target).unsqueeze(-1).expand_as(index)
        self.takers.scatter_add_(0, slot, entry.flatten())

    def assignment(self, points: Tensor) -> Assignment:
        """The result, whose quality is the IoU of the predicted box; ``points`` (P, ≥ 2) may lie in ignored regions."""
        takers = self.takers[:-1].view(self.problem.num_samples, self.problem.num_predictions)
        only = torch.where(takers >= _ONE_TAKER, takers % _ONE_TAKER, -1)
        target = torch.where(takers >= 2 * _ONE_TAKER, self.cheapest.result()[0], only)
        region = in_ignored_region(self.problem, point_in_region(points[:, :2]))
        return self.problem.assignment(
            mark_ignored(target, region), quality=self._overlap(target), num_invalid=self.num_invalid
        )

    def _overlap(self, target: Tensor) -> Tensor:
        boxes = self.problem.gt_boxes
        if not boxes.shape[1]:
            return torch.zeros_like(target, dtype=torch.float32)
        index = target.clamp(min=0).unsqueeze(-1).expand(-1, -1, 4)
        return iou(self.problem.need_boxes("this matcher"), boxes.gather(1, index)).nan_to_num(0)


def in_any_region(rows: Pairs, regions: Iterable[Tensor]) -> Tensor:
    """(N, P), bool: predictions that are candidates of any target of their image.

    Args:
        rows: The targets.
        regions: (R, P), bool, for each of their blocks: which predictions are candidates of a target.
    """
    problem = rows.problem
    found = torch.zeros(problem.num_samples, problem.num_predictions, dtype=torch.uint8, device=problem.device)
    for pairs, region in zip(rows.blocks(), regions, strict=True):
        counts = region if pairs.packed else region & pairs.valid.unsqueeze(-1)
        reduce_rows_(found, pairs.sample, counts.view(torch.uint8), "amax")
    return found.view(torch.bool)


def of_all_classes(rows: Pairs, function: Callable[..., Tensor], logits: Tensor, *others: Tensor | None) -> Tensor:
    """``function(logits, *others)``, (N, P); zeros where it is known that there is no target to ask for it."""
    if rows.packed and not len(rows):
        return wide(logits.new_zeros(logits.shape[:2]))
    return function(logits, *others)


def overlap_cost(overlap: Tensor, weight: float) -> Tensor:
    """``-weight log(overlap)``; never below 0, though an IoU of 1 and a little has a logarithm above."""
    return (overlap + 1e-7).log_().mul_(-weight).clamp_(min=0)
