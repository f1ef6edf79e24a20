"""Maps of several levels in one tensor, whose gradient is given back to each level in a tensor of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ragged.values.readable import can_have_own_derivative


def cells_side_by_side(maps: Sequence[Tensor]) -> Tensor:
    """Maps ``(…, h, w)`` of all levels as one tensor ``(…, P)``, level after level.

    >>> cells_side_by_side([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)]).shape
    torch.Size([2, 3, 20])
    """
    cells = [each.flatten(-2) for each in maps]
    if torch.is_grad_enabled() and len(cells) > 1 and all(map(can_have_own_derivative, cells)):
        found: Tensor = _SideBySide.apply(*cells)
        return found
    return torch.cat(cells, -1)


class _SideBySide(torch.autograd.Function):
    """``torch.cat``, whose derivative leaves no slices of one gradient, which each level would have to copy."""

    @staticmethod
    def forward(ctx: Any, *cells: Tensor) -> Tensor:
        ctx.sizes = [each.shape[-1] for each in cells]
        return torch.cat(cells, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        if torch.is_grad_enabled():  # the gradient shall be differentiated as well
            return gradient.split(ctx.sizes, -1)
        # All levels at once: a kernel of its own on an accelerator.
        shapes = [(*gradient.shape[:-1], size) for size in ctx.sizes]
        found = [torch.empty(shape, dtype=gradient.dtype, device=gradient.device) for shape in shapes]
        torch.split_with_sizes_copy(gradient, ctx.sizes, -1, out=found)
        return tuple(found)
