"""Losses over the pairs of a soft plan, of which there may be a thousand times as many as predictions.

Where the host can read the plan (on CPU), only pairs that have mass are computed; elsewhere all of them, in a static
number, and those without mass count nothing, whatever they hold. Pairs are computed block by block, so that memory does
not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ragged.values.memory import is_transposed
from ragged.values.readable import values_are_readable

# Elements of the inputs of a block. On a CPU, intermediate results should nearly fit the cache.
_BLOCK = 1 << 17
_BLOCK_ON_DEVICE = 1 << 26


def expected_loss(
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    mass: Tensor,
    *,
    has_parameters: bool = False,
) -> Tensor:
    """For each prediction the sum over the targets of its mass times the loss.

    Mass of less than the square of the machine precision (1e-14 in float32) counts as none: transport leaves a little
    everywhere.

    Args:
        loss: From predictions (R, K) and targets (R, …) to (R,), each row on its own.
        inputs: (N, P, K), floating.
        targets: (N, S, …).
        mass: (N, P, S), a constant.
        has_parameters: Whether the loss has parameters that need a gradient; else only ``inputs`` get one.

    Returns:
        (N, P). If there are many pairs, it can be differentiated once.

    >>> boxes, targets = torch.zeros(1, 1, 4), torch.eye(4).unsqueeze(0)
    >>> expected_loss(lambda x, y: (x - y).abs().sum(-1), boxes, targets, torch.tensor([[[1.0, 0.5, 0.0, 0.0]]]))
    tensor([[1.5000]])
    """
    mass = mass.detach()
    if not mass.numel() or not inputs.shape[-1]:
        return _nothing(inputs)
    if values_are_readable(mass):
        return _packed(loss, inputs, targets, mass, has_parameters)
    return _static(loss, inputs, targets, mass)


def _packed(loss: Callable[..., Tensor], inputs: Tensor, targets: Tensor, mass: Tensor, has_parameters: bool) -> Tensor:
    """By the pairs that have mass."""
    count, size = mass.shape[1:]
    table, others = _by_column(inputs.flatten(0, 1)), _by_column(targets.detach().flatten(0, 1))
    image, place, slot = (mass > _negligible(mass)).nonzero(as_tuple=True)
    if not len(image):
        return _nothing(inputs)
    prediction = image.mul(count).add_(place)
    target = image.mul_(size).add_(slot)
    weight = mass.reshape(-1).index_select(0, prediction * size + slot)

    def block(own: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return loss(own, _rows(others, target)) * weight

    step = _block_size(inputs, 1)
    blocks = list(zip(prediction.split(step), target.split(step), weight.split(step), strict=True))
    if len(blocks) == 1 or has_parameters:
        values = torch.cat([block(_rows(table, part), *rest) for part, *rest in blocks])
        return values.new_zeros(table.shape[0]).index_add(0, prediction, values).view(inputs.shape[:2])
    values = _Summed.apply(table, block, blocks)
    assert isinstance(values, Tensor)
    return values.view(inputs.shape[:2])


class _Summed(torch.autograd.Function):
    """Sums of the values of blocks, (M,), for predictions (M, K).

    The loss of a prediction depends on this prediction only: its derivative is a row (K,), which is summed up on the
    way, so that nothing else need be kept, or computed again.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, block: Callable[..., Tensor], blocks: Sequence[Sequence[Tensor]]) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        total, slope = table.new_zeros(table.shape[0]), torch.zeros_like(table)
        for prediction, *rest in blocks:
            own = _rows(table.detach(), prediction).requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                values = block(own, *rest)
            total.index_add_(0, prediction, values.detach().to(total.dtype))
            if values.requires_grad:
                slope.index_add_(0, prediction, *torch.autograd.grad(values, own, torch.ones_like(values)))
        ctx.save_for_backward(slope)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradient.unsqueeze(-1), None, None


def _static(loss: Callable[..., Tensor], inputs: Tensor, targets: Tensor, mass: Tensor) -> Tensor:
    """By all pairs."""

    def block(inputs: Tensor, targets: Tensor, mass: Tensor) -> Tensor:
        nothing, shape = ~(mass > _negligible(mass)), mass.shape
        pairs = (inputs.unsqueeze(2).expand(*shape, -1), targets.unsqueeze(1).expand(*shape, *targets.shape[2:]))
        values = loss(*(_filled(each, nothing).flatten(0, 2) for each in pairs)).view(shape)
        return (values.masked_fill(nothing, 0) * mass.masked_fill(nothing, 0)).sum(-1)

    size = mass.shape[-1] if torch.compiler.is_compiling() else _block_size(inputs, mass.shape[0] * mass.shape[1])
    parts = list(zip(targets.split(size, 1), mass.split(size, -1), strict=True))
    first, *others = (_computed(block, (inputs, *part), len(parts)) for part in parts)
    return sum(others, start=first)


def _computed(block: Callable[..., Tensor], arguments: Sequence[Tensor], num_blocks: int) -> Tensor:
    if num_blocks == 1 or not torch.is_grad_enabled():
        return block(*arguments)
    values = checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(values, Tensor)
    return values


def _block_size(inputs: Tensor, rows: int) -> int:
    limit = _BLOCK if inputs.device.type == "cpu" else _BLOCK_ON_DEVICE
    return max(1, limit // (inputs.shape[-1] * rows))


def _by_column(table: Tensor) -> Tensor:
    """Boxes (M, 4) coordinate by coordinate, as they are read; all else as it is."""
    return table.mT.contiguous().mT if table.dim() == 2 and table.shape[-1] == 4 else table


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table, laid out as it is."""
    if table.dim() == 2 and is_transposed(table):
        return table.mT.index_select(1, index).mT
    return table.index_select(0, index)


def _filled(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(mask.view(*mask.shape, *(1,) * (values.dim() - mask.dim())), 0)


def _negligible(mass: Tensor) -> float:
    return torch.finfo(mass.dtype).eps ** 2


def _nothing(inputs: Tensor) -> Tensor:
    """Zeros (N, P) that are part of the graph."""
    return inputs[..., :0].sum(-1)
