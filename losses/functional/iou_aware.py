"""The loss of classes whose target is a mean of the predicted probability and of the IoU of the box."""

from __future__ import annotations

from torch import Tensor

from losses.functional.elementwise import entropy, iou_aware_target
from losses.functional.numerics import check_share, power_of_p
from losses.functional.sigmoid import per_class_loss
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_not_negative


@takes_batches(logits=1, targets=None, scores=0)
def iou_aware_binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    scores: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    lowest: float = 0.01,
) -> Tensor:
    """Binary cross entropy with a target between probability and IoU (Chen et al., LW-DETR, 2024).

    ``BCE(x, t)`` with ``t = max(p^alpha s^(1 - alpha), lowest)`` for positives of score s, where t is a constant for
    the gradient; ``p^gamma BCE(x, 0)`` for negatives. ``varifocal_loss`` defines positives and negatives.

    Args:
        logits: ``(…, C)``.
        targets: ``(…, C)``, or labels ``(…)``; see the module ``losses.functional.sigmoid``.
        scores: ``(…)``, the IoU of the box with its target; only with labels.
        alpha: Exponent of the probability, in [0, 1].
        gamma: Exponent of the negatives.
        lowest: Lower bound of the target of positives, in [0, 1].

    Returns:
        ``(…, C)``.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    Differences to other implementations: transformers takes the log of probabilities, which is infinite for large
    logits; this loss computes it from the logits.

    >>> iou_aware_binary_cross_entropy(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.25]))
    tensor([[0.1733, 0.6931]])
    """
    check_parameters(alpha, gamma, lowest)

    def loss(logits: Tensor, targets: Tensor, positive: Tensor | None) -> Tensor:
        positive = targets > 0 if positive is None else positive
        mixed = iou_aware_target(logits, targets, alpha=alpha, lowest=lowest).where(positive, 0)
        return power_of_p(logits, gamma).masked_fill(positive, 1) * entropy(logits, mixed)

    return per_class_loss(loss, logits, targets, scores, exponent=gamma)


def check_parameters(alpha: float, gamma: float, lowest: float) -> None:
    """Raise unless the parameters of the loss are in their ranges."""
    for value, name in ((alpha, "alpha"), (gamma, "gamma"), (lowest, "lowest")):
        check_not_negative(value, name)
    check_share(alpha, "alpha")
    check_share(lowest, "lowest")
