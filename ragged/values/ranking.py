"""Ranking values with ties broken towards the lowest index.

torch leaves open which of several equal values ``topk`` finds, and the answer differs between devices. Here values and
indices are merged into one integer key, the value in the upper half, so that no two are equal.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from ragged.values.once import known_range

INDEX_BITS = 32
INDEX_MASK = (1 << INDEX_BITS) - 1
_ANY_SIGN = 0x7FFFFFFF
_LOWER = 0 if sys.byteorder == "little" else 1


def sortable(values: Tensor, *, nonnegative: bool = False) -> Tensor:
    """Integers that sort as ``values`` do, with room for an index in the lower half.

    Args:
        values: Float tensor without NaN; compared in float32.
        nonnegative: Promises that no value is below 0, nor -0, which is faster.
    """
    key = _ordered(values, nonnegative).long()
    key <<= INDEX_BITS
    return key


def _ordered(values: Tensor, nonnegative: bool) -> Tensor:
    """Integers that sort as ``values`` do, int32."""
    if nonnegative:
        return values.float().view(torch.int32)
    # Adding zero makes a copy, and turns -0 into 0, which it is equal to.
    bits = (values.float() + 0.0).view(torch.int32)
    # The bits of floats of the same sign sort as integers do, those of negative ones the other way round.
    bits ^= (bits >> 31).bitwise_and_(_ANY_SIGN)
    return bits


def keys(values: Tensor, index: Tensor, *, nonnegative: bool = False, falling: bool = False) -> Tensor:
    """Integers that sort as ``(values, index)`` do; ``index`` is int64, from 0 to 2³² - 1, and broadcasts.

    Args:
        values: As for ``sortable``.
        index: What breaks ties.
        nonnegative: As in ``sortable``.
        falling: The highest value comes first; of equal ones the lowest index still does.
    """
    ordered = _ordered(values, nonnegative)
    if ordered.device.type != "cpu":
        return torch.add(index, ordered, alpha=-(1 << INDEX_BITS) if falling else 1 << INDEX_BITS)
    key = (-ordered if falling else ordered).long()  # a CPU is slow at multiplying integers of 64 bits
    key <<= INDEX_BITS
    key |= index
    return key


def index_of(key: Tensor) -> Tensor:
    """The index that a key was made with."""
    return key & INDEX_MASK


def signed_index_of(key: Tensor) -> Tensor:
    """``index_of`` where it is below 2³¹; -1 of a key whose lower half is all ones. Of contiguous keys."""
    return _halves(key)[..., _LOWER].long()


def value_of(key: Tensor, *, nonnegative: bool = False, falling: bool = False) -> Tensor:
    """The value that a key was made with, float32; arguments as in ``keys``. Of contiguous keys."""
    ordered = _halves(key)[..., 1 - _LOWER]
    if falling:
        ordered = -ordered
    if not nonnegative:
        ordered = ordered ^ ((ordered >> 31) & _ANY_SIGN)
    return ordered.view(torch.float32)


def _halves(key: Tensor) -> Tensor:
    """Both halves of keys, int32, in the last dimension; a view."""
    return key.view(torch.int32).unflatten(-1, (key.shape[-1], 2))


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
    index = known_range(values.shape[-1], values.device) if index is None else index
    found = _first(keys(values, index, nonnegative=nonnegative), count)
    return value_of(found, nonnegative=nonnegative), index_of(found)


def largest(values: Tensor, count: int, *, nonnegative: bool = False) -> tuple[Tensor, Tensor]:
    """The ``count`` largest in descending order, and their indices; otherwise as ``smallest``.

    >>> largest(torch.tensor([2.0, 1.0, 2.0]), 2)
    (tensor([2., 2.]), tensor([0, 2]))
    """
    index = known_range(values.shape[-1], values.device)
    found = _first(keys(values, index, nonnegative=nonnegative, falling=True), count)
    return value_of(found, nonnegative=nonnegative, falling=True), index_of(found)


def _first(key: Tensor, count: int) -> Tensor:
    return key.topk(min(count, key.shape[-1]), dim=-1, largest=False).values


def prefer_first(sorting: Tensor, index: Tensor) -> Tensor:
    """Keys whose maximum is the first of the highest values; from ``sortable`` values."""
    return sorting | (INDEX_MASK - index)
