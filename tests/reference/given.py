"""Matching around pairs that are known, and matching by key, of one image, in plain loops."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.optimize import linear_sum_assignment
from torch import Tensor


def hungarian_of_the_rest(
    cost: Tensor, given: Sequence[int], free: Sequence[bool], ignored: Sequence[bool]
) -> list[int]:
    """The target of each prediction, by costs (G, P): given ones, and the cheapest pairs of what is left."""
    index = [-2 if target >= 0 and ignored[target] else target for target in given]
    targets = [target for target in range(len(ignored)) if not ignored[target] and target not in given]
    predictions = [k for k, target in enumerate(index) if target == -1 and free[k]]
    if targets and predictions:
        rows, columns = linear_sum_assignment(cost[targets][:, predictions].double().numpy())
        for row, column in zip(rows, columns, strict=True):
            index[predictions[column]] = targets[row]
    return index


def by_key(targets: Sequence[int], queries: Sequence[int]) -> list[int]:
    """The target of each query that has its key."""
    return [targets.index(key) if key >= 0 and key in targets else -1 for key in queries]
