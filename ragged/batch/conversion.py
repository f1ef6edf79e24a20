"""Dtype, device and gradient of a RaggedBatch: what its tensor can do, with mask and sizes following to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ragged.batch.core import AnyBatch, BatchCore
from ragged.values.checks import check_flag

if TYPE_CHECKING:
    from typing_extensions import Self


def to_device(batch: AnyBatch, device: torch.device | str | int) -> AnyBatch:
    """The batch on another device."""
    return batch.to(device=torch.device(device))


def to_dtype(batch: AnyBatch, dtype: torch.dtype) -> AnyBatch:
    """The batch with data of another dtype."""
    return batch._with(batch.tensor.to(dtype))


def cpu(batch: AnyBatch) -> AnyBatch:
    """The batch in host memory."""
    return batch.to(device=torch.device("cpu"))


def cuda(batch: AnyBatch, device: torch.device | str | int | None = None, non_blocking: bool = False) -> AnyBatch:
    """The batch on a CUDA device, by default the current one."""
    check_flag(non_blocking, "non_blocking")
    target = torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
    return batch.to(device=target, non_blocking=non_blocking)


def pin_memory(batch: AnyBatch, device: torch.device | str | None = None) -> AnyBatch:
    """Copy to page-locked memory. ``device`` is what a DataLoader passes; torch no longer needs it."""
    return batch._unchecked(pinned(batch.tensor), pinned(batch.mask), pinned(batch.sample_sizes), batch.ragged_axis)


def pinned(tensor: Tensor) -> Tensor:
    """A copy in page-locked memory. torch keeps strides, and cannot write to what is expanded."""
    return tensor.contiguous().pin_memory()


def changed_together(batches: Mapping[str, AnyBatch], change: Callable[[str, Tensor], Tensor]) -> dict[str, AnyBatch]:
    """Batches of the same samples in other tensors; they share one mask and one tensor of sizes from then on.

    Args:
        batches: By name; one at least.
        change: The other tensor, of a name and the tensor before. The mask and the sizes have the names ``"mask"`` and
            ``"sample_sizes"``.
    """
    first = next(iter(batches.values()))
    mask, sizes = change("mask", first.mask), change("sample_sizes", first.sample_sizes)
    return {
        name: batch._unchecked(change(name, batch.tensor), mask, sizes, batch.ragged_axis)
        for name, batch in batches.items()
    }


def detach(batch: AnyBatch) -> AnyBatch:
    """The batch without its gradient history; the data is shared."""
    return batch._with(batch.tensor.detach())


def clone(batch: AnyBatch) -> AnyBatch:
    """The batch with a copy of the data; mask and sizes are shared."""
    return batch._with(batch.tensor.clone())


def retain_grad(batch: BatchCore) -> None:
    """Keep the gradient of ``tensor`` although it is not a leaf."""
    batch.tensor.retain_grad()


class DtypeShorthands:
    """``half()``, ``int()`` and the like. In a class of their own: there, a method named ``int`` hides no type."""

    def to_dtype(self, dtype: torch.dtype) -> Self:
        """The batch with data of another dtype."""
        raise NotImplementedError

    def bool(self) -> Self:
        """Data as ``torch.bool``."""
        return self.to_dtype(torch.bool)

    def int(self) -> Self:
        """Data as ``torch.int32``."""
        return self.to_dtype(torch.int32)

    def long(self) -> Self:
        """Data as ``torch.int64``."""
        return self.to_dtype(torch.int64)

    def half(self) -> Self:
        """Data as ``torch.float16``."""
        return self.to_dtype(torch.float16)

    def bfloat16(self) -> Self:
        """Data as ``torch.bfloat16``."""
        return self.to_dtype(torch.bfloat16)

    def float(self) -> Self:
        """Data as ``torch.float32``."""
        return self.to_dtype(torch.float32)

    def double(self) -> Self:
        """Data as ``torch.float64``."""
        return self.to_dtype(torch.float64)

    def cfloat(self) -> Self:
        """Data as ``torch.complex64``."""
        return self.to_dtype(torch.complex64)

    def cdouble(self) -> Self:
        """Data as ``torch.complex128``."""
        return self.to_dtype(torch.complex128)
