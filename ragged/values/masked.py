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
# With fewer numbers in an entry than these, bits of entries broadcast at several times the cost of bits of numbers.
FEW_NUMBERS = 16


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
        numbers, entries = tensor.numel(), mask.numel()
        if numbers >= MANY_NUMBERS:
            # Other filler than 0 costs as much again.
            worth = value == 0 or numbers >= entries * FEW_NUMBERS
            if worth and not (tensor.is_complex() or tensor.is_neg()):
                return _with_bits(tensor, _bits(mask, tensor), _filler(tensor, mask, value) if value != 0 else None)
        if tensor.is_floating_point() and (numbers < MANY_NUMBERS or numbers == entries):
            return torch.where(mask, tensor, value)
    return tensor.masked_fill(~mask, value)


def has_product(first: Tensor, second: Tensor) -> bool:
    """Whether ``product`` is worth its fixed costs, and can be had."""
    return (
        has_own_derivatives(first)  # first, so that a graph is not bound to a size
        and has_own_derivatives(second)
        and first.numel() >= MANY_NUMBERS
        and first.dtype == second.dtype
        and first.is_floating_point()
    )


def product(first: Tensor, second: Tensor, mask: Tensor, *, clear: bool = True) -> Tensor:
    """``first * second`` without a copy of either; where ``mask`` is false it is 0, or its gradients are.

    Args:
        first: Floating; see ``has_product``, which is asked first.
        second: The same tensor, or one that broadcasts against it and has the size of ``mask``, or more.
        mask: Boolean, of as many dimensions, and broadcasts.
        clear: Whether the product is read where the mask is false.
    """
    bits = mask.to(_INTEGERS[first.dtype.itemsize]).neg_()
    if _differentiated(first) or _differentiated(second):
        result: Tensor = _Product.apply(first, None if second is first else second, bits, clear)
        return result
    return _cleared_(first * second, bits) if clear else first * second


def _bits(mask: Tensor, tensor: Tensor) -> Tensor:
    """All bits set where the mask is true, none elsewhere."""
    bits = mask.to(_INTEGERS[tensor.dtype.itemsize]).neg_()
    if _differentiated(tensor) and tensor.numel() < mask.numel() * FEW_NUMBERS:
        bits = bits.expand(tensor.shape).contiguous()  # once for forward and backward
    return bits


def _filler(tensor: Tensor, mask: Tensor, value: Number) -> Tensor:
    """The bits of ``value`` where the mask is false, none elsewhere."""
    return tensor.new_full(mask.shape, value).masked_fill_(mask, 0).view(_INTEGERS[tensor.dtype.itemsize])


def _with_bits(tensor: Tensor, bits: Tensor, filler: Tensor | None = None) -> Tensor:
    if _differentiated(tensor):
        result: Tensor = _WithBits.apply(tensor, bits, filler)
        return result
    return _combined(tensor, bits, filler)


def _combined(tensor: Tensor, bits: Tensor, filler: Tensor | None) -> Tensor:
    kept = tensor.view(bits.dtype) & bits
    if filler is not None:
        kept |= filler
    return kept.view(tensor.dtype)


class _WithBits(torch.autograd.Function):
    """``_combined``, and as often as it is differentiated: torch knows no derivative of bits."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, bits: Tensor, filler: Tensor | None) -> Tensor:
        ctx.save_for_backward(bits)
        return _combined(tensor, bits, filler)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (bits,), (gradient,) = ctx.saved_tensors, gradients
        if has_own_derivatives(gradient):  # packed
            return _with_bits(gradient, bits), None, None
        return gradient.masked_fill(bits == 0, 0), None, None


class _Product(torch.autograd.Function):
    """A product, and its gradients, in which filler is cleared in place; ``second`` is None for a square."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor | None, bits: Tensor, clear: bool) -> Tensor:
        ctx.save_for_backward(first, second, bits)
        result = first * (first if second is None else second)
        return _cleared_(result, bits) if clear else result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (first, second, bits), (gradient,) = ctx.saved_tensors, gradients
        lasting = torch.is_grad_enabled() or not has_own_derivatives(gradient)
        if lasting:  # which is differentiated in turn: nothing is written in place
            mask = bits != 0
            gradient, first = filled(gradient, mask, 0), filled(first, mask, 0)
            second = None if second is None else filled(second, mask, 0)

        def of(other: Tensor, own: Tensor) -> Tensor:
            found = gradient * other if lasting else _cleared_(gradient * other, bits)
            return found.sum_to_size(own.shape)

        if second is None:
            found = of(first, first)
            return found + found if lasting else found.add_(found), None, None, None
        needs_first, needs_second, *_ = ctx.needs_input_grad
        return of(second, first) if needs_first else None, of(first, second) if needs_second else None, None, None


def _cleared_(tensor: Tensor, bits: Tensor) -> Tensor:
    tensor.view(bits.dtype).bitwise_and_(bits)
    return tensor


def _differentiated(tensor: Tensor) -> bool:
    return tensor.requires_grad and torch.is_grad_enabled()
