"""Losses of classes as modules, with a value for each class."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.functional import elementwise
from losses.functional.iou_aware import check_parameters, iou_aware_binary_cross_entropy
from losses.functional.numerics import check_form, check_share, check_target_values
from losses.functional.sigmoid import (
    binary_cross_entropy,
    matchability_aware_loss,
    quality_focal_loss,
    sigmoid_focal_loss,
    varifocal_loss,
)
from losses.modules.adapters import traits_of
from losses.modules.base import ClassLoss, LossModule
from losses.modules.closed_forms import can_sum_classes, summed_over_classes
from losses.modules.of_mass import ClassLosses, of_elements
from losses.modules.traits import Background
from ragged.values.checks import check_flag, check_not_negative
from ragged.values.precision import wide


class BinaryCrossEntropy(LossModule):
    """``binary_cross_entropy`` of logits with labels and scores, or with dense targets.

    >>> BinaryCrossEntropy()(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[0.6931, 0.6931]])
    """

    of_quality = False

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        return self.reduced(binary_cross_entropy(logits, targets, scores=scores))

    def background(self) -> Background:
        """See ``LossModule``."""
        return Background(scale=self.loss_weight)

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(elementwise.entropy(logits, scores))

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The losses of all classes."""
        return of_elements(self, logits)


