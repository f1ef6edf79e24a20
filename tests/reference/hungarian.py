"""One-to-one assignment of one image: by trying everything, and by SciPy with explicit penalties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from reference import boxes as box_reference
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Score = tuple[int, int, float]
"""Forbidden pairs, pairs of a cost that is not finite, total of all others: what is made small, in this order."""


def score(cost: Tensor, pairs: Sequence[tuple[int, int]], forbidden: Tensor | None = None) -> Score:
    """Of pairs (target, prediction)."""
    never = [forbidden is not None and bool(forbidden[pair]) for pair in pairs]
    values = [float(cost[pair]) for pair, bad in zip(pairs, never, strict=True) if not bad]
    return sum(never), sum(not math.isfinite(x) for x in values), math.fsum(x for x in values if math.isfinite(x))


def brute_force(cost: Tensor, forbidden: Tensor | None = None) -> Score:
    """The best score of all full assignments (n, P); small problems only."""
    count, width = cost.shape
    if count <= width:
        choices = (list(enumerate(p)) for p in itertools.permutations(range(width), count))
    else:
        choices = ([(g, p) for p, g in enumerate(g)] for g in itertools.permutations(range(count), width))
    return min(score(cost, pairs, forbidden) for pairs in choices)


def best_total(cost: Tensor) -> tuple[int, float]:
    """Fewest pairs of a cost that is not finite, and then the smallest total of the others."""
    table = cost.double().numpy()
    finite = np.isfinite(table)
    largest = np.abs(table[finite]).max(initial=0.0)
    penalty = (2 * largest + 1) * (min(table.shape) + 1)
    pairs = list(zip(*linear_sum_assignment(np.where(finite, table, penalty)), strict=True))
    found = score(cost, [(int(g), int(p)) for g, p in pairs])
    return found[1], found[2]


def best_gain(cost: Tensor, background_cost: float) -> float:
    """The smallest total of ``cost - background_cost`` of any one-to-one set of pairs."""
    table = cost.double().numpy() - background_cost
    table = np.where(np.isfinite(table), table, 0).clip(max=0)
    return float(table[linear_sum_assignment(table)].sum())


def in_ignored_region(boxes: Tensor, regions: Tensor, threshold: float) -> list[bool]:
    """For each predicted box, whether so much of its area is in one region."""
    inside = box_reference.table(box_reference.iof, boxes, regions)
    return [any(value >= threshold for value in row) for row in inside.tolist()]


def made_pairs(target_index: Tensor) -> list[tuple[int, int]]:
    """(target, prediction) of one image's row of an assignment."""
    return [(g, p) for p, g in enumerate(target_index.tolist()) if g >= 0]


def nothing(count: int) -> Tensor:
    """The assignment of ``count`` predictions of an image without targets."""
    return torch.full((count,), -1)
