"""The dynamic-k rule that SimOTA and RTMDet share: a target takes as many predictions as its overlaps add up to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.assignments.selection import BestTarget
from matchers.dense.as_operation import Choice
from matchers.geometry.overlaps import iou
from matchers.pairs.near import Nearby, candidates_of
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import Problem
from matchers.pairs.results import count_invalid
from ragged.values.once import known_range, known_row
from ragged.values.precision import wide
from ragged.values.ranking import smallest

# What replaces a cost that is not finite: more than any other, so that such a pair is the last resort.
_AVOIDED = 1e36
# Sums of IoUs that are this close below a whole number count as that number: they depend on the order of addition.
_ROUNDING = 1e-4
_ONE_TAKER = 1 << 32

CostOfPairs = Callable[[Pairs, Tensor], Tensor]
"""Costs (R, W) of pairs, given their overlaps."""


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
        # -1 and, of each taker, a number in the upper half and one more than its target in the lower.
        self.takers = torch.full((shape[0] * shape[1],), -1, device=problem.device)
        self.num_invalid: Tensor | None = None
        self.overlap: Tensor | None = None

    def take(self, targets: Nearby, cost_of: CostOfPairs, *, bound: float = math.inf) -> None:
        """Let all targets take what they want.

        Args:
            targets: Their candidates are the pairs near them.
            cost_of: Costs (R, W) of a block of targets, with its overlaps; not negative where finite.
            bound: Below what cost no candidate is missing, where the pairs were looked for. Images for which that does
                not do are computed with all candidates of the image.
        """
        if not targets.is_narrow:
            for pairs in targets.blocks():
                overlap, number, value = self._see(pairs, cost_of)
                self.overlap = overlap if pairs.is_whole else None
            return
        number = torch.cat([self._number(pairs, overlap_of(pairs)) for pairs in targets.rows.blocks()])
        settled = torch.zeros(len(number), dtype=torch.bool)
        for pairs in targets.blocks():
            _, own, value = self._see(pairs, cost_of, number[pairs.row])
            # Of fewer candidates than it may take, the last one is nowhere.
            last = (own.long() - 1).clamp(max=value.shape[-1])
            settled[pairs.row] = F.pad(value, (0, 1), value=torch.inf).gather(-1, last).squeeze(-1) < bound
        if bound < math.inf and not settled.all():
            self._take_again(targets.rows.sample[~settled], cost_of)

    def _take_again(self, images: Tensor, cost_of: CostOfPairs) -> None:
        """Forget what was taken in some images, and look at all their candidates."""
        again = torch.zeros(self.problem.num_samples, dtype=torch.bool)
        again[images] = True
        self.cheapest.forget(again)
        self.takers.view(self.candidates.shape)[again] = -1
        for pairs in Pairs.of(self.problem, self.problem.matchable & again.unsqueeze(-1)).blocks():
            self._see(replace(pairs, near=pairs.of_predictions(self.candidates)), cost_of)

    def _see(self, pairs: Pairs, cost_of: CostOfPairs, number: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Take in a block of R targets: their overlaps (R, W), how many they take (R, 1), and at which costs (R, K)."""
        overlap = overlap_of(pairs)
        cost = cost_of(pairs, overlap)
        invalid = count_invalid(cost, pairs, nonnegative=True)
        self.num_invalid = invalid if self.num_invalid is None else self.num_invalid + invalid
        if number is None:
            # A prediction that is avoided adds to no sum.
            number = self._number(pairs, torch.add(overlap, cost, alpha=0))
        assert pairs.near is not None
        cost = torch.where(pairs.near, cost.nan_to_num_(_AVOIDED, posinf=_AVOIDED), known_row((torch.inf,), cost))
        self._note_cheapest(pairs, cost)
        value, prediction = smallest(cost, self.topk, index=pairs.prediction, nonnegative=True)
        taken = (known_range(value.shape[-1] + 1, cost.device)[1:] <= number) & (value < torch.inf)
        slot = torch.add(prediction, pairs.sample.unsqueeze(-1), alpha=self.problem.num_predictions)
        entry = (pairs.target + (_ONE_TAKER + 1)).unsqueeze(-1) * taken
        self.takers.scatter_add_(0, slot.flatten(), entry.flatten())
        return overlap, number, value

    def _number(self, pairs: Pairs, overlap: Tensor) -> Tensor:
        """What the overlaps of each target add up to, (R, 1), at least 1. Overwrites the overlaps."""
        # torch is slower at multiplying by booleans.
        overlap.nan_to_num_(0).mul_(candidates_of(pairs, self.candidates).view(torch.uint8))
        highest = overlap.topk(min(self.topk, overlap.shape[-1]), -1).values
        return (highest.sum(-1, keepdim=True) + _ROUNDING).clamp(min=1)

    def _note_cheapest(self, pairs: Pairs, cost: Tensor) -> None:
        if pairs.prediction is None:
            self.cheapest.see_rows(cost, pairs)
        else:
            assert pairs.near is not None
            self.cheapest.see_pairs(cost, pairs.sample, pairs.target, pairs.prediction, pairs.near)

    def result(self) -> Choice:
        """Who got which prediction; the quality is the IoU of the predicted box."""
        takers = self.takers.view(self.problem.num_samples, self.problem.num_predictions)
        target = torch.where(takers >= 2 * _ONE_TAKER, self.cheapest.targets(), takers.fmod(_ONE_TAKER))
        return target, self._overlap(target), self.num_invalid

    def _overlap(self, target: Tensor) -> Tensor:
        boxes = self.problem.gt_boxes
        if not boxes.shape[1]:
            return torch.zeros_like(target, dtype=torch.float32)
        index = target.clamp(min=0)
        if self.overlap is not None:
            overlap = self.overlap.view(*boxes.shape[:2], -1).gather(1, index.unsqueeze(1)).squeeze(1)
        else:
            index = index.unsqueeze(-1).expand(-1, -1, 4)
            overlap = iou(self.problem.need_boxes("this matcher"), boxes.gather(1, index))
        return overlap.nan_to_num(0)


def overlap_of(pairs: Pairs) -> Tensor:
    """IoUs (R, P) of targets and predicted boxes."""
    return iou(pairs.predicted, pairs.gt)


def of_all_classes(rows: Pairs, function: Callable[..., Tensor], logits: Tensor, *others: Tensor | None) -> Tensor:
    """``function(logits, *others)``, (N, P); zeros where it is known that there is no target to ask for it."""
    if rows.packed and not len(rows):
        return wide(logits.new_zeros(logits.shape[:2]))
    return function(logits, *others)


def overlap_cost(overlap: Tensor, weight: float) -> Tensor:
    """``-weight log(overlap)``; never below 0, though an IoU of 1 and a little has a logarithm above."""
    return (overlap + 1e-7).log_().mul_(-weight).clamp_(min=0)
