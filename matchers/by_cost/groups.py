"""Images with about as many targets, to be matched together: all at once, they are padded to the most crowded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment, Plan
from matchers.pairs.problem import Problem
from ragged.values.once import known_range
from ragged.values.readable import values_are_readable

# Results must not depend on max_pairwise_bytes, and sums over another number of targets are rounded differently.
_PAIRS = 1 << 18


class Group(NamedTuple):
    """Some images (n,), and how many targets they have at most."""

    images: Tensor
    most: int


def groups_of(problem: Problem) -> list[Group]:
    """All images, the most crowded ones first, as many in a group as have about 260,000 pairs.

    They are one group if there are no more pairs than that, and where the host cannot read sizes.
    """
    everything = [Group(known_range(problem.num_samples, problem.device), problem.max_num_targets)]
    pairs = problem.num_samples * problem.max_num_targets * problem.num_predictions
    if pairs <= _PAIRS or not values_are_readable(problem.num_targets):
        return everything
    sizes, order = problem.num_targets.sort(descending=True, stable=True)
    groups = []
    while len(order):
        most = int(sizes[0])
        count = max(_PAIRS // max(most * problem.num_predictions, 1), 1)
        groups.append(Group(order[:count], most))
        sizes, order = sizes[count:], order[count:]
    return groups if len(groups) > 1 else everything


def joined(problem: Problem, groups: Sequence[Group], parts: Sequence[Plan | Assignment]) -> Plan | Assignment:
    """The results of groups as one, with the images in order and the batch dimensions of the problem."""
    places = torch.cat([group.images for group in groups]).argsort()

    def merged(values: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(values))[places]

    num_invalid = merged([part.num_invalid for part in parts])
    assignments = [part for part in parts if isinstance(part, Assignment)]
    if assignments:
        targets, quality = (merged([getattr(part, name) for part in parts]) for name in ("target_index", "quality"))
        return problem.assignment(targets, quality=quality, num_invalid=num_invalid)
    plans = [part for part in parts if isinstance(part, Plan)]
    weights = plans[0].weights.tensor.new_zeros(problem.num_samples, problem.num_predictions, problem.max_num_targets)
    for (images, most), plan in zip(groups, plans, strict=True):
        weights[..., :most].index_copy_(0, images, plan.weights.tensor)
    residuals = [plan.residual for plan in plans if plan.residual is not None]
    background = merged([plan.background for plan in plans])
    return problem.plan(weights, background, num_invalid, merged(residuals) if residuals else None)
