"""Putting a value in the place of filler, fast on the host.

Where a mask broadcasts, which is how entries of more than one number are masked, torch's kernels read it once for each
number, and take several times as long as arithmetic does. On the host the numbers are taken as integers here, and the
mask as bits: ``&`` keeps or clears them, whatever they are, at the speed of a product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ragged.values.filler import Number
from ragged.values.readable import has_own_derivatives

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# From this many numbers on, what the bits save outweighs their fixed costs.
MANY_NUMBERS = 1 << 13


def filled(tensor: Tensor, mask: Tensor, value: Number) -> Tensor:
    """``tensor`` where ``mask`` is true, ``value`` elsewhere, where the gradient is 0, whatever comes in.

    Args:
        tensor: Any shape and dtype.
        mask: Boolean, of as many dimensions, and broadcasts against ``tensor``.
        value: A number that the dtype can hold.

    >>> filled(torch.tensor([[1.0, 2.0], [torch.nan, 4.0]]), torch.tensor([[True], [False]]), 0)
    tensor([[1., 2.],
            [0., 0.]])
    """
    if has_own_derivatives(tensor):  # packed
        by_bits = value == 0 or mask.numel() < tensor.numel()  # other filler costs as much again where it is as large
        if by_bits and tensor.numel() >= MANY_NUMBERS and not (tensor.is_complex() or tensor.is_neg()):
            if tensor.requires_grad and torch.is_grad_enabled():
                result: Tensor = _Filled.apply(tensor, mask, value)
                return result
            return _by_bits(tensor, mask, value)
        if tensor.is_floating_point():
            return torch.where(mask, tensor, value)
    return tensor.masked_fill(~mask, value)


class _Filled(torch.autograd.Function):
    """``_by_bits``, and as often as it is differentiated: torch knows no derivative of bits."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, mask: Tensor, value: Number) -> Tensor:
        ctx.save_for_backward(mask)
        return _by_bits(tensor, mask, value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return filled(gradients[0], mask, 0), None, None


def _by_bits(tensor: Tensor, mask: Tensor, value: Number) -> Tensor:
    integers = _INTEGERS[tensor.dtype.itemsize]
    kept = tensor.view(integers) & mask.to(integers).neg_()
    if value != 0:
        kept |= tensor.new_full(mask.shape, value).masked_fill_(mask, 0).view(integers)
    return kept.view(tensor.dtype)
