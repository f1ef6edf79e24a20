"""The precision that costs and losses are computed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


def widest(device: torch.device) -> torch.dtype:
    """The widest floating dtype that a device has: float64, but float32 on Apple's MPS."""
    return torch.float32 if device.type == "mps" else torch.float64


def wide(values: Tensor) -> Tensor:
    """``values`` in float32, or in float64 if that is what they are in."""
    return values if values.dtype == torch.float64 else values.float()


def equally_wide(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32, or in float64 if one of them is."""
    dtype = torch.float64 if torch.float64 in (first.dtype, second.dtype) else torch.float32
    return first.to(dtype), second.to(dtype)


class WideModule(nn.Module):
    """A module whose parameters and buffers, and those of modules in it, stay float32 when a model is cast to less.

    ``model.bfloat16()`` reaches the criterion in the model, too: anchors, default boxes and class weights would be
    rounded to 8 bits. They are moved to other devices, and cast to float64, as those of any module.

    >>> from ragged.values.precision import WideModule
    >>> module = WideModule()
    >>> module.register_buffer("anchors", torch.tensor([1001.0]))
    >>> module.bfloat16().anchors
    tensor([1001.])
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def at_least_float32(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            narrower = result.is_floating_point() and result.dtype.itemsize < min(tensor.dtype.itemsize, 4)
            return wide(tensor).to(result.device) if narrower else result

        return super()._apply(at_least_float32, recurse)
