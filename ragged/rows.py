"""Reading and writing rows of a batched tensor at indices: the two kernels under all batched indexing.

Batch dimensions are merged, so that one row index says both sample and entry, and one spare row behind the last takes
what must have no effect. That makes both kernels a single ``index_select``, ``index_add`` or ``index_copy``, with
nothing to mask afterwards but the filler itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def take_rows(data: Tensor, index: Tensor, valid: Tensor, filler_value: complex | bool, dim: int) -> Tensor:
    """``result[i, j] = data[i, index[i, j]]`` along ``dim``, or ``filler_value`` where not ``valid[i, j]``.

    Args:
        data: ``(*batch, …, N, …)``.
        index, valid: ``(*batch, K)``; indices are in range where valid.
    """
    nb = index.dim() - 1
    moved = data.movedim(dim, nb)
    if moved.shape[nb] == 0:  # one entry to read from, so that all samples may be empty
        moved = torch.cat([moved, moved.new_full((*moved.shape[:nb], 1, *moved.shape[nb + 1 :]), filler_value)], nb)
    rest = moved.shape[nb + 1 :]
    rows = moved.reshape(math.prod(moved.shape[: nb + 1]), *rest)
    flat = _flat_index(index.masked_fill(~valid, 0), moved.shape[nb])
    taken = _TakeRows.apply(rows, flat, ~valid.reshape(-1), filler_value)
    return taken.reshape(*index.shape, *rest).movedim(nb, dim)


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
    rows = moved.reshape(num_rows, *rest)
    flat = torch.where(valid.reshape(-1), _flat_index(index, moved.shape[nb]), num_rows)
    spare = rows.new_zeros(1, *rest)
    written = torch.cat([rows, spare]).index_copy(0, flat, source.reshape(index.numel(), *rest))
    return written[:num_rows].reshape(moved.shape).movedim(nb, dim)


def add_rows(num_rows: int, index: Tensor, source: Tensor) -> Tensor:
    """Sum the rows of ``source`` into ``num_rows`` rows, at ``index``; index ``num_rows`` is dropped."""
    return source.new_zeros(num_rows + 1, *source.shape[1:]).index_add_(0, index, source)[:num_rows]


def _flat_index(index: Tensor, size: int) -> Tensor:
    """Row numbers after merging the batch dimensions with an indexed dimension of ``size`` entries."""
    num_samples = math.prod(index.shape[:-1])
    if num_samples == 1:
        return index.reshape(-1)
    first_rows = torch.arange(num_samples, device=index.device) * size
    return (index.reshape(num_samples, -1) + first_rows.unsqueeze(-1)).reshape(-1)


class _TakeRows(torch.autograd.Function):
    """``index_select`` with filler. Its backward sends the filler's gradient to a spare row instead of masking it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, index: Tensor, invalid: Tensor, filler_value: complex | bool) -> Tensor:
        taken = rows.index_select(0, index)
        return taken.masked_fill_(invalid.reshape(-1, *(1,) * (rows.dim() - 1)), filler_value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        rows, index, invalid, _ = inputs
        ctx.num_rows = rows.shape[0]
        ctx.save_for_backward(index, invalid)
        ctx.save_for_forward(index, invalid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        index, invalid = ctx.saved_tensors
        return add_rows(ctx.num_rows, index.masked_fill(invalid, ctx.num_rows), gradient), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        index, invalid = ctx.saved_tensors
        return _TakeRows.apply(tangent, index, invalid, 0)
