"""Class losses that give one value for each prediction, and that serve as costs of a matcher too."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from losses.functional.numerics import (
    background_loss,
    check_floating,
    check_integer,
    check_shape,
    check_share,
    check_with,
)
from losses.functional.sigmoid import focal_difference, sigmoid_focal_cost, sigmoid_focal_loss
from losses.functional.softmax import cross_entropy, negative_probability
from losses.modules.base import LossModule
from losses.modules.of_mass import ClassLosses
from matchers.costs.classes import focal_cost
from matchers.costs.multi_hot import cost_of_labels, probability_of_labels
from matchers.pairs.pairs import Pairs
from ragged.interop.operands import method_takes_batches, takes_batches
from ragged.values.checks import check_not_negative, check_number, check_shares, check_weights
from ragged.values.once import once
from ragged.values.precision import wide


class NegativeProbLoss(LossModule):
    """Minus the softmax probability of the label (Carion et al., DETR, 2020).

    Use it as a training loss, or as a class cost of a matcher.

    Args:
        reduction, loss_weight: See ``LossModule``.

    >>> NegativeProbLoss(reduction="none")(torch.zeros(1, 4), torch.tensor([1]))
    tensor([-0.2500])
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses (…).

        Args:
            logits: (…, C).
            targets: Labels (…), of which -1 is no class and has loss 0; or one-hot targets (…, C), floating.
        """
        return self.reduced(_negative_probability(logits, targets))

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The losses of all classes."""
        return ClassLosses(-wide(logits).softmax(-1)).scaled(self.loss_weight)

    @torch.no_grad()
    def pair_cost(self, pairs: Pairs) -> Tensor:
        """Costs (R, P) of pairs of targets and predictions."""
        return probability_of_labels(pairs).mul_(-self.loss_weight)


@takes_batches(logits=1, targets=None)
def _negative_probability(logits: Tensor, targets: Tensor) -> Tensor:
    if is_dense(logits, targets):
        return -(wide(logits).softmax(-1) * targets.detach()).sum(-1)
    check_integer(targets, "targets")
    none = targets == -1
    return negative_probability(logits, targets.masked_fill(none, 0)).masked_fill(none, 0)