class QualityFocalLoss(LossModule):
    """``quality_focal_loss`` of logits with labels and scores, or with dense targets.

    >>> QualityFocalLoss()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.1733, 0.0433]])
    """

    def __init__(self, *, beta: float = 2.0, reduction: str = "none", loss_weight: float = 1.0) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_not_negative(beta, "beta")
        self.beta = beta

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        return self.reduced(quality_focal_loss(logits, targets, scores=scores, beta=self.beta))

    def background(self) -> Background:
        """See ``LossModule``."""
        return Background(self.beta, self.loss_weight)

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(elementwise.quality_focal(logits, scores, beta=self.beta))

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The losses of all classes."""
        return of_elements(self, logits)


class FocalLoss(LossModule):
    """``sigmoid_focal_loss`` of logits with labels and scores, or with dense targets, one value for each class.

    >>> FocalLoss()(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[0.1300, 0.0433]])
    """

    of_quality = False

    def __init__(
        self, *, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_share(alpha, "alpha")
        check_not_negative(gamma, "gamma")
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        return self.reduced(sigmoid_focal_loss(logits, targets, scores=scores, alpha=self.alpha, gamma=self.gamma))

    def background(self) -> Background:
        """See ``LossModule``."""
        return Background(self.gamma, self.loss_weight * (1.0 if self.alpha is None else 1 - self.alpha))

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(elementwise.focal(logits, scores, alpha=self.alpha, gamma=self.gamma))

    def per_class(self, logits: Tensor) -> ClassLosses:
        """The losses of all classes."""
        return of_elements(self, logits)


class VarifocalLoss(LossModule):
    """``varifocal_loss`` of logits with labels and scores, or with dense targets.

    >>> VarifocalLoss()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.1300, 0.5199]])
    """

    def __init__(
        self,
        *,
        alpha: float = 0.75,
        gamma: float = 2.0,
        detach_weights: bool = True,
        reduction: str = "none",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_not_negative(alpha, "alpha")
        check_not_negative(gamma, "gamma")
        check_flag(detach_weights, "detach_weights")
        self.alpha, self.gamma, self.detach_weights = alpha, gamma, bool(detach_weights)

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        loss = varifocal_loss(
            logits, targets, scores=scores, alpha=self.alpha, gamma=self.gamma, detach_weights=self.detach_weights
        )
        return self.reduced(loss)

    def background(self) -> Background:
        """See ``LossModule``."""
        return Background(self.gamma, self.loss_weight * self.alpha, self.detach_weights)

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(elementwise.varifocal(logits, scores))


class MatchabilityAwareLoss(LossModule):
    """``matchability_aware_loss`` of logits with labels and scores, or with dense targets.

    >>> MatchabilityAwareLoss()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.2451, 0.6931]])
    """

    def __init__(
        self, *, gamma: float = 1.5, detach_weights: bool = True, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_not_negative(gamma, "gamma")
        check_flag(detach_weights, "detach_weights")
        self.gamma, self.detach_weights = gamma, bool(detach_weights)

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        loss = matchability_aware_loss(
            logits, targets, scores=scores, gamma=self.gamma, detach_weights=self.detach_weights
        )
        return self.reduced(loss)

    def background(self) -> Background:
        """See ``LossModule``."""
        return Background(self.gamma, self.loss_weight, self.detach_weights)

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(elementwise.matchability_aware(logits, scores, gamma=self.gamma))


class IoUAwareBinaryCrossEntropy(LossModule):
    """``iou_aware_binary_cross_entropy`` of logits with labels and scores, or with dense targets.

    >>> IoUAwareBinaryCrossEntropy()(torch.zeros(1, 2), torch.tensor([1]), scores=torch.tensor([0.75]))
    tensor([[0.1733, 0.6931]])
    """

    def __init__(
        self,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        lowest: float = 0.01,
        reduction: str = "none",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_parameters(alpha, gamma, lowest)
        self.alpha, self.gamma, self.lowest = alpha, gamma, lowest

    def forward(self, logits: Tensor, targets: Tensor, *, scores: Tensor | None = None) -> Tensor:
        """Logits (…, C) to losses (…, C)."""
        loss = iou_aware_binary_cross_entropy(
            logits, targets, scores=scores, alpha=self.alpha, gamma=self.gamma, lowest=self.lowest
        )
        return self.reduced(loss)

    def background(self) -> Background:
        """See ``LossModule``."""
        return Background(self.gamma, self.loss_weight)

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(elementwise.iou_aware(logits, scores, alpha=self.alpha, lowest=self.lowest))


def class_values(
    loss: ClassLoss,
    logits: Tensor,
    labels: Tensor,
    scores: Tensor | None = None,
    *,
    class_mask: Tensor | None = None,
) -> Tensor:
    """The values of a class loss for predictions with logits (…, C) and labels (…) or (…, C), summed over classes: (…).

    Whatever dtype the logits have, the loss is given float32 at least.

    Args:
        loss, logits, labels, scores: See the module.
        class_mask: Broadcasts to (…, C): which classes count.

    Raises:
        ValueError: There is a mask, and the loss does not give a value for each class; or it gives something else.
    """
    traits = traits_of(loss)
    check_form(logits, labels, scores)
    check_target_values(labels, scores, logits.shape[-1])
    background = traits.background()
    if background is not None and class_mask is None and can_sum_classes(labels):
        exponent, scale, detach = background
        return summed_over_classes(
            logits, labels, scores, own=traits.of_labelled, exponent=exponent, scale=scale, detach_weights=detach
        )
    logits = wide(logits)
    if class_mask is not None:  # what does not count may be anything, NaN too
        logits = logits.masked_fill(class_mask == 0, 0)
    return sum_of_classes(traits.with_scores(logits, labels, scores), logits, class_mask)


def labelled_values(loss: ClassLoss, logits: Tensor, scores: Tensor) -> Tensor:
    """What a class loss of one class gives for logits (…) of predictions that all are of it, with scores (…): (…)."""
    traits = traits_of(loss)
    if traits.background() is None:
        return class_values(loss, logits.unsqueeze(-1), torch.zeros_like(logits, dtype=torch.int64), scores)
    return traits.of_labelled(wide(logits), scores.detach())


def sum_of_classes(values: Tensor, logits: Tensor, class_mask: Tensor | None = None) -> Tensor:
    """The values of a class loss for logits (…, C), summed over classes where it has one for each: (…).

    Raises:
        ValueError: It is neither, or there is a mask of classes and no value for each of them.
    """
    if values.shape not in (logits.shape, logits.shape[:-1]):
        raise ValueError(
            f"a class loss of logits {tuple(logits.shape)} must give a value for each class or each prediction, "
            f"got {tuple(values.shape)}"
        )
    if values.dim() < logits.dim():
        if class_mask is not None:
            raise ValueError("a mask of classes needs a class loss (…, C) with a value for each class, got (…)")
        return values
    return (values if class_mask is None else values * class_mask).sum(-1)
