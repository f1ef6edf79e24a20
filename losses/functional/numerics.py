"""Shared by the losses: precision, powers that differentiate everywhere, and checks of arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ragged.values.checks import (
    INTEGER_DTYPES,
    check_is_tensor,
    check_number,
    check_same_device,
    check_shares,
    check_values,
)
from ragged.values.readable import can_have_own_derivative, known_within, values_are_readable

# Above, softplus(x) is x in float64 as well.
_LINEAR = 40.0


def softplus(values: Tensor) -> Tensor:
    """``log(1 + e^x)``, which is ``-log(1 - sigmoid(x))``; exact and with finite gradients for every x."""
    return functional.softplus(values, 1.0, _LINEAR)


def power(base: Tensor, exponent: float) -> Tensor:
    """``base^exponent`` of values in [0, 1] with a finite gradient at 0, also for exponents below 1."""
    if exponent == 0:
        return torch.ones_like(base)
    if exponent < 1:
        base = base.clamp(min=torch.finfo(base.dtype).tiny)
    return base**exponent


def power_of_p(logits: Tensor, exponent: float, *, detach: bool = False) -> Tensor:
    """``p^exponent`` with ``p = sigmoid(x)``; a constant for the gradient with ``detach``."""
    return power((logits.detach() if detach else logits).sigmoid(), exponent)


def background_loss(logits: Tensor, exponent: float, *, scale: float = 1.0, detach: bool = False) -> Tensor:
    """``scale p^exponent BCE(x, 0)``: the focal loss of classes that are not labelled.

    That of labelled classes, ``scale (1 - p)^exponent BCE(x, 1)``, is the same of ``-logits``: of ``1 - p``, computed
    from p, few digits are left where p is close to 1.

    Args:
        logits: ``(…)``, x.
        exponent: 0 leaves the binary cross entropy.
        scale: A factor.
        detach: Whether the power is a constant for the gradient.

    Returns:
        ``(…)``, exact and with finite gradients for every x.

    >>> background_loss(torch.tensor([-2.0, 0.0, 2.0]), 2.0)
    tensor([0.0018, 0.1733, 1.6501])
    """
    if not exponent:
        loss = softplus(logits)
        return loss if scale == 1 else loss * scale

    def plain(x: Tensor) -> Tensor:
        return power_of_p(x, exponent, detach=detach) * softplus(x) * scale

    def closed(x: Tensor) -> tuple[Tensor, Tensor]:
        loss, slope = softplus(x), x.sigmoid()
        weigh_background(loss, slope, exponent, scale=scale, detach=detach)
        return loss, slope

    return with_slope(closed, plain, logits)


def weigh_background(
    loss: Tensor, p: Tensor, exponent: float, *, scale: float = 1.0, detach: bool = False, slope: bool = True
) -> None:
    """Turn ``BCE(x, 0)`` and the probability, in place, into ``background_loss`` and its derivative.

    Without ``slope``, the probability becomes what the loss is multiplied by.
    """
    weight = p.square() if exponent == 2 else power(p, exponent)
    if slope and not detach:
        p.add_(torch.addcmul(loss, loss, p, value=-1), alpha=exponent)
    weight = weight if scale == 1 else weight.mul_(scale)
    p.mul_(weight)
    loss.mul_(weight)


def with_slope(
    closed: Callable[[Tensor], tuple[Tensor, Tensor]], plain: Callable[[Tensor], Tensor], values: Tensor
) -> Tensor:
    """A function of each value (…), with its derivative in closed form where a backward pass will ask for it.

    Args:
        closed: The function and its derivative.
        plain: The function by operations of torch, which say what the derivative of the derivative is.
        values: What it is of.
    """
    if not has_closed_form(values):
        return plain(values)
    found: Tensor = _WithSlope.apply(values, closed, plain)
    return found


def has_closed_form(values: Tensor) -> bool:
    """Whether a derivative in closed form is of use for a function of ``values``, and can be had."""
    return torch.is_grad_enabled() and values.requires_grad and can_have_own_derivative(values)


class _WithSlope(torch.autograd.Function):
    """See ``with_slope``."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, closed: Callable[[Tensor], tuple[Tensor, Tensor]], plain: Callable[[Tensor], Tensor]
    ) -> Tensor:
        found, slope = closed(values)
        ctx.plain = plain
        ctx.save_for_backward(values, slope)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient shall be differentiated as well
            return torch.autograd.grad(ctx.plain(values), values, gradients[0], create_graph=True)[0], None, None
        return slope * gradients[0], None, None


