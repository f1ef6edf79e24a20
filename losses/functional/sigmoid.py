"""Class losses with a sigmoid for each class: binary cross entropy and its focal relatives.

Every loss takes logits ``(…, C)`` and gives a loss ``(…, C)`` for each of them, not reduced, in float32 at least. The
targets come in one of two forms:

* dense: a floating (or boolean) tensor ``(…, C)``, the target of each class, in [0, 1]. With ``scores`` (…) these are
  multi-hot labels: a class with a target above 0 is labelled, and its target is multiplied by the score;
* sparse: an integer tensor ``(…)``, the label of each prediction; any number outside 0 … C - 1 means no class.
  ``scores`` (…) is the target of the labelled class, 1 unless given, and 0 is the target of all others. Prefer this
  form: it needs no one-hot tensor and is faster for unlabelled classes. Scores of unlabelled predictions are not read.

Targets and scores are constants from 0 to 1: no gradient flows into them. Finite logits have finite losses and
gradients. Replace padding with finite values before the call: masking afterwards fails, because NaN * 0 is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from losses.functional.elementwise import entropy, focal, quality_focal
from losses.functional.numerics import (
    background_loss,
    check_form,
    check_integer,
    check_labels,
    check_scores,
    check_shape,
    check_share,
    check_target_values,
    check_with,
    is_dense,
    power_of_p,
)
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_flag, check_not_negative
from ragged.values.precision import wide

# Of logits with targets of the same shape. The third argument says which are of a labelled class, if that is known, for
# a class may be labelled with a score of 0.
_Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@takes_batches(logits=1, targets=None, scores=0)
def binary_cross_entropy(logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
    """Binary cross entropy with hard or soft targets.

    ``-t log p - (1 - t) log(1 - p)`` with ``p = sigmoid(x)``.

    Args:
        logits: ``(…, C)``.
        targets: ``(…, C)``, or labels ``(…)``; see the module.
        scores: ``(…)``, the target of the labelled class, or of labelled classes; see the module.

    Returns:
        ``(…, C)``.

    Raises:
        ValueError, TypeError: Shapes do not match, or a dtype is not floating.

    >>> binary_cross_entropy(torch.tensor([[0.0, 2.0]]), torch.tensor([1]), scores=torch.tensor([0.5]))
    tensor([[0.6931, 1.1269]])
    """

    def loss(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
        return entropy(logits, targets)

    return per_class_loss(loss, logits, targets, scores, exponent=0)


@takes_batches(logits=1, targets=None, scores=0)
def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    scores: Tensor | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Focal loss with a sigmoid (Lin et al., RetinaNet, 2017).

    ``alpha_t (1 - p_t)^gamma BCE(x, t)`` with ``p_t = t p + (1 - t)(1 - p)`` and
    ``alpha_t = t alpha + (1 - t)(1 - alpha)``.

    Args:
        logits: ``(…, C)``.
        targets: ``(…, C)``, or labels ``(…)``; see the module.
        scores: ``(…)``, the target of the labelled class, or of labelled classes; see the module.
        alpha: Weight of the positives, in [0, 1]; ``None`` for no weights.
        gamma: Exponent; 0 is the binary cross entropy.

    Returns:
        ``(…, C)``.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> sigmoid_focal_loss(torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    tensor([[0.0433, 1.2376]])
    """
    check_share(alpha, "alpha")
    check_not_negative(gamma, "gamma")

    def loss(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
        return focal(logits, targets, alpha=alpha, gamma=gamma)

    scale = 1.0 if alpha is None else 1 - alpha
    return per_class_loss(loss, logits, targets, scores, exponent=gamma, scale=scale)


@takes_batches(logits=1, targets=None, scores=0)
def quality_focal_loss(logits: Tensor, targets: Tensor, *, scores: Tensor | None = None, beta: float = 2.0) -> Tensor:
    """Quality focal loss: the target of the labelled class is how good the box is (Li et al., GFL, 2020).

    ``|t - p|^beta BCE(x, t)``

    Args:
        logits: ``(…, C)``.
        targets: ``(…, C)``, or labels ``(…)``; see the module.
        scores: ``(…)``, the quality of the box, in [0, 1]; see the module.
        beta: Exponent.

    Returns:
        ``(…, C)``.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> quality_focal_loss(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.8]))
    tensor([[0.1733, 0.0624]])
    """
    check_not_negative(beta, "beta")

    def loss(logits: Tensor, targets: Tensor, _: Tensor | None) -> Tensor:
        return quality_focal(logits, targets, beta=beta)

    return per_class_loss(loss, logits, targets, scores, exponent=beta)


@takes_batches(logits=1, targets=None, scores=0)
def varifocal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    scores: Tensor | None = None,
    alpha: float = 0.75,
    gamma: float = 2.0,
    detach_weights: bool = True,
) -> Tensor:
    """Varifocal loss: positives weighted by their quality, negatives by their probability (Zhang et al., 2021).

    ``t BCE(x, t)`` for positives, ``alpha p^gamma BCE(x, 0)`` for negatives.

    A class is positive if it is the labelled one, whatever its score, or, with dense targets, if its target is above 0.
    The two forms differ for boxes with IoU 0: with labels and scores, as in the family of DETR, their loss is 0;
    with dense targets alone, as in the paper, they are negatives.

    Args:
        logits: ``(…, C)``.
        targets: ``(…, C)``, or labels ``(…)``; see the module.
        scores: ``(…)``, the IoU of the box with its target; see the module.
        alpha: Weight of the negatives.
        gamma: Exponent.
        detach_weights: Whether ``p^gamma`` is a constant for the gradient, as in RT-DETR and D-FINE. Scores always are.

    Returns:
        ``(…, C)``.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> varifocal_loss(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.8]))
    tensor([[0.1300, 0.5545]])
    """
    check_not_negative(alpha, "alpha")
    check_not_negative(gamma, "gamma")
    check_flag(detach_weights, "detach_weights")

    def loss(logits: Tensor, targets: Tensor, positive: Tensor | None) -> Tensor:
        weights = alpha * power_of_p(logits, gamma, detach=detach_weights)
        weights = torch.where(targets > 0 if positive is None else positive, targets, weights)
        return weights * entropy(logits, targets)

    return per_class_loss(loss, logits, targets, scores, exponent=gamma, scale=alpha, detach=detach_weights)


