"""Choosing the best pairs, with ties broken towards the lowest index.

torch leaves open which of several equal values ``topk`` finds, and the answer differs between devices. Here values and
indices are merged into one integer key, the value in the upper half, so that no two are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

_INDEX_BITS = 32
_INDEX_MASK = (1 << _INDEX_BITS) - 1
NO_KEY = torch.iinfo(torch.int64).max
"""Larger than every key."""


def keys(values: Tensor, index: Tensor) -> Tensor:
    """Integers that sort as ``(values, index)`` do.

    Args:
        values: Float tensor without NaN; compared in float32.
        index: int64, from 0 to 2³¹ - 1; broadcasts against ``values``.
    """
    # Adding zero turns -0 into 0, which it is equal to.
    bits = (values.float() + 0.0).view(torch.int32)
    # The bits of floats of the same sign sort as integers do, those of negative ones the other way round.
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << _INDEX_BITS) | index


def index_of(key: Tensor) -> Tensor:
    """The index that a key was made with."""
    return key & _INDEX_MASK


def value_of(key: Tensor) -> Tensor:
    """The value that a key was made with, float32."""
    ordered = (key >> _INDEX_BITS).to(torch.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)


def smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` smallest of the last dimension in ascending order, and their indices; fewer if it is shorter.

    Args:
        values: ``(…, P)``, float, without NaN.
        count: How many.

    Returns:
        Values, float32, and indices, int64, each ``(…, min(count, P))``.

    >>> smallest(torch.tensor([2.0, 1.0, 1.0]), 2)
    (tensor([1., 1.]), tensor([1, 2]))
    """
    index = torch.arange(values.shape[-1], device=values.device)
    found = keys(values, index).topk(min(count, values.shape[-1]), dim=-1, largest=False).values
    return value_of(found), index_of(found)


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest in descending order, and their indices; otherwise as ``smallest``.

    >>> largest(torch.tensor([2.0, 1.0, 2.0]), 2)
    (tensor([2., 2.]), tensor([0, 2]))
    """
    found, index = smallest(-values, count)
    return -found, index


class Cheapest:
    """For each prediction, the cheapest of the rows seen so far; the lowest target on ties.

    Args:
        num_samples: N.
        num_predictions: P.
        device: Of the costs.
    """

    def __init__(self, num_samples: int, num_predictions: int, device: torch.device) -> None:
        self.num_predictions = num_predictions
        # One slot more, for pairs that do not count.
        self.key = torch.full((num_samples * num_predictions + 1,), NO_KEY, device=device)

    def see_rows(self, cost: Tensor, sample: Tensor, target: Tensor, counts: Tensor | None = None) -> None:
        """Take in costs (R, P) of rows of ``sample`` (R,) and ``target`` (R,), where ``counts`` (R, P) is true."""
        key = keys(cost, target.unsqueeze(-1))
        if counts is not None:
            key.masked_fill_(~counts, NO_KEY)
        table = self.key[:-1].view(-1, self.num_predictions)
        table.index_reduce_(0, sample, key, "amin")

    def see_pairs(self, cost: Tensor, sample: Tensor, target: Tensor, index: Tensor, counts: Tensor) -> None:
        """Take in single pairs: costs (R, K) with the predictions ``index`` (R, K), where ``counts`` (R, K) is true."""
        slot = (sample.unsqueeze(-1) * self.num_predictions + index).masked_fill(~counts, self.key.numel() - 1)
        self.key.scatter_reduce_(0, slot.flatten(), keys(cost, target.unsqueeze(-1)).flatten(), "amin")

    def result(self) -> tuple[Tensor, Tensor]:
        """Target (N, P), -1 where no pair was seen, and its cost, +inf there."""
        key = self.key[:-1].view(-1, self.num_predictions)
        none = key == NO_KEY
        return index_of(key).masked_fill(none, -1), value_of(key).masked_fill(none, torch.inf)
