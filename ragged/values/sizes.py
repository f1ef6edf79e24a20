"""Sample sizes and masks: how one is made from the other, and what makes them valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ragged.values.checks import (
    STORED_INTEGER_DTYPES,
    check_has_values,
    check_is_tensor,
    check_same_device,
    check_values,
    sample_name,
)
from ragged.values.readable import known_within


def prefix_mask(sample_sizes: Tensor, max_size: int) -> Tensor:
    """Mask ``(*batch, max_size)`` that is true for the first ``sample_sizes`` entries of each sample."""
    return torch.arange(max_size, device=sample_sizes.device) < sample_sizes.unsqueeze(-1)


def numbers_on(device: torch.device, numbers: Any, dtype: torch.dtype = torch.int64) -> Tensor:
    """Numbers as a tensor on a device; the host does not wait for their copy.

    Args:
        device: Where they are to be.
        numbers: A list, an array, or a tensor on any device.
        dtype: Of the result.
    """
    if isinstance(numbers, Tensor) and numbers.device == device:
        return numbers.to(dtype)
    if device.type == "cpu" or torch.compiler.is_compiling():
        return torch.as_tensor(numbers, dtype=dtype, device=device)
    values = numbers if isinstance(numbers, Tensor) else torch.as_tensor(numbers, dtype=dtype, device="cpu")
    if device.type == "cuda" and values.device.type == "cpu":
        # A buffer of its own, which nobody else writes to before the copy is made.
        values = torch.empty(values.shape, dtype=dtype, pin_memory=True).copy_(values)
    return values.to(device, dtype, non_blocking=True)


def validated_sizes(sample_sizes: Tensor | Sequence[Any], device: torch.device) -> Tensor:
    """Return ``sample_sizes`` as an int64 tensor; a list is moved to ``device``."""
    if isinstance(sample_sizes, Tensor):
        check_is_tensor(sample_sizes, "sample_sizes")
        sizes = sample_sizes
    else:
        try:
            sizes = torch.as_tensor(sample_sizes)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"sample_sizes must be a tensor or a (nested) list of integers: {error}") from None
        if sizes.numel() == 0:  # an empty list has no integer to tell its dtype by
            sizes = sizes.to(torch.int64)
        sizes = sizes.to(device)
    if sizes.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(f"sample_sizes must be integers, got {sizes.dtype}")
    return sizes.to(torch.int64)


def largest_size(sample_sizes: Tensor) -> int:
    """The largest size, 0 without samples. Read on the host."""
    check_has_values(sample_sizes, "to find the largest size without max_size")
    return max(int(sample_sizes.max()), 0) if sample_sizes.numel() else 0


def sizes_from_mask(mask: Tensor) -> Tensor:
    """Count the valid entries of each sample of a mask ``(*batch, max_size)``."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = str(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean tensor, got {got}; pass sizes as sample_sizes=")
    check_is_tensor(mask, "mask")
    if mask.dim() == 0:
        raise ValueError("mask must have shape (*batch, max_size), got a tensor without dimensions")
    return mask.sum(-1)


def check_matching_sizes(sample_sizes: Tensor, mask: Tensor | None, max_size: int) -> Tensor:
    """Check sizes against ``max_size`` and the mask, if one is given; return the mask made from the sizes."""
    if not known_within(sample_sizes, 0, max_size):
        check_values(
            (sample_sizes >= 0) & (sample_sizes <= max_size),
            lambda at: (
                f"sample_sizes must lie between 0 and {max_size}, the size of the ragged dimension; "
                f"got {int(sample_sizes[at])} for {sample_name(at)}"
            ),
            summary="RaggedBatch: a sample size is negative or larger than the ragged dimension",
        )
    made = prefix_mask(sample_sizes, max_size)
    if mask is None:
        return made
    counted = sizes_from_mask(mask)
    if mask.shape != made.shape:
        raise ValueError(
            f"mask must have shape (*batch, max_size) = {tuple(made.shape)} to fit the tensor, got {tuple(mask.shape)}"
        )
    check_same_device(mask.device, sample_sizes.device, name="mask", reference="sample_sizes")

    def message(at: tuple[int, ...]) -> str:
        given, size = int(counted[at[:-1]]), int(sample_sizes[at[:-1]])
        if given != size:
            return (
                f"mask and sample_sizes must agree, got {given} true entries and size {size} for {sample_name(at[:-1])}"
            )
        return (
            "mask must be true for the first entries of a sample, then false, got a valid entry after filler in "
            f"{sample_name(at[:-1])}; pass ~mask if true stands for filler; get_compact_lists takes entries anywhere"
        )

    check_values(mask == made, message, summary="RaggedBatch: mask is not valid-first or does not fit sample_sizes")
    return made


def check_fits_batch(shape: torch.Size, batch_shape: torch.Size, *, what: str) -> None:
    """Raise ``ValueError`` unless an operand of this shape broadcasts with the tensor of a batch."""
    missing = len(batch_shape) - len(shape)
    if missing < 0:
        raise ValueError(
            f"{what}: a tensor of shape {tuple(shape)} has more dimensions than the batch of shape "
            f"{tuple(batch_shape)}; use unsqueeze_data_dim on the batch"
        )
    aligned = batch_shape[missing:]
    if shape == aligned:
        return
    for size, wanted in zip(shape, aligned, strict=True):
        if size != wanted and size != 1 and wanted != 1:
            break
    else:
        return
    is_prefix = shape == batch_shape[: len(shape)]
    fits = (*shape, *(1,) * missing) if is_prefix else tuple(aligned)
    raise ValueError(
        f"{what}: a tensor of shape {tuple(shape)} does not broadcast to the batch of shape {tuple(batch_shape)}; "
        f"counted from the last dimension, sizes must be equal or 1: shape {fits} would fit"
    )
