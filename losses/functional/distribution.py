"""Losses of distances that are predicted as distributions over R bins.

Every loss takes logits ``(…, R)``, one distribution for each edge of a box, and gives a loss ``(…)``, not reduced, in
float32 at least. Targets, weights and teachers are constants: no gradient flows into them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.functional.numerics import check_broadcasts, check_floating, check_scores, check_shape, check_with
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_number
from ragged.values.once import known_row
from ragged.values.precision import wide

# How far a target stays from the last bin, so that it has a neighbour on its right.
_MARGIN = 0.01


@takes_batches(logits=1, distances=0)
def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss: cross entropy with the two bins next to the target (Li et al., GFL, 2020).

    ``-(n + 1 - y) log p_n - (y - n) log p_(n + 1)`` with ``n = floor(y)``.

    Args:
        logits: ``(…, R)``, R ≥ 2. Bin n stands for the distance n.
        distances: ``(…)``, y, in bins: for a distance in pixels divide by the stride. They are clamped to [0, R -
            1.01].

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes do not match, or a dtype is not floating.

    >>> logits = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    >>> distribution_focal_loss(logits, torch.tensor([2.5]))
    tensor([0.6931])
    """
    check_scores(logits, last="R", at_least=2)
    check_floating(distances, "distances")
    check_shape(distances, logits.shape[:-1], "distances", "the logits without their bins")
    check_with(distances, logits, "distances")
    logits = wide(logits)
    distances = distances.detach().to(logits.dtype).clamp(0, logits.shape[-1] - 1 - _MARGIN)
    # How near a bin is to the target, 0 but for two of them; negated.
    far = (known_row(range(logits.shape[-1]), distances) - distances.unsqueeze(-1)).abs_()
    return (logits.log_softmax(-1) * far.sub_(1).clamp_(max=0)).sum(-1)


@takes_batches(logits=1, left=0, weight_left=0, weight_right=0, quality=0)
def fine_grained_localization_loss(
    logits: Tensor, left: Tensor, *, weight_left: Tensor, weight_right: Tensor, quality: Tensor | None = None
) -> Tensor:
    """Fine-grained localisation loss (Peng et al., D-FINE, 2024): distribution focal loss for bins of uneven width.

    ``-IoU (w_left log p_n + w_right log p_(n + 1))``

    Args:
        logits: ``(…, R)``, R ≥ 2.
        left: ``(…)``, integer or floating; its whole part is n, the bin on the left of the target. It is clamped to 0
            … R - 2.
        weight_left: ``(…)``, weight of bin n.
        weight_right: ``(…)``, how near it is to bin n + 1.
        quality: Broadcasts to ``(…)``: the IoU of the box with its target, 1 unless given. A quality of 0 gives a loss
            of 0, even if all are 0.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes do not match, or a dtype is not floating.

    >>> half = torch.tensor([0.5])
    >>> fine_grained_localization_loss(torch.zeros(1, 4), torch.tensor([1]), weight_left=half, weight_right=half)
    tensor([1.3863])
    """
    check_scores(logits, last="R", at_least=2)
    for value, name in ((left, "left"), (weight_left, "weight_left"), (weight_right, "weight_right")):
        check_shape(value, logits.shape[:-1], name, "the logits without their bins")
        check_with(value, logits, name)
    logits = wide(logits)
    loss = _two_bins(logits, left, weight_left.detach().to(logits.dtype), weight_right.detach().to(logits.dtype))
    if quality is None:
        return loss
    check_broadcasts(quality, loss.shape, "quality", "the logits without their bins")
    check_with(quality, logits, "quality")
    return loss * quality.detach().to(logits.dtype)


@takes_batches(logits=1, teacher=1)
def decoupled_distillation_loss(logits: Tensor, teacher: Tensor, *, temperature: float = 5.0) -> Tensor:
    """Decoupled distillation focal loss, of one edge: what a layer learns from the last (Peng et al., D-FINE, 2024).

    ``T² KL(softmax(teacher / T) ‖ softmax(x / T))``, summed over the bins. The weights of matched and unmatched
    predictions are the caller's.

    Args:
        logits: ``(…, R)``.
        teacher: ``(…, R)``, logits, without a gradient.
        temperature: T.

    Returns:
        ``(…)``; 0 where both are equal.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> decoupled_distillation_loss(torch.tensor([[0.0, 5.0]]), torch.tensor([[5.0, 0.0]]))
    tensor([11.5529])
    """
    check_scores(logits, last="R")
    check_floating(teacher, "teacher")
    check_shape(teacher, logits.shape, "teacher", "the logits")
    check_with(teacher, logits, "teacher")
    check_number(temperature, "temperature")
    return _distillation(logits, teacher, temperature).sum(-1) * temperature**2


def mean_distillation(logits: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """The mean of ``decoupled_distillation_loss`` over the sides (…, 4, R); the teacher broadcasts."""
    return _distillation(logits, teacher, temperature).sum((-2, -1)) * (temperature**2 / logits.shape[-2])


def _distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """For each bin, ``q log (q / p)`` of tempered probabilities."""
    logits = wide(logits)
    log_p = (logits / temperature).log_softmax(-1)
    log_q = (teacher.detach().to(logits.dtype) / temperature).log_softmax(-1)
    return log_q.exp() * (log_q - log_p)


def _two_bins(logits: Tensor, position: Tensor, weight_left: Tensor, weight_right: Tensor) -> Tensor:
    """``-w_left log p_n - w_right log p_(n + 1)``, n being the whole part of ``position``."""
    # Bounded as an integer, for a NaN may become any.
    left = position.detach().long().clamp(0, logits.shape[-1] - 2).unsqueeze(-1)
    log_p = logits.log_softmax(-1).gather(-1, left + known_row((0, 1), left))
    return -(log_p * torch.stack([weight_left, weight_right], -1)).sum(-1)
