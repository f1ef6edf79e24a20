"""Boxes in two halves: what a conversion of formats does to both, and to their gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ragged.values.readable import can_have_own_derivative

Halves = tuple[tuple[float, float], tuple[float, float]]
"""A row for each half of the result: the factors of the first and of the second half of what is given."""


def mapped_halves(boxes: Tensor, factors: Halves) -> Tensor:
    """Boxes ``(…, 4)`` whose halves are sums of multiples of the halves of ``boxes``.

    >>> mapped_halves(torch.tensor([1.0, 2.0, 5.0, 4.0]), ((0.5, 0.5), (-1.0, 1.0)))
    tensor([3., 3., 4., 2.])
    """
    if not can_have_own_derivative(boxes):
        first, second = boxes.split(2, -1)
        return torch.cat([_sum(first, second, *each) for each in factors], -1)
    if torch.is_grad_enabled() and boxes.requires_grad:
        found: Tensor = _Mapped.apply(boxes, factors)
        return found
    return _mapped(boxes, factors)


class _Mapped(torch.autograd.Function):
    """``mapped_halves``, whose derivative is the transposed map."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, factors: Halves) -> Tensor:
        ctx.factors = factors
        return _mapped(boxes, factors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (a, b), (c, d) = ctx.factors
        return mapped_halves(gradients[0], ((a, c), (b, d))), None


def _mapped(boxes: Tensor, factors: Halves) -> Tensor:
    """Each half where it belongs, with nothing to be put together."""
    found = torch.empty_like(boxes)
    first, second = boxes.split(2, -1)
    for half, each in zip(found.split(2, -1), factors, strict=True):
        _sum(first, second, *each, out=half)
    return found


def _sum(first: Tensor, second: Tensor, a: float, b: float, out: Tensor | None = None) -> Tensor:
    """``a first + b second``, rounded once: a factor is 0 or 1, or both are powers of 2."""
    if a == 0 or b == 0:
        only = first if b == 0 else second
        return only if out is None else out.copy_(only)
    if a == 1:
        return torch.add(first, second, alpha=b, out=out)
    if b == 1:
        return torch.add(second, first, alpha=a, out=out)
    return torch.add(first, second, alpha=b / a, out=out).mul_(a)
