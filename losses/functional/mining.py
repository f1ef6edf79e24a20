"""Hard negative mining: of very many negatives, train those with the highest loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from losses.functional.numerics import check_floating, check_shape
from ragged.values.checks import check_not_negative, check_same_device, check_weights
from ragged.values.precision import wide
from ragged.values.ranking import largest
from ragged.values.readable import values_are_readable

# Sums of weights, and ratios such as 0.1, are rounded; a negative that just fits must not be lost to that.
_ROUNDING = 1e-4


@torch.no_grad()
def hard_negative_mining(
    loss: Tensor,
    positive: Tensor,
    *,
    ratio: float,
    negative: Tensor | None = None,
    negatives_without_positives: float = 0.0,
) -> Tensor:
    """The negatives with the highest loss, in proportion to the positives of their sample (Liu et al., SSD, 2016).

    Negatives are taken by decreasing loss while their number is at most ``ratio`` times the number of positives. Ties
    go to the lowest index; NaN comes last. For a soft plan, weights are counted instead: the mass of the negatives is
    at most ``ratio`` times the mass of the positives.

    Args:
        loss: ``(…, P)``, the loss that each prediction has as a negative. Only its order counts.
        positive: ``(…, P)``, whether a prediction is positive; or its weight as one, floating, at least 0.
        ratio: Number of negatives per positive.
        negative: ``(…, P)``, whether a prediction can be taken, or its weight as a negative. If not given, all that are
            not positive; for weights, ``1 - positive``.
        negatives_without_positives: How many negatives are taken of a sample without any positive; by default none, as
            in SSD.

    Returns:
        ``(…, P)``, bool: which negatives to train. All of them, if they are fewer than the ratio allows.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> positive = torch.tensor([True, False, False, False])
    >>> hard_negative_mining(torch.tensor([9.0, 1.0, 3.0, 2.0]), positive, ratio=2)
    tensor([False, False,  True,  True])
    """
    _check(loss, positive, negative, ratio, negatives_without_positives)
    return hardest_negatives(
        loss, positive, ratio=ratio, negative=negative, negatives_without_positives=negatives_without_positives
    )


def hardest_negatives(
    loss: Tensor, positive: Tensor, *, ratio: float, negative: Tensor | None, negatives_without_positives: float
) -> Tensor:
    """``hard_negative_mining`` of what was checked before."""
    if negative is None:
        negative = ~positive if positive.dtype == torch.bool else (1 - wide(positive)).clamp(min=0)
    may_be_taken = negative if negative.dtype == torch.bool else negative > 0
    lowest = torch.finfo(torch.float32).min
    is_mask = positive.dtype == torch.bool
    rank = loss.float().nan_to_num(nan=lowest, neginf=lowest).masked_fill(~may_be_taken, -torch.inf)
    count = positive.sum(-1, keepdim=True, dtype=torch.float32) if is_mask else wide(positive).sum(-1, keepdim=True)
    budget = count * float(ratio)
    if negatives_without_positives:
        budget = torch.where(count > 0, budget, float(negatives_without_positives))
    budget = budget + _ROUNDING
    if negative.dtype == torch.bool:
        order = _hardest_first(rank, budget)
        taken = torch.arange(1, order.shape[-1] + 1, device=loss.device)
    else:
        order = rank.argsort(dim=-1, descending=True, stable=True)
        taken = wide(negative).masked_fill(~may_be_taken, 0).gather(-1, order).cumsum(-1)
    chosen = (taken <= budget).expand_as(order)
    return torch.zeros_like(may_be_taken).scatter(-1, order, chosen) & may_be_taken


def _hardest_first(rank: Tensor, budget: Tensor) -> Tensor:
    """Indices in descending order, of as many as any sample may take if that can be read, else of all."""
    if budget.numel() and values_are_readable(budget):
        # Ten times faster than a sort, where a few hundred of the thousands of default boxes are wanted.
        return largest(rank, math.floor(min(budget.max().item(), rank.shape[-1])))[1]
    return rank.argsort(dim=-1, descending=True, stable=True)


def _check(
    loss: Tensor, positive: Tensor, negative: Tensor | None, ratio: float, negatives_without_positives: float
) -> None:
    check_floating(loss, "loss")
    if loss.dim() == 0:
        raise ValueError("loss must have shape (…, P), got ()")
    given = {"positive": positive} if negative is None else {"positive": positive, "negative": negative}
    for name, value in given.items():
        check_shape(value, loss.shape, name, "the loss")
        check_same_device(value.device, loss.device, name=name, reference="the loss")
        if value.dtype != torch.bool and not value.is_floating_point():
            raise TypeError(f"{name} must be a mask or weights, bool or floating, got {value.dtype}")
        if value.dtype != torch.bool:
            check_weights(value, name)
    check_not_negative(ratio, "ratio")
    check_not_negative(negatives_without_positives, "negatives_without_positives")
