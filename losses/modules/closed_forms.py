"""The sum over the classes of a loss with a sigmoid for each class, without keeping a value for each class.

Almost all that a dense detector computes its class loss of is background: tens of millions of logits, of which the loss
and its derivative are closed forms. They are computed together, block by block, so that what is needed on the way stays
in the cache, and only the derivative is kept. The labelled classes, one at most of a prediction, go the usual way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from losses.functional.numerics import background_loss, is_dense, power, softplus, weigh_background
from ragged.values.memory import is_transposed
from ragged.values.precision import wide

_BLOCK = 1 << 20
"""Logits of a block on a CPU. An accelerator has no cache to keep them in: it computes all at once."""


def can_sum_classes(labels: Tensor) -> bool:
    """Whether ``summed_over_classes`` is of use: not where the graph is transformed by ``torch.func``."""
    return not is_dense(labels) and not torch._C._are_functorch_transforms_active()


def summed_over_classes(
    logits: Tensor,
    labels: Tensor,
    scores: Tensor | None,
    *,
    own: Callable[[Tensor, Tensor | None], Tensor],
    exponent: float,
    scale: float,
    detach_weights: bool = False,
) -> Tensor:
    """The loss ``own`` of the labelled class y plus ``scale p^exponent BCE(x, 0)`` of all others.

    Args:
        logits: ``(…, C)``.
        labels: ``(…)``; any number that is no class means that there is none.
        scores: ``(…)``, the target of the labelled class; 1 unless given.
        own: The loss of the labelled class, of its logits (…) and scores (…).
        exponent: Of the probability.
        scale: Of the others.
        detach_weights: Whether ``p^exponent`` is a constant for the gradient.

    Returns:
        ``(…)``, float32 at least.
    """
    logits, labels = wide(logits), labels.long()
    if logits.shape[-1] == 1:
        return _of_one_class(logits.squeeze(-1), labels == 0, scores, own, (exponent, scale, detach_weights))
    index = labels.clamp(0, logits.shape[-1] - 1)
    unlabelled = index != labels
    targets = None if scores is None else scores.detach().to(logits.dtype).masked_fill(unlabelled, 0)
    sums = _TracedSums if torch.compiler.is_compiling() else _Sums
    others, logit = sums.apply(logits, index.unsqueeze(-1), unlabelled.unsqueeze(-1), exponent, detach_weights)
    return torch.add(own(logit.squeeze(-1), targets).masked_fill(unlabelled, 0), others, alpha=scale)


def _of_one_class(
    logits: Tensor,
    labelled: Tensor,
    scores: Tensor | None,
    own: Callable[[Tensor, Tensor | None], Tensor],
    others: tuple[float, float, bool],
) -> Tensor:
    """``summed_over_classes`` of a single one: there is nothing to add up."""
    exponent, scale, detach = others
    targets = None if scores is None else scores.detach().to(logits.dtype).masked_fill(~labelled, 0)
    return torch.where(labelled, own(logits, targets), background_loss(logits, exponent, scale=scale, detach=detach))


class _Sums(torch.autograd.Function):
    """Sums (…) of ``p^exponent BCE(x, 0)`` over all classes but the labelled ones, and the logits (…, 1) of these."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, unlabelled: Tensor, exponent: float, detach_weights: bool
    ) -> tuple[Tensor, Tensor]:
        sums = torch.empty_like(index, dtype=logits.dtype)
        slopes = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        own = logits.gather(-1, index)
        # Of a probability of 0, there is no loss and no slope.
        hiding = own.masked_fill(~unlabelled, -math.inf)
        for place in _blocks(logits):
            x = torch.scatter(logits[place], -1, index[place], hiding[place], out=torch.empty_like(logits[place]))
            loss = softplus(x)
            slope = torch.sigmoid(x, out=None if slopes is None else slopes[place])
            if exponent:
                weigh_background(loss, slope, exponent, detach=detach_weights, slope=slopes is not None)
            torch.sum(loss, -1, keepdim=True, out=sums[place])
        ctx.exponent, ctx.detach_weights = exponent, detach_weights
        ctx.save_for_backward(logits, index, unlabelled, slopes)
        return sums.squeeze(-1), own

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        logits, index, unlabelled, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient shall be differentiated as well
            results = _sums(logits, index, unlabelled, ctx.exponent, ctx.detach_weights)
            return *torch.autograd.grad(results, logits, gradients, create_graph=True), None, None, None, None
        of_sums, of_own = gradients
        # Nobody asks for the slopes again, unless the graph is kept: they can become the gradient where they are.
        keep = torch._C._autograd._get_current_graph_task_keep_graph()
        slopes = torch.mul(slopes, of_sums.unsqueeze(-1), out=None if keep else slopes)
        return slopes.scatter_add_(-1, index, of_own), None, None, None, None


def _sums(
    logits: Tensor, index: Tensor, unlabelled: Tensor, exponent: float, detach_weights: bool
) -> tuple[Tensor, Tensor]:
    """What ``_Sums`` computes, with a value for each class."""
    own = logits.gather(-1, index)
    loss = background_loss(logits, exponent, detach=detach_weights)
    return loss.scatter(-1, index, loss.gather(-1, index).masked_fill(~unlabelled, 0)).sum(-1), own


class _TracedSums(torch.autograd.Function):
    """``_Sums`` for a compiler: nothing is gathered or scattered, so that each direction is one loop over memory."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, unlabelled: Tensor, exponent: float, detach_weights: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.first = is_transposed(logits)
        dim = -2 if ctx.first else -1
        if ctx.first:
            logits, index, unlabelled = logits.mT, index.mT, unlabelled.mT
        is_own = _is_own(logits, index, dim)
        is_other = ~is_own | unlabelled
        loss, slope = softplus(logits), logits.sigmoid()
        if exponent:
            weight = power(slope, exponent)
            slope = weight * (slope if detach_weights else slope + exponent * (loss - loss * slope))
            loss = loss * weight
        ctx.save_for_backward(index, torch.where(is_other, slope, 0))
        own = torch.where(is_own, logits, 0).sum(dim).unsqueeze(-1)
        return torch.where(is_other, loss, 0).sum(dim), own

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        index, slope = ctx.saved_tensors
        dim = -2 if ctx.first else -1
        of_sums, of_own = gradients[0].unsqueeze(dim), gradients[1].mT if ctx.first else gradients[1]
        gradient = slope * of_sums + torch.where(_is_own(slope, index, dim), of_own, 0)
        return gradient.mT if ctx.first else gradient, None, None, None, None


def _is_own(logits: Tensor, index: Tensor, dim: int) -> Tensor:
    classes = torch.arange(logits.shape[dim], device=logits.device)
    return (classes.unsqueeze(-1) if dim == -2 else classes) == index


def _blocks(logits: Tensor) -> Iterator[Any]:
    """Slices of the leading dimensions, the first two at most."""
    if logits.device.type != "cpu" or logits.numel() <= _BLOCK:
        yield ...
        return
    rows = max(_BLOCK // logits[0].numel(), 1)
    inner = logits.shape[1] if logits.dim() > 2 else 1
    columns = max(_BLOCK * inner // logits[0].numel(), 1)
    for first in range(0, len(logits), rows):
        for start in range(0, inner, columns):
            across = (slice(start, start + columns),) if inner > 1 else ()
            yield (slice(first, first + rows), *across)
