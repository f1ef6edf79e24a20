"""Ranking values with ties broken towards the lowest index.

torch leaves open which of several equal values ``topk`` finds, and the answer differs between devices. Here values and
indices are merged into one integer key, the value in the upper half, so that no two are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

INDEX_BITS = 32
INDEX_MASK = (1 << INDEX_BITS) - 1
_ANY_SIGN = 0x7FFFFFFF


def sortable(values: Tensor, *, nonnegative: bool = False) -> Tensor:
    """Integers that sort as ``values`` do, with room for an index in the lower half.

    Args:
        values: Float tensor without NaN; compared in float32.
        nonnegative: Promises that no value is below 0, nor -0, which is faster.
    """
    if nonnegative:
        key = values.float().view(torch.int32).to(torch.int64)
    else:
        # Adding zero makes a copy, and turns -0 into 0, which it is equal to.
        bits = (values.float() + 0.0).view(torch.int32)
        # The bits of floats of the same sign sort as integers do, those of negative ones the other way round.
        bits ^= (bits >> 31).bitwise_and_(_ANY_SIGN)
        key = bits.to(torch.int64)
    key <<= INDEX_BITS
    return key


def keys(values: Tensor, index: Tensor, *, nonnegative: bool = False) -> Tensor:
    """Integers that sort as ``(values, index)`` do; ``index`` is int64, from 0 to 2³² - 1, and broadcasts."""
    key = sortable(values, nonnegative=nonnegative)
    key |= index
    return key


def key_of(values: Tensor, index: Tensor) -> Tensor:
    """``keys`` in one operation, of values that are not negative, nor -0. The keys of others are below all these."""
    return torch.add(index, values.float().view(torch.int32), alpha=1 << INDEX_BITS)


def index_of(key: Tensor) -> Tensor:
    """The index that a key was made with."""
    return key & INDEX_MASK


def value_of(key: Tensor, *, nonnegative: bool = False) -> Tensor:
    """The value that a key was made with, float32; not below 0 if it is promised, as in ``sortable``."""
    ordered = (key >> INDEX_BITS).to(torch.int32)
    if nonnegative:
        return ordered.view(torch.float32)
    return (ordered ^ ((ordered >> 31) & _ANY_SIGN)).view(torch.float32)


def smallest(
    values: Tensor, count: int, *, index: Tensor | None = None, nonnegative: bool = False
) -> tuple[Tensor, Tensor]:
    """The ``count`` smallest of the last dimension in ascending order, and their indices; fewer if it is shorter.

    Args:
        values: ``(…, P)``, float, without NaN.
        count: How many.
        index: ``(…, P)``, what to take as the index; the position if not given.
        nonnegative: As in ``keys``.

    Returns:
        Values, float32, and indices, int64, each ``(…, min(count, P))``.

    >>> smallest(torch.tensor([2.0, 1.0, 1.0]), 2)
    (tensor([1., 1.]), tensor([1, 2]))
    """
    index = torch.arange(values.shape[-1], device=values.device) if index is None else index
    key = keys(values, index, nonnegative=nonnegative)
    found = key.topk(min(count, values.shape[-1]), dim=-1, largest=False).values
    return value_of(found, nonnegative=nonnegative), index_of(found)


def largest(values: Tensor, count: int, *, nonnegative: bool = False) -> tuple[Tensor, Tensor]:
    """The ``count`` largest in descending order, and their indices; otherwise as ``smallest``.

    >>> largest(torch.tensor([2.0, 1.0, 2.0]), 2)
    (tensor([2., 2.]), tensor([0, 2]))
    """
    index = INDEX_MASK - torch.arange(values.shape[-1], device=values.device)
    key = keys(values, index, nonnegative=nonnegative)  # as prefer_first has it, but in place
    return decoded(key.topk(min(count, values.shape[-1]), dim=-1).values, nonnegative=nonnegative)


def prefer_first(sorting: Tensor, index: Tensor) -> Tensor:
    """Keys whose maximum is the first of the highest values; from ``sortable`` values. See ``decoded``."""
    return sorting | (INDEX_MASK - index)


def decoded(key: Tensor, *, nonnegative: bool = False) -> tuple[Tensor, Tensor]:
    """Value and index of keys that ``prefer_first`` made."""
    return value_of(key, nonnegative=nonnegative), INDEX_MASK - index_of(key)
