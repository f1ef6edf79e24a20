"""Losses of torch and of others, in the words that modules of this package say of themselves.

``traits_of`` is the door: no other place asks what type a loss has. What users gave is kept as it is, and is wrapped
where it is asked something; the wrapper holds nothing but the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from losses.modules.of_mass import ClassLosses, of_elements
from losses.modules.traits import LossTraits, soft_one_hot, weights_of


def traits_of(loss: Any) -> LossTraits:
    """What is known of a loss: a module of this package says so itself, all others are wrapped."""
    if isinstance(loss, LossTraits):
        return loss
    if isinstance(loss, nn.BCEWithLogitsLoss):
        return _BinaryCrossEntropy(loss)
    # Of this very type: what is derived from it may compute something else.
    return _CrossEntropy(loss) if type(loss) is nn.CrossEntropyLoss else _Foreign(loss)


@dataclass(frozen=True, eq=False)
class _Foreign(LossTraits):
    """A function, or a module of others, of which nothing is known but its attributes."""

    loss: Callable[..., Tensor]

    def __post_init__(self) -> None:
        for name in ("of_quality", "has_background"):
            object.__setattr__(self, name, bool(getattr(self.loss, name, getattr(type(self), name))))

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.loss(*args, **kwargs)

    def per_class(self, logits: Tensor) -> ClassLosses | None:
        """Of a module that has a method of this name."""
        own = getattr(self.loss, "per_class", None)
        return None if own is None else own(logits)

    def class_weights(self, logits: Tensor) -> Tensor | None:
        """As its attributes say."""
        return weights_of(self.loss, logits)

    def _called(self) -> Callable[..., Any]:
        return getattr(self.loss, "forward", self.loss)


class _CrossEntropy(_Foreign):
    """``torch.nn.CrossEntropyLoss``."""

    loss: nn.CrossEntropyLoss
    has_background = True

    def per_class(self, logits: Tensor) -> ClassLosses | None:
        """Not with smoothing and an ignored class, whose share is not known then."""
        num_classes, smoothing = logits.shape[-1], self.loss.label_smoothing
        if smoothing and 0 <= self.loss.ignore_index < num_classes:
            return None
        own = -logits.log_softmax(-1)
        weights = self.class_weights(logits)
        if weights is not None:
            own = own * weights.to(own)
        if not smoothing:
            return ClassLosses(own)
        share = smoothing / num_classes
        return ClassLosses(own * (1 - smoothing + share), own * share)


class _BinaryCrossEntropy(_Foreign):
    """``torch.nn.BCEWithLogitsLoss``, which takes targets (…, C) only, and what is derived from it."""

    of_quality = False

    def per_class(self, logits: Tensor) -> ClassLosses | None:
        """Of this very type; what is derived from it may compute something else."""
        return of_elements(self.loss, logits) if type(self.loss) is nn.BCEWithLogitsLoss else super().per_class(logits)

    def class_weights(self, logits: Tensor) -> Tensor | None:
        """None: its ``weight`` is of elements."""
        return None

    def takes_scores(self) -> bool:
        """They are the targets."""
        return True

    def with_scores(self, logits: Tensor, labels: Tensor, scores: Tensor | None) -> Tensor:
        """With the scores as targets of the labelled classes."""
        return self.loss(logits, soft_one_hot(labels, scores, logits))

    def with_labels(self, logits: Tensor, labels: Tensor, *, one_hot: bool) -> Tensor:
        """With one-hot targets in any case."""
        return self.loss(logits, soft_one_hot(labels, None, logits))
