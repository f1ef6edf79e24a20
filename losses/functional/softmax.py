"""Class losses with a softmax over the classes.

Every loss takes logits ``(…, C)`` and labels ``(…)`` and gives a loss ``(…)`` for each prediction, not reduced, in
float32 at least. A label that is no class is an error, unless it is the one to be ignored: its loss is 0, and its
gradient too, whatever its logits are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.functional.numerics import (
    check_floating,
    check_integer,
    check_labels,
    check_scores,
    check_shape,
    check_with,
    power,
)
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_not_negative, check_weights, check_whole
from ragged.values.precision import wide


@takes_batches(logits=1, labels=0)
def cross_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, ignored_label: int | None = None
) -> Tensor:
    """Cross entropy with the softmax, ``-w_y log p_y``.

    Args:
        logits: ``(…, C)``.
        labels: ``(…)``, integers y.
        class_weights: ``(C,)``, w; 1 unless given.
        ignored_label: A label that has no loss.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes or dtypes that do not fit; labels outside ``0 … C - 1``.

    >>> cross_entropy(torch.zeros(3, 4), torch.tensor([0, 3, -1]), ignored_label=-1)
    tensor([1.3863, 1.3863, 0.0000])
    """
    log_p, weights, ignored = _of_labels(logits, labels, class_weights, ignored_label)
    return _without(ignored, -log_p if weights is None else -log_p * weights)


@takes_batches(logits=1, labels=0)
def softmax_focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    ignored_label: int | None = None,
) -> Tensor:
    """Focal loss with the softmax, ``-w_y (1 - p_y)^gamma log p_y`` (Lin et al., RetinaNet, 2017).

    Args:
        logits: ``(…, C)``.
        labels: ``(…)``, integers y.
        gamma: Exponent; 0 is the cross entropy.
        class_weights: ``(C,)``, the paper's alpha of each class; 1 unless given.
        ignored_label: A label that has no loss.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes, dtypes or parameters that do not fit; labels outside ``0 … C - 1``.

    >>> softmax_focal_loss(torch.zeros(1, 2), torch.tensor([1]))
    tensor([0.1733])
    """
    check_not_negative(gamma, "gamma")
    log_p, weights, ignored = _of_labels(logits, labels, class_weights, ignored_label)
    loss = -log_p * power(-torch.expm1(log_p), gamma)
    return _without(ignored, loss if weights is None else loss * weights)


@takes_batches(logits=1, labels=0)
def negative_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the softmax probability of the label, in [-1, 0] (Carion et al., DETR, 2020).

    Args:
        logits: ``(…, C)``.
        labels: ``(…)``, integers.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes or dtypes that do not fit; labels outside ``0 … C - 1``.

    >>> negative_probability(torch.zeros(1, 4), torch.tensor([1]))
    tensor([-0.2500])
    """
    log_p, _, _ = _of_labels(logits, labels, None, None)
    return -log_p.exp()


def _of_labels(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, ignored_label: int | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logarithm of the probability of each label, its weight, and whether it is ignored; all ``(…)``."""
    check_scores(logits)
    check_integer(labels)
    check_shape(labels, logits.shape[:-1], "labels", "the logits without their classes")
    check_with(labels, logits, "labels")
    if ignored_label is not None:
        check_whole(ignored_label, "ignored_label")
    check_labels(labels, logits.shape[-1], ignored_label)
    logits, labels = wide(logits), labels.long()
    ignored = None
    if ignored_label is not None:
        ignored = labels == ignored_label
        labels = labels.masked_fill(ignored, 0)
        logits = logits.masked_fill(ignored.unsqueeze(-1), 0)
    weights = None
    if class_weights is not None:
        check_floating(class_weights, "class_weights")
        check_shape(class_weights, logits.shape[-1:], "class_weights", "the classes")
        check_with(class_weights, logits, "class_weights")
        check_weights(class_weights, "class_weights")
        weights = class_weights.to(logits.dtype)[labels]
    return logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1), weights, ignored


def _without(ignored: Tensor | None, loss: Tensor) -> Tensor:
    return loss if ignored is None else loss.masked_fill(ignored, 0)
