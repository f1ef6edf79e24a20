"""Class losses of labels that are not one but a distribution: how the loss of each class is known at once.

With a soft plan a prediction has many labels, each with some mass. Most class losses need no value for each of these
pairs. The loss with label y is ``own_y + sum of others_c over all other classes c``, so that what counts of a plan is
the mass of each class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from losses.functional.numerics import check_shape
from losses.modules.base import ClassLoss, LossModule
from losses.modules.classes import BinaryCrossEntropy, FocalLoss, QualityFocalLoss, soft_one_hot, sum_of_classes
from losses.modules.combined import MultipleObjectiveLoss

_ELEMENTWISE = (nn.BCEWithLogitsLoss, BinaryCrossEntropy, FocalLoss, QualityFocalLoss)


@dataclass(frozen=True, eq=False)
class ClassLosses:
    """What a class contributes to the loss of a prediction, if it is the label and if it is not.

    Args:
        own: (…, C), if it is.
        others: (…, C), if it is not; None stands for 0.
    """

    own: Tensor
    others: Tensor | None = None

    def of_label(self, label: int) -> Tensor:
        """The losses (…) with one label for all; -1 is that of no class."""
        if label < 0:
            return self.own.new_zeros(self.own.shape[:-1]) if self.others is None else self.others.sum(-1)
        own = self.own[..., label]
        if self.others is None:
            return own
        return own + self.others[..., :label].sum(-1) + self.others[..., label + 1 :].sum(-1)

    def of_mass(self, mass: Tensor, total: Tensor) -> Tensor:
        """The losses (…) summed over labels.

        Args:
            mass: (…, C), that of each class; a constant.
            total: (…), the mass of all classes and of no class.
        """
        values = _weighted(self.own, mass)
        return values if self.others is None else values + _weighted(self.others, total.unsqueeze(-1) - mass)

    def scaled(self, factor: float) -> ClassLosses:
        """All losses times a factor."""
        if factor == 1:
            return self
        return ClassLosses(self.own * factor, None if self.others is None else self.others * factor)

    def __add__(self, other: ClassLosses) -> ClassLosses:
        if self.others is None or other.others is None:
            return ClassLosses(self.own + other.own, other.others if self.others is None else self.others)
        return ClassLosses(self.own + other.own, self.others + other.others)


def class_losses(loss: ClassLoss, logits: Tensor) -> ClassLosses | None:
    """The losses of all classes, or None if the loss is not known to be of this kind.

    Args:
        loss: A module with a method ``per_class(logits)``; ``torch.nn.CrossEntropyLoss``; losses of sigmoids with a
            value for each class, such as ``torch.nn.BCEWithLogitsLoss``; or a ``MultipleObjectiveLoss`` of these.
        logits: (…, C), float32 at least.
    """
    own = getattr(loss, "per_class", None)
    if own is not None:
        return own(logits)
    if type(loss) is nn.CrossEntropyLoss:
        return _of_cross_entropy(loss, logits)
    if type(loss) in _ELEMENTWISE:
        return ClassLosses(loss(logits, torch.ones_like(logits)), loss(logits, torch.zeros_like(logits)))
    if type(loss) is MultipleObjectiveLoss:
        return _of_several(loss, logits)
    return None


def values_of_labels(loss: ClassLoss, logits: Tensor, labels: Tensor, *, one_hot: bool = False) -> Tensor:
    """What a class loss gives for predictions with one label each, summed over the classes, (R,).

    Args:
        loss: Modules of this package are called with labels, of which -1 is no class; ``BCEWithLogitsLoss`` with
            one-hot targets; all others as said by ``one_hot``.
        logits: (R, C).
        labels: (R,), int64.
        one_hot: Whether targets are one-hot, and all zero for no class.

    Raises:
        ValueError: The loss gives something else than a value for each prediction, or each of its classes.
    """
    if type(loss) is MultipleObjectiveLoss:
        total: Any = 0
        for each, weight in zip(loss.losses.values(), loss.weights.values(), strict=True):
            total = total + values_of_labels(each, logits, labels, one_hot=one_hot) * weight
        return total
    dense = isinstance(loss, nn.BCEWithLogitsLoss) or (one_hot and not isinstance(loss, LossModule))
    values = loss(logits, soft_one_hot(labels, None, logits) if dense else labels)
    return sum_of_classes(values, logits)


def class_weights(loss: ClassLoss, logits: Tensor) -> Tensor | None:
    """How much each class counts (C,), as the weights of a loss with a softmax say; None if all count 1.

    Args:
        loss: A class loss.
        logits: (…, C).

    Raises:
        ValueError: There are not as many weights as classes; or there are weights in one of several losses.
    """
    if isinstance(loss, MultipleObjectiveLoss):
        found = [class_weights(each, logits) for each in loss.losses.values()]
        if len(found) > 1 and any(weights is not None for weights in found):
            raise ValueError("of several class losses none may have class weights: they would count predictions apart")
        return found[0]
    num_classes = logits.shape[-1]
    weights = None if isinstance(loss, nn.BCEWithLogitsLoss) else getattr(loss, "weight", None)
    if weights is not None:
        check_shape(weights, (num_classes,), "the weight of the class loss", "the classes of the logits")
    ignored = getattr(loss, "ignore_index", -1)
    if not 0 <= ignored < num_classes:
        return weights
    weights = logits.new_ones(num_classes) if weights is None else weights
    return weights.masked_fill(torch.arange(num_classes, device=weights.device) == ignored, 0)


def _of_cross_entropy(loss: nn.CrossEntropyLoss, logits: Tensor) -> ClassLosses | None:
    num_classes = logits.shape[-1]
    smoothing = loss.label_smoothing
    if smoothing and 0 <= loss.ignore_index < num_classes:
        return None
    own = -logits.log_softmax(-1)
    weights = class_weights(loss, logits)
    if weights is not None:
        own = own * weights.to(own)
    if not smoothing:
        return ClassLosses(own)
    share = smoothing / num_classes
    return ClassLosses(own * (1 - smoothing + share), own * share)


def _of_several(loss: MultipleObjectiveLoss, logits: Tensor) -> ClassLosses | None:
    parts = [class_losses(each, logits) for each in loss.losses.values()]
    total: ClassLosses | None = None
    for part, weight in zip(parts, loss.weights.values(), strict=True):
        if part is None:
            return None
        total = part.scaled(weight) if total is None else total + part.scaled(weight)
    return total


def _weighted(values: Tensor, mass: Tensor) -> Tensor:
    """Sums over the classes. What has no mass may be infinite, as it is where a logit is."""
    mass = mass.to(values.dtype)
    return (values.masked_fill(mass == 0, 0) * mass).sum(-1)