class CrossEntropy(LossModule):
    """Cross entropy with the softmax over the classes and a background, the last of them (Carion et al., DETR, 2020).

    ``-w_y log p_y``, where the background has the weight ``eos_coef``. A criterion divides by the sum of the weights,
    as ``torch.nn.CrossEntropyLoss`` does.

    Args:
        eos_coef: Weight of the background; that of every other class is 1. DETR has 0.1.
        weight: (C - 1,), weights of the other classes, finite and not negative.
        reduction, loss_weight: See ``LossModule``.

    >>> CrossEntropy(eos_coef=0.1)(torch.zeros(2, 4), torch.tensor([1, -1]))
    tensor([1.3863, 0.1386])
    """

    has_background = True
    weight: Tensor | None

    def __init__(
        self,
        *,
        eos_coef: float = 0.1,
        weight: Tensor | None = None,
        reduction: str = "none",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_not_negative(eos_coef, "eos_coef")
        if weight is not None:
            check_floating(weight, "weight")
            check_weights(weight, "weight")
        self.eos_coef = eos_coef
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses (…).

        Args:
            logits: (…, C), those of the background last.
            targets: Labels (…), of which C - 1 and -1 are the background.
        """
        return self.reduced(self._values(logits, targets))

    @method_takes_batches(logits=1, targets=0)
    def _values(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_floating(logits, "logits")
        check_integer(targets, "targets")
        labels = targets.masked_fill(targets == -1, logits.shape[-1] - 1)
        return cross_entropy(logits, labels, class_weights=self.class_weights(logits))

    def class_weights(self, logits: Tensor) -> Tensor:
        """(C,), float32 at least."""
        num_classes = logits.shape[-1]
        if self.weight is not None:
            check_shape(self.weight, (num_classes - 1,), "weight", "the classes of the logits but the background")
            weights = wide(self.weight)
            return torch.cat([weights, weights.new_full((1,), self.eos_coef)])
        last = torch.arange(num_classes, device=logits.device) == num_classes - 1
        return torch.ones_like(last, dtype=wide(logits).dtype).masked_fill(last, self.eos_coef)

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The losses of all classes."""
        return ClassLosses(-wide(logits).log_softmax(-1) * self.class_weights(logits)).scaled(self.loss_weight)


class _Focal(LossModule):
    """The base class of focal losses: ``alpha`` below 0 or None means no weights."""

    def __init__(self, *, alpha: float | None, gamma: float, reduction: str = "none", loss_weight: float = 1.0) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        if alpha is not None:
            check_number(alpha, "alpha", low=None)
            alpha = None if alpha < 0 else alpha
        check_share(alpha, "alpha")
        check_not_negative(gamma, "gamma")
        self.alpha, self.gamma = alpha, gamma

    def _scales(self) -> tuple[float, float]:
        """Of the positive and of the negative part."""
        return (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)

    def _cost_of_label(self, pairs: Pairs) -> Tensor:
        """The change of the loss if predictions get the labels of their pairs, (R, P)."""
        alpha = 0.5 if self.alpha is None else self.alpha
        cost = cost_of_labels(pairs, partial(focal_cost, alpha=alpha, gamma=self.gamma))
        return cost.mul_(2) if self.alpha is None else cost


class SigmoidFocalLoss(_Focal):
    """``sigmoid_focal_loss``, summed over the classes (Lin et al., RetinaNet, 2017).

    ``sum over c of y_c alpha (1 - p_c)^gamma (-log p_c) + (1 - y_c) (1 - alpha) p_c^gamma (-log(1 - p_c))``

    ``FocalLoss`` is the same with a value for each class.

    Args:
        alpha: Weight of the positives, in [0, 1]. None, or a number below 0, is for no weights.
        gamma: Exponent.
        reduction, loss_weight: See ``LossModule``.

    >>> loss = SigmoidFocalLoss(alpha=0.25)
    >>> loss(torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    tensor([1.2809])
    >>> loss(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([1.2809])
    """

    def __init__(
        self, *, alpha: float | None = None, gamma: float = 2.0, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(alpha=alpha, gamma=gamma, reduction=reduction, loss_weight=loss_weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses (…).

        Args:
            logits: (…, C).
            targets: Labels (…), of which any number that is no class means that there is none; or targets (…, C) from 0
                to 1, floating.
        """
        return self.reduced(torch.sum(sigmoid_focal_loss(logits, targets, alpha=self.alpha, gamma=self.gamma), -1))

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The losses of all classes."""
        logits, (positive, negative) = wide(logits), self._scales()
        own = background_loss(-logits, self.gamma, scale=positive)
        others = background_loss(logits, self.gamma, scale=negative)
        return ClassLosses(own, others).scaled(self.loss_weight)

    @torch.no_grad()
    def pair_cost(self, pairs: Pairs) -> Tensor:
        """Costs (R, P) of pairs of targets and predictions."""
        problem = pairs.problem

        def make() -> Tensor:
            logits = wide(problem.need_logits("SigmoidFocalLoss"))
            return background_loss(logits, self.gamma, scale=self._scales()[1]).sum(-1)

        of_background = once(problem.computed, f"focal loss {self.alpha} {self.gamma}", make)
        return self._cost_of_label(pairs).add_(pairs.of_sample(of_background)).mul_(self.loss_weight)


class SigmoidFocalCost(_Focal):
    """``sigmoid_focal_cost``: the change of the focal loss if a prediction gets its label.

    ``alpha (1 - p)^gamma (-log p) - (1 - alpha) p^gamma (-log(1 - p))`` with the probability p of the label (Zhu et
    al., Deformable DETR, 2021). It may be negative.

    Args:
        alpha: Weight of the positive part, in [0, 1]. None, or a number below 0, is for no weights.
        gamma: Exponent.
        reduction, loss_weight: See ``LossModule``.

    Differences to other implementations: uotod takes an alpha and computes without it.

    >>> SigmoidFocalCost(alpha=0.25)(torch.tensor([[0.0, 2.0]]), torch.tensor([1]))
    tensor([-1.2371])
    """

    def __init__(
        self, *, alpha: float | None = None, gamma: float = 2.0, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(alpha=alpha, gamma=gamma, reduction=reduction, loss_weight=loss_weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Costs (…).

        Args:
            logits: (…, C).
            targets: Labels (…), of which -1 is no class and has cost 0; or one-hot targets (…, C), floating.
        """
        return self.reduced(self._values(logits, targets))

    @method_takes_batches(logits=1, targets=None)
    def _values(self, logits: Tensor, targets: Tensor) -> Tensor:
        if is_dense(logits, targets):
            return (self._own(wide(logits)) * targets.detach()).sum(-1)
        check_integer(targets, "targets")
        none = targets == -1
        cost = sigmoid_focal_cost(logits, targets.masked_fill(none, 0), alpha=self.alpha, gamma=self.gamma)
        return cost.masked_fill(none, 0)

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The costs of all classes."""
        return ClassLosses(self._own(wide(logits))).scaled(self.loss_weight)

    @torch.no_grad()
    def pair_cost(self, pairs: Pairs) -> Tensor:
        """Costs (R, P) of pairs of targets and predictions."""
        return self._cost_of_label(pairs).mul_(self.loss_weight)

    def _own(self, logits: Tensor) -> Tensor:
        return focal_difference(logits, alpha=self.alpha, gamma=self.gamma)


def is_dense(logits: Tensor, targets: Tensor) -> bool:
    """Whether targets are one-hot, floating, and not labels; a ``ValueError`` if they are of another shape then."""
    check_floating(logits, "logits")
    if not isinstance(targets, Tensor) or not targets.is_floating_point():
        return False
    check_shape(targets, logits.shape, "one-hot targets", "the logits")
    check_with(targets, logits, "targets")
    check_shares(targets, "one-hot targets")
    return True
