"""A class loss whose classes count unequally."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from losses.functional.numerics import check_floating
from losses.modules.adapters import traits_of
from losses.modules.base import ClassLoss
from losses.modules.of_mass import ClassLosses
from losses.modules.traits import LossTraits
from ragged.values.checks import check_is_callable, check_weights
from ragged.values.precision import WideModule


class WeightedClasses(LossTraits, WideModule):
    """A class loss times a weight for each class, for ``loss_cls=`` of any criterion.

    What divides the loss stays the same: ``torch.nn.CrossEntropyLoss(weight=…)`` and ``CrossEntropy(weight=…)`` are
    divided by the weights of their labels instead.

    Args:
        loss: A class loss with a value for each class, such as ``FocalLoss``.
        weight: (C,), finite and not negative.

    Raises:
        TypeError, ValueError: Weights are out of range; in a call, there are not as many as classes, or the loss has
            one value for all classes.

    >>> loss = WeightedClasses(FocalLoss(), torch.tensor([1.0, 2.0]))
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[0.1300, 0.0866]])
    """

    weight: Tensor

    def __init__(self, loss: ClassLoss, weight: Tensor) -> None:
        super().__init__()
        check_is_callable(loss, "loss", "a class loss")
        check_floating(weight, "weight")
        check_weights(weight, "weight")
        if weight.dim() != 1:
            raise ValueError(f"weight must have shape (C,), got {tuple(weight.shape)}")
        self.loss = loss
        self.register_buffer("weight", weight.detach())
        self.of_quality, self.has_background = traits_of(loss).of_quality, traits_of(loss).has_background

    @property
    def reduction(self) -> str:
        """That of the loss."""
        return str(getattr(self.loss, "reduction", "none"))

    def forward(self, logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
        """Losses (…, C); arguments as for the loss."""
        return self._weighted(self.loss(logits, targets, **options), logits)

    def per_class(self, logits: Tensor) -> ClassLosses | None:
        """The losses of all classes, if they are known."""
        own = traits_of(self.loss).per_class(logits)
        if own is None:
            return None
        others = None if own.others is None else self._weighted(own.others, logits)
        return ClassLosses(self._weighted(own.own, logits), others)

    def class_weights(self, logits: Tensor) -> Tensor | None:
        """Those of the loss: these weights count in no divisor."""
        return traits_of(self.loss).class_weights(logits)

    def takes_scores(self) -> bool:
        """Whether the loss does."""
        return traits_of(self.loss).takes_scores()

    def with_scores(self, logits: Tensor, labels: Tensor, scores: Tensor | None) -> Tensor:
        """As the loss is called."""
        return self._weighted(traits_of(self.loss).with_scores(logits, labels, scores), logits)

    def with_labels(self, logits: Tensor, labels: Tensor, *, one_hot: bool) -> Tensor:
        """As the loss is called."""
        return self._weighted(traits_of(self.loss).with_labels(logits, labels, one_hot=one_hot), logits)

    def _weighted(self, values: Tensor, logits: Tensor) -> Tensor:
        if values.shape != logits.shape or values.shape[-1] != len(self.weight):
            raise ValueError(
                f"WeightedClasses has {len(self.weight)} weights, for a loss with a value for each class of logits "
                f"{tuple(logits.shape)}; its loss gave {tuple(values.shape)}"
            )
        return values * self.weight.to(values.dtype)
