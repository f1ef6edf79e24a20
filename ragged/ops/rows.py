"""Reading and writing entries of a batched tensor at indices: the two kernels under all batched indexing.

Both are a few plain torch functions, so that they can be differentiated, traced and vectorised like any other torch
code. A custom autograd function that spares the backward pass its mask was up to a third faster on wide entries, but
the compiler cannot trace one that also knows its forward-mode derivative.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# From this many elements per entry on, entries are read as rows of a matrix; below, the fixed costs of that outweigh
# what it saves over a gather.
WIDE_ENTRY = 64


def take_rows(data: Tensor, index: Tensor, invalid: Tensor, filler_value: complex | bool, dim: int) -> Tensor:
    """``result[i, j] = data[i, index[i, j]]`` along ``dim``, or ``filler_value`` where ``invalid[i, j]``.

    Args:
        data: ``(*batch, …, N, …)``.
        index, invalid: ``(*batch, K)``; indices are in range, or 0 where not valid.
    """
    nb = index.dim() - 1
    if data.shape[dim] == 0:  # one entry to read from, so that all samples may be empty
        data = torch.cat([data, data.new_full((*data.shape[:dim], 1, *data.shape[dim + 1 :]), filler_value)], dim)
    if math.prod(data.shape[nb:dim]) * math.prod(data.shape[dim + 1 :]) >= WIDE_ENTRY:
        return _take_wide(data, index, invalid, filler_value, dim)
    aligned = (*index.shape[:-1], *(1,) * (dim - nb), index.shape[-1], *(1,) * (data.dim() - dim - 1))
    shape = (*data.shape[:dim], index.shape[-1], *data.shape[dim + 1 :])
    # In place: nobody else holds what was just read, and no gradient needs it. It must not be a view, which would cost
    # the backward pass a copy.
    return data.gather(dim, index.reshape(aligned).expand(shape)).masked_fill_(invalid.reshape(aligned), filler_value)


def _take_wide(data: Tensor, index: Tensor, invalid: Tensor, filler_value: complex | bool, dim: int) -> Tensor:
    nb = index.dim() - 1
    moved = data.movedim(dim, nb)
    rest = moved.shape[nb + 1 :]
    rows = moved.reshape(math.prod(moved.shape[: nb + 1]), *rest)
    taken = rows.index_select(0, _row_numbers(index, moved.shape[nb]))
    taken.masked_fill_(invalid.reshape(-1, *(1,) * len(rest)), filler_value)
    return taken.view(*index.shape, *rest).movedim(nb, dim)


def put_rows(data: Tensor, index: Tensor, valid: Tensor, source: Tensor, dim: int) -> Tensor:
    """A copy of ``data`` with ``result[i, index[i, j]] = source[i, j]`` along ``dim``, where ``valid[i, j]``.

    Args:
        data: ``(*batch, …, N, …)``.
        index, valid: ``(*batch, K)``; valid indices are in range and occur once in a sample.
        source: ``(*batch, …, K, …)``.
    """
    nb = index.dim() - 1
    moved, source = data.movedim(dim, nb), source.movedim(dim, nb)
    rest = moved.shape[nb + 1 :]
    num_rows = math.prod(moved.shape[: nb + 1])
    # What must not be written goes to a spare row behind the last, with its gradient.
    flat = torch.where(valid.reshape(-1), _row_numbers(index, moved.shape[nb]), num_rows)
    rows = torch.cat([moved.reshape(num_rows, *rest), moved.new_zeros(1, *rest)])
    written = rows.index_copy(0, flat, source.reshape(index.numel(), *rest))
    return written[:num_rows].reshape(moved.shape).movedim(nb, dim)


def _row_numbers(index: Tensor, size: int) -> Tensor:
    """Row numbers after merging the batch dimensions with an indexed dimension of ``size`` entries."""
    num_samples = math.prod(index.shape[:-1])
    first_rows = (
        torch.arange(0, num_samples * size, size, device=index.device) if size else index.new_zeros(num_samples)
    )
    return (index + first_rows.view(*index.shape[:-1], 1)).reshape(-1)
