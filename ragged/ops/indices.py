"""Checks of indices: they must be integers, in range."""

from __future__ import annotations

import torch
from torch import Tensor

from ragged.batch.layout import check_same_sizes
from ragged.batch.ragged_batch import RaggedBatch, check_is_data
from ragged.values.checks import STORED_INTEGER_DTYPES, check_values, sample_name
from ragged.values.readable import known_within, values_are_readable


def as_indices(indices: RaggedBatch | Tensor) -> RaggedBatch:
    """Check that ``indices`` holds one list of integers per sample; return it as an int64 RaggedBatch."""
    check_is_data(indices, "indices")
    if isinstance(indices, Tensor):
        if indices.dim() == 0:
            raise ValueError("indices must have shape (*batch, K), got a tensor without dimensions")
        indices = RaggedBatch.from_full_tensor(indices, num_batch_dims=indices.dim() - 1)
    if indices.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(f"indices must be integers, got {indices.dtype}")
    if indices.dim() != indices.num_batch_dims + 1:
        raise ValueError(
            f"indices must have shape (*batch, K), one list per sample; got {tuple(indices.shape)} "
            f"with {indices.num_batch_dims} batch dimensions"
        )
    return indices if indices.dtype == torch.int64 else indices.to_dtype(torch.int64)


def check_written_along(to_write: RaggedBatch | Tensor, into: RaggedBatch | Tensor, dim: int) -> None:
    """Raise ``ValueError`` if writing along ``dim`` would read filler of ``to_write`` as if it were valid."""
    if not isinstance(to_write, RaggedBatch) or to_write.non_uniform_dim == dim:
        return
    if isinstance(into, RaggedBatch) and into.non_uniform_dim == to_write.non_uniform_dim:
        check_same_sizes(to_write, into, what="the data to write and the data to write into")
        return
    own = f"ragged along dimension {into.non_uniform_dim}" if isinstance(into, RaggedBatch) else "a plain tensor"
    raise ValueError(
        f"the data to write must be ragged along dimension {dim}, got dimension {to_write.non_uniform_dim} of shape "
        f"{tuple(to_write.shape)}, to write into shape {tuple(into.shape)}, {own}: its filler would become data; "
        f"use get_non_uniform_dimension_transposed_to({dim}), or pass its .tensor with the filler set"
    )


def check_range(indices: RaggedBatch, limits: Tensor | int, *, what: str) -> Tensor:
    """Raise ``IndexError`` unless every valid index is in ``0 … limits - 1``; limits may be ``(*batch, 1)``.

    Returns:
        The indices, with some that are in range in the filler.
    """
    index = indices.tensor
    if known_within(index, 0, _smallest(limits) - 1):  # filler too, as usual
        return index
    invalid = ~indices.mask
    safe = index.masked_fill(invalid, 0)
    if isinstance(limits, int) and known_within(safe, 0, limits - 1):
        return safe

    def message(at: tuple[int, ...]) -> str:
        limit = int(limits[at[:-1]]) if isinstance(limits, Tensor) else limits
        return (
            f"{what}: index {int(index[at])} at position {at[-1]} of {sample_name(at[:-1])} "
            f"is out of range for size {limit}"
        )

    ok = ((index >= 0) & (index < limits)) | invalid
    check_values(ok, message, IndexError, summary=f"{what}: an index is out of range")
    return safe


def _smallest(limits: Tensor | int) -> int:
    """A limit that no sample is below, where the host can read it; else 0."""
    if isinstance(limits, int):
        return limits
    return int(limits.amin()) if limits.numel() and values_are_readable(limits) else 0
