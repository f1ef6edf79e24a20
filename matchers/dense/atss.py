"""Adaptive training sample selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.selection import BestTarget
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.nearest import Nearest
from matchers.dense.rule import Rule
from matchers.geometry.boxes import Coordinates
from matchers.geometry.overlaps import iou
from matchers.geometry.places import inside
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from ragged.values.checks import (
    check_count,
    check_is_sequence,
    check_not_negative,
    check_number,
    check_positive,
)
from ragged.values.once import of_constant


@dataclass(frozen=True, kw_only=True)
class ATSS(Rule):
    """Choose the IoU threshold of each target from the priors around it (Zhang et al., ATSS, 2020).

    Candidates of a target are the ``topk`` priors of each level whose centres are nearest to its own. The threshold is
    the mean of their IoUs plus their standard deviation. Its positives are the candidates whose IoU reaches the
    threshold and whose centre lies inside the target. A prior that several targets want goes to the one with the
    highest IoU, then to the first.

    A target may end up without any prior, by design; ``Assignment.describe`` tells.

    Args:
        topk: Candidates per level; all priors of a level that has fewer.
        min_center_margin: Distance in pixels to every side that a centre must exceed.
        ignore_iof: A prior without a target is ignored if at least this part of it lies in an ignored target;
            above 1, none is.
        max_pairwise_bytes: Limit in bytes for temporary memory of pairs, independent of the number of targets. Default:
            16 MiB on CPU, 1 GiB elsewhere. The result does not depend on it.

    >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0], [16.0, 0.0, 24.0, 8.0]])
    >>> target = {"boxes": torch.tensor([[1.0, 0.0, 9.0, 8.0]]), "labels": torch.tensor([0])}
    >>> ATSS()(None, [target], anchors).target_index
    tensor([[ 0, -1, -1]])
    """

    topk: int = 9
    min_center_margin: float = 0.01
    ignore_iof: float = 0.5
    max_pairwise_bytes: int | None = None

    def check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` if a parameter is out of range."""
        check_positive(self.topk, "topk")
        check_number(self.min_center_margin, "min_center_margin", low=None)
        check_not_negative(self.ignore_iof, "ignore_iof")

    def __call__(
        self,
        predictions: AnyPredictions | None,
        targets: Any,
        priors: Tensor | None = None,
        *,
        level_sizes: Sequence[int] | None = None,
    ) -> Assignment:
        """Assign a batch.

        Args:
            predictions: Only their shape is read; None if there are none.
            targets: Anything that ``Targets.of`` reads.
            priors: Anchors (P, 4) or (*batch, P, 4), xyxy in pixels.
            level_sizes: Number of priors of each feature level, in order; one level by default.

        Returns:
            An ``Assignment`` whose quality is the IoU of prior and target.
        """
        return self._assignment(predictions, targets, priors, level_sizes)

    def most_per_target(self, level_sizes: Sequence[int] | None = None) -> int:
        """``topk`` of each level."""
        return self.topk * len(level_sizes or [0])

    def choose(self, problem: Problem, level_sizes: Sequence[int] | None = None) -> Choice:
        """Candidates above the threshold of their target, and the IoU."""
        problem.need_priors("ATSS", "anchors (P, 4) or (*batch, P, 4), xyxy in pixels")
        sizes = checked_level_sizes(level_sizes, problem.num_predictions)
        best = BestTarget(problem.num_samples, problem.num_predictions, problem.device, highest=True)
        priors = of_constant(problem.prior_boxes, "with centers", lambda: _with_centers(problem.prior_boxes))
        nearest = Nearest(priors[5:], sizes, self.topk)
        for pairs, prediction in nearest.blocks(Pairs.of(problem)):
            own = priors[:, 0 if priors.shape[1] == 1 else pairs.sample.unsqueeze(-1), prediction]
            overlap = iou(Coordinates.of_stacked(own), pairs.gt)
            within = inside(own[5:], pairs.gt, margin=self.min_center_margin)
            positive = (overlap >= _threshold(overlap)) & within
            best.see_pairs(overlap, pairs.sample, pairs.target, prediction, positive & pairs.valid.unsqueeze(-1))
        target, overlap = best.result()
        return target, overlap, None

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``{"iou": 1 - IoU}``."""
        return {"iou": lambda pairs: 1 - iou(pairs.priors, pairs.gt)}


def checked_level_sizes(level_sizes: Sequence[int] | None, num_priors: int) -> list[int]:
    """``level_sizes`` as a list; a ``ValueError`` unless they add up to the number of priors."""
    if level_sizes is not None:
        check_is_sequence(level_sizes, "level_sizes", "integers")
    sizes = [num_priors] if level_sizes is None else list(level_sizes)
    for size in sizes:
        check_count(size, "each of level_sizes")
    if sum(sizes) != num_priors:
        raise ValueError(f"level_sizes {sizes} add up to {sum(sizes)}, but there are {num_priors} priors")
    return sizes


def _with_centers(boxes: Tensor) -> Tensor:
    """Stacked coordinates (5, …) of boxes, and x and y of their centres, (7, …)."""
    return torch.cat([boxes, (boxes[:2] + boxes[2:4]) / 2])


def _threshold(overlap: Tensor) -> Tensor:
    """Mean plus standard deviation of each row; a single candidate deviates from nothing."""
    count = max(overlap.shape[-1], 1)
    mean = overlap.sum(-1, keepdim=True) / count
    return mean + ((overlap - mean).square().sum(-1, keepdim=True) / max(count - 1, 1)).sqrt()
