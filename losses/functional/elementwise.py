"""Losses of single logits and their targets ``(…)``: the formulas of classes that are labelled.

All take float32 at least, and targets from 0 to 1, which are constants; ``None`` stands for 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from losses.functional.numerics import background_loss, power, softplus, with_slope


def entropy(logits: Tensor, targets: Tensor | None) -> Tensor:
    """``BCE(x, t) = -t log p - (1 - t) log(1 - p)`` with ``p = sigmoid(x)``.

    >>> entropy(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.5]))
    tensor([0.6931, 1.1269])
    """
    if targets is None:
        return softplus(-logits)
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def focal(logits: Tensor, targets: Tensor | None, *, alpha: float | None, gamma: float) -> Tensor:
    """``alpha_t (1 - p_t)^gamma BCE(x, t)``, see ``sigmoid_focal_loss``.

    >>> focal(torch.tensor([0.0]), None, alpha=0.25, gamma=2.0)
    tensor([0.0433])
    """
    if targets is None:
        return background_loss(-logits, gamma, scale=1.0 if alpha is None else alpha)
    # Of 1 - p_t, each end is computed on its own: 1 - p would lose its digits where p is close to 1.
    wrong = torch.lerp(logits.sigmoid(), (-logits).sigmoid(), targets)
    loss = power(wrong, gamma) * entropy(logits, targets)
    return loss if alpha is None else loss * (targets * (2 * alpha - 1) + (1 - alpha))


def quality_focal(logits: Tensor, targets: Tensor | None, *, beta: float) -> Tensor:
    """``|t - p|^beta BCE(x, t)``, see ``quality_focal_loss``.

    >>> quality_focal(torch.tensor([0.0]), torch.tensor([0.8]), beta=2.0)
    tensor([0.0624])
    """
    if targets is None:
        return background_loss(-logits, beta)

    def plain(x: Tensor) -> Tensor:
        return power((targets - x.sigmoid()).abs(), beta) * entropy(x, targets)

    def closed(x: Tensor) -> tuple[Tensor, Tensor]:
        p, loss = x.sigmoid(), entropy(x, targets)
        apart = p - targets
        weight, spread = apart.square(), torch.addcmul(p, p, p, value=-1)
        slope = torch.addcmul(weight, spread, loss, value=2).mul_(apart)
        return loss.mul_(weight), slope

    return with_slope(closed, plain, logits) if beta == 2 else plain(logits)


def varifocal(logits: Tensor, targets: Tensor | None) -> Tensor:
    """``t BCE(x, t)``, see ``varifocal_loss``.

    >>> varifocal(torch.tensor([0.0]), torch.tensor([0.8]))
    tensor([0.5545])
    """
    loss = entropy(logits, targets)
    return loss if targets is None else targets * loss


def matchability_aware(logits: Tensor, targets: Tensor | None, *, gamma: float) -> Tensor:
    """``BCE(x, t^gamma)``, see ``matchability_aware_loss``.

    >>> matchability_aware(torch.tensor([0.0]), torch.tensor([0.25]), gamma=1.5)
    tensor([0.6931])
    """
    return entropy(logits, None if targets is None else targets**gamma)


def iou_aware(logits: Tensor, targets: Tensor | None, *, alpha: float, lowest: float) -> Tensor:
    """``BCE(x, max(p^alpha t^(1 - alpha), lowest))``, see ``iou_aware_binary_cross_entropy``.

    >>> iou_aware(torch.tensor([0.0]), torch.tensor([0.25]), alpha=0.25, lowest=0.01)
    tensor([0.6931])
    """
    return entropy(logits, iou_aware_target(logits, targets, alpha=alpha, lowest=lowest))


def iou_aware_target(logits: Tensor, targets: Tensor | None, *, alpha: float, lowest: float) -> Tensor:
    """``max(p^alpha t^(1 - alpha), lowest)``, a constant.

    >>> iou_aware_target(torch.tensor([0.0]), torch.tensor([0.25]), alpha=0.5, lowest=0.01)
    tensor([0.3536])
    """
    mean = power(logits.detach().sigmoid(), alpha)
    mean = mean if targets is None else mean * power(targets, 1 - alpha)
    return mean.clamp(min=lowest)