def check_floating(value: Tensor, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a floating tensor."""
    check_is_tensor(value, name)
    if not value.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {value.dtype}; convert with .float()")


def check_scores(logits: Tensor, name: str = "logits", *, last: str = "C", at_least: int = 1) -> None:
    """Raise unless ``logits`` is a floating tensor ``(…, C)`` with enough classes, or whatever ``last`` stands for."""
    check_floating(logits, name)
    if logits.dim() == 0 or logits.shape[-1] < at_least:
        raise ValueError(f"{name} must have shape (…, {last}) with {last} ≥ {at_least}, got {tuple(logits.shape)}")


def check_shape(value: Tensor, shape: Sequence[int], name: str, meaning: str) -> None:
    """Raise unless ``value`` is a tensor of exactly this shape: broadcasting here would hide a mistake."""
    check_is_tensor(value, name)
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} must have the shape of {meaning}, {tuple(shape)}, got {tuple(value.shape)}")


def check_with(value: Tensor, logits: Tensor, name: str) -> None:
    """Raise ``ValueError`` unless ``value`` is on the device of the logits."""
    check_same_device(value.device, logits.device, name=name, reference="the logits")


def check_broadcasts(value: Tensor, shape: Sequence[int], name: str, meaning: str) -> None:
    """Raise unless ``value`` is a tensor that expands to ``shape``."""
    check_is_tensor(value, name)
    own = tuple(value.shape)
    fits = len(own) <= len(shape) and all(
        mine in (1, size) for mine, size in zip(own, tuple(shape)[len(shape) - len(own) :], strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must broadcast to the shape of {meaning}, {tuple(shape)}, got {own}")


def check_share(value: float | None, name: str) -> None:
    """Raise ``ValueError`` unless ``value`` is ``None`` or lies in [0, 1]."""
    if value is None:
        return
    check_number(value, name, low=None)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], or be None for no weights at all, got {value}")


def check_fraction(value: float, name: str) -> None:
    """Raise unless ``value`` is a number between 0 and 1, both excluded."""
    check_number(value, name, low=None)
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def check_integer(labels: Tensor, name: str = "labels") -> None:
    """Raise ``TypeError`` unless ``labels`` has an integer dtype."""
    check_is_tensor(labels, name)
    if labels.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{name} must have an integer dtype, got {labels.dtype}")


def check_labels(labels: Tensor, num_classes: int, ignored: int | None, *, lowest: int | None = 0) -> None:
    """Raise ``ValueError`` unless every label is a class, or ``ignored``; or below 0, if there is no ``lowest``."""
    if known_within(labels, -math.inf if lowest is None else lowest, num_classes - 1):
        return
    ok = labels < num_classes
    ok = ok if lowest is None else (labels >= lowest) & ok
    expected = f"labels must lie in 0 … {num_classes - 1}"
    if ignored is not None:
        ok |= labels == ignored
        expected += f" or be {ignored}, which is ignored"
    check_values(ok, lambda place: f"{expected}, got {labels[place].item()} at {place}", summary=expected)


def check_target_values(targets: Tensor, scores: Tensor | None, num_classes: int) -> None:
    """Raise ``ValueError`` unless dense targets, or the scores of labelled classes, lie in [0, 1].

    Scores may be NaN: those of a box that is predicted as NaN are. They are computed, as a rule, and looked at where
    that costs nothing.
    """
    if is_dense(targets):
        if targets.is_floating_point():
            check_shares(targets, "dense targets")
        if scores is not None and values_are_readable(scores) and not known_within(scores, 0, 1):
            check_shares(scores, "scores", counts=(targets > 0).any(-1), or_nan=True)
    elif scores is not None and values_are_readable(scores) and not known_within(scores, 0, 1):
        check_shares(scores, "scores", counts=(targets >= 0) & (targets < num_classes), or_nan=True)


def check_form(logits: Tensor, targets: Tensor, scores: Tensor | None) -> None:
    """Raise unless targets and scores are in one of the two forms that the module describes."""
    without_classes = "the logits without their classes"
    if isinstance(targets, Tensor) and is_dense(targets):
        meaning = without_classes
        check_shape(targets, logits.shape, "dense targets", "the logits")
    else:
        meaning = "the labels"
        check_integer(targets, "targets")
        check_shape(targets, logits.shape[:-1], "targets of an integer dtype, which are labels,", without_classes)
    check_with(targets, logits, "targets")
    if scores is not None:
        check_floating(scores, "scores")
        check_shape(scores, logits.shape[:-1], "scores", meaning)
        check_with(scores, logits, "scores")


def is_dense(targets: Tensor) -> bool:
    """Whether targets are the target of each class, floating or boolean, and no labels."""
    return targets.is_floating_point() or targets.dtype == torch.bool
