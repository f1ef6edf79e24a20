"""Reading and writing entries of a batched tensor at indices: the two kernels under all batched indexing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

# From this many elements per entry on, whole rows are copied; below, the fixed costs of that outweigh what it saves.
# Measured forward and backward on CPU: at 256 elements rows take half the time, at 64 as long, at 4 twice as long.
WIDE_ROW = 64


def take_rows(data: Tensor, index: Tensor, valid: Tensor, filler_value: complex | bool, dim: int) -> Tensor:
    """``result[i, j] = data[i, index[i, j]]`` along ``dim``, or ``filler_value`` where not ``valid[i, j]``.

    Args:
        data: ``(*batch, …, N, …)``.
        index, valid: ``(*batch, K)``; indices are in range where valid.
    """
    nb = index.dim() - 1
    if data.shape[dim] == 0:  # one entry to read from, so that all samples may be empty
        data = torch.cat([data, data.new_full((*data.shape[:dim], 1, *data.shape[dim + 1 :]), filler_value)], dim)
    invalid = ~valid
    safe = index.masked_fill(invalid, 0)
    if math.prod(data.shape[nb:dim]) * math.prod(data.shape[dim + 1 :]) >= WIDE_ROW:
        return _take_wide(data, safe, invalid, filler_value, dim)
    aligned = (*index.shape[:-1], *(1,) * (dim - nb), index.shape[-1], *(1,) * (data.dim() - dim - 1))
    shape = (*data.shape[:dim], index.shape[-1], *data.shape[dim + 1 :])
    taken = data.gather(dim, safe.view(aligned).expand(shape))
    # In place: this is the only holder of what was just read, and the gradient does not need its values.
    return taken.masked_fill_(invalid.view(aligned), filler_value)


def _take_wide(data: Tensor, safe: Tensor, invalid: Tensor, filler_value: complex | bool, dim: int) -> Tensor:
    nb = safe.dim() - 1
    moved = data.movedim(dim, nb)
    size, rest = moved.shape[nb], moved.shape[nb + 1 :]
    rows = moved.reshape(math.prod(moved.shape[: nb + 1]), *rest)
    taken = _TakeRows.apply(rows, _row_numbers(safe, size), invalid.reshape(-1), filler_value)
    return taken.view(*safe.shape, *rest).movedim(nb, dim)


class _TakeRows(torch.autograd.Function):
    """``index_select`` with filler. Its backward sends the gradient of filler to a spare row instead of masking it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, index: Tensor, invalid: Tensor, filler_value: complex | bool) -> Tensor:
        taken = rows.index_select(0, index)
        return taken.masked_fill_(invalid.view(-1, *(1,) * (rows.dim() - 1)), filler_value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, index, invalid, _ = inputs
        ctx.num_rows = rows.shape[0]
        ctx.save_for_backward(index, invalid)
        ctx.save_for_forward(index, invalid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        index, invalid = ctx.saved_tensors
        spared = index.masked_fill(invalid, ctx.num_rows)
        # Zeros made from the gradient: under vmap they are batched like it, and may be added to in place.
        rows = gradient.new_zeros(ctx.num_rows + 1, *gradient.shape[1:]).index_add_(0, spared, gradient)
        return rows[: ctx.num_rows], None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        index, invalid = ctx.saved_tensors
        return _TakeRows.apply(tangent, index, invalid, 0)


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
    return (index + first_rows.view(*index.shape[:-1], 1)).view(-1)