@takes_batches(logits=1, targets=None, scores=0)
def matchability_aware_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    scores: Tensor | None = None,
    gamma: float = 1.5,
    detach_weights: bool = True,
) -> Tensor:
    """Matchability-aware loss, which penalises low-quality matches (Huang et al., DEIM, 2025).

    ``BCE(x, t^gamma)`` for positives, ``p^gamma BCE(x, 0)`` for negatives; which are which is as in ``varifocal_loss``.

    Args:
        logits: ``(…, C)``.
        targets: ``(…, C)``, or labels ``(…)``; see the module.
        scores: ``(…)``, the IoU of the box with its target, not yet raised to gamma; see the module.
        gamma: Exponent of both.
        detach_weights: Whether ``p^gamma`` is a constant for the gradient.

    Returns:
        ``(…, C)``.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> matchability_aware_loss(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.25]))
    tensor([[0.2451, 0.6931]])
    """
    check_not_negative(gamma, "gamma")
    check_flag(detach_weights, "detach_weights")

    def loss(logits: Tensor, targets: Tensor, positive: Tensor | None) -> Tensor:
        weights = power_of_p(logits, gamma, detach=detach_weights)
        positive = targets > 0 if positive is None else positive
        return weights.masked_fill(positive, 1) * entropy(logits, (targets**gamma).where(positive, 0))

    return per_class_loss(loss, logits, targets, scores, exponent=gamma, detach=detach_weights)


@takes_batches(logits=1, labels=0)
def sigmoid_focal_cost(logits: Tensor, labels: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0) -> Tensor:
    """The change of the focal loss if a prediction gets its label (Zhu et al., Deformable DETR, 2021).

    ``alpha (1 - p)^gamma (-log p) - (1 - alpha) p^gamma (-log(1 - p))`` with the probability p of the labelled class.
    Unlike ``matchers.focal_cost``, it has a gradient. It can be negative.

    Args:
        logits: ``(…, C)``.
        labels: ``(…)``, each a class.
        alpha: Weight of the positive part, in [0, 1]; ``None`` for no weights.
        gamma: Exponent.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes, dtypes or parameters that do not fit; labels outside ``0 … C - 1``.

    >>> sigmoid_focal_cost(torch.tensor([[0.0, 2.0]]), torch.tensor([1]))
    tensor([-1.2371])
    """
    check_scores(logits)
    check_share(alpha, "alpha")
    check_not_negative(gamma, "gamma")
    check_integer(labels)
    check_shape(labels, logits.shape[:-1], "labels", "the logits without their classes")
    check_with(labels, logits, "labels")
    check_labels(labels, logits.shape[-1], None)
    own = wide(logits.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1))
    return focal_difference(own, alpha=alpha, gamma=gamma)


def focal_difference(logits: Tensor, *, alpha: float | None, gamma: float) -> Tensor:
    """``sigmoid_focal_cost`` of the logits ``(…)`` of labelled classes, which were checked before."""
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return background_loss(-logits, gamma, scale=positive) - background_loss(logits, gamma, scale=negative)


def per_class_loss(
    loss: _Loss,
    logits: Tensor,
    targets: Tensor,
    scores: Tensor | None,
    *,
    exponent: float,
    scale: float = 1.0,
    detach: bool = False,
) -> Tensor:
    """``loss``, in whichever form the targets are; where a target is 0 it is ``scale p^exponent BCE(x, 0)``."""
    check_scores(logits)
    check_form(logits, targets, scores)
    check_target_values(targets, scores, logits.shape[-1])
    logits = wide(logits)
    if is_dense(targets):
        own_targets = targets.detach().to(logits.dtype)
        if scores is None:
            return loss(logits, own_targets, None)
        positive = own_targets > 0
        scored = own_targets * scores.detach().to(logits.dtype).unsqueeze(-1)
        return loss(logits, torch.where(positive, scored, 0), positive)
    labelled = (targets >= 0) & (targets < logits.shape[-1])
    index = targets.where(labelled, 0).long().unsqueeze(-1)
    own_targets = (labelled if scores is None else scores.detach().where(labelled, 0)).to(logits.dtype).unsqueeze(-1)
    own = loss(logits.gather(-1, index), own_targets, labelled.unsqueeze(-1))
    return background_loss(logits, exponent, scale=scale, detach=detach).scatter(-1, index, own)
