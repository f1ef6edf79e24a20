"""Predictions that lie in an ignored region: if they have no target, they are neither positive nor negative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.geometry.overlaps import iof
from matchers.geometry.places import inside
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import Problem

PairTest = Callable[[Pairs], Tensor]


def predicted_box_in_region(threshold: float) -> PairTest:
    """Whether at least ``threshold`` of the predicted box's area lies in the region."""
    return lambda pairs: iof(pairs.predicted, pairs.gt) >= threshold


def prior_box_in_region(threshold: float) -> PairTest:
    """Whether at least ``threshold`` of the prior's area lies in the region."""
    return lambda pairs: (iof(pairs.priors, pairs.gt) >= threshold).expand(len(pairs), -1)


def point_in_region(points: Tensor) -> PairTest:
    """Whether the points (P, 2) or (N, P, 2) lie in the region."""

    def test(pairs: Pairs) -> Tensor:
        own = pairs.of_sample(points) if points.dim() == 3 else points.unsqueeze(0)
        return inside(own.movedim(-1, 0), pairs.gt)

    return test


def in_ignored_region(problem: Problem, test: PairTest) -> Tensor | None:
    """(N, P), true for predictions that pass the test with an ignored target; None if targets know no ignore flag."""
    if problem.ignored is None:
        return None
    found = None
    for pairs in Pairs.of(problem, problem.ignored).blocks():
        hits = test(pairs) & pairs.valid.unsqueeze(-1)
        found = pairs.over_targets(hits.view(torch.uint8), "amax", into=found)
    assert found is not None
    return found.view(torch.bool)


def mark_ignored(target_index: Tensor, region: Tensor | None) -> Tensor:
    """Turn background into ignored where ``region`` (N, P) is true."""
    if region is None:
        return target_index
    return torch.where(region & (target_index == BACKGROUND), IGNORED, target_index)
