"""Sums over all classes of functions of logits, block by block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ragged.values.memory import is_transposed
from ragged.values.precision import wide
from ragged.values.readable import values_are_readable

_BLOCK_BYTES = 1 << 22


def sum_over_classes(function: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """Sums over the classes of ``function(logits, *others)``, of logits (…, C) and others (…); float32 at least.

    The function is called for blocks that fit the cache, laid out as in memory.
    """
    if not values_are_readable(logits):
        return function(wide(logits), *(wide(other).unsqueeze(-1) for other in others)).sum(-1)
    shape, classes = logits.shape[:-1], logits.shape[-1]
    if logits.dim() > 2 and is_transposed(logits):
        table, along, dim = logits.mT.reshape(-1, classes, shape[-1]), 2, 1
    else:
        table, along, dim = logits.reshape(1, -1, classes), 1, 2
    size = [len(table), table.shape[along]]
    tables = (table, *(other.reshape(size).unsqueeze(dim) for other in others))
    sums = table.new_empty(size, dtype=wide(table).dtype)
    rows, columns = _block_size(table, along)
    for row in range(0, size[0], rows):
        for start in range(0, size[1], columns):
            length = min(columns, size[1] - start)
            # torch is several times slower at functions of what is not contiguous.
            blocks = (wide(each[row : row + rows].narrow(along, start, length)).contiguous() for each in tables)
            sums[row : row + rows, start : start + length] = _sum_classes(function(*blocks), dim)
    return sums.view(shape)


def _sum_classes(values: Tensor, dim: int) -> Tensor:
    if dim == 2 or not values_are_readable(values):
        return values.sum(dim)
    # torch adds up the last few columns in another order. Here, half is added to half until one is left, in place.
    while (count := values.shape[1]) > 1:
        kept = (count + 1) // 2
        values[:, : count - kept].add_(values[:, kept:])
        values = values[:, :kept]
    return values.sum(1) if values.shape[1] == 0 else values[:, 0]


def _block_size(table: Tensor, along: int) -> tuple[int, int]:
    """Length of blocks in the first dimension and in another one."""
    length = max(table.shape[along], 1)
    if not values_are_readable(table):
        return max(len(table), 1), length
    entry = 4 * max(table[:1].numel() // length, 1)
    columns = max(1, _BLOCK_BYTES // entry)
    return max(1, columns // length), min(columns, length)
