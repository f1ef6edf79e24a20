"""The properties of a loss besides its values: its call, and its closed forms."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from losses.functional.numerics import check_shape, is_dense
from losses.modules.of_mass import ClassLosses
from matchers.geometry.boxes import Coordinates
from matchers.pairs.pairs import Pairs


class Background(NamedTuple):
    """A loss that is ``scale p^exponent BCE(x, 0)`` for a class that is not labelled.

    Args:
        exponent: Of the probability p, the sigmoid of the logit x.
        scale: A factor; that of the whole loss is in it.
        detach_weights: Whether ``p^exponent`` is a constant for the gradient.
    """

    exponent: float = 0.0
    scale: float = 1.0
    detach_weights: bool = False


class LossTraits:
    """The questions that criteria and matchers ask a loss.

    Each has an answer that is right for any loss. A loss that knows better says so, and is computed faster. What it
    says holds for its own ``forward``: a derived class with another one has the answers that it gives itself.
    """

    pair_cost: Callable[[Pairs], Tensor] | None = None
    """A method that gives the costs (R, P) of pairs of targets and predictions in one go; None if there is none."""

    of_coordinates: Callable[[Coordinates, Coordinates], Tensor] | None = None
    """A method of a box loss that takes ``Coordinates`` of boxes and targets, which broadcast, and gives (…), summed
    over the coordinates; None if there is none."""

    of_quality: bool = True
    """Whether the score of a labelled class is how good its box is, where a criterion knows that; else it is 1."""
    has_background: bool = False
    """Whether the last of its classes is the background: labels of predictions without a target are C - 1, not -1."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _OF_FORWARD:
            # The nearest class that speaks of the same formula, or of none.
            owner = next(base for base in cls.__mro__ if name in vars(base) and _formula(base) in (None, _formula(cls)))
            if getattr(cls, name) is not getattr(owner, name):
                setattr(cls, name, vars(owner)[name])

    def background(self) -> Background | None:
        """The loss of a class without a label; None if unknown.

        With it, the loss summed over the classes keeps no value for each of them. Its labelled class is asked for by
        ``of_labelled``.
        """
        return None

    def of_labelled(self, logits: Tensor, scores: Tensor | None) -> Tensor:
        """The loss (…) of the labelled class alone, of its logit (…) and score (…), which is 1 unless given.

        Unless the loss says otherwise, it is called as ``loss(logits, labels, scores=scores)`` with logits (…, 1),
        labels 0 and scores (…), and must be (…, 1).
        """
        scores = torch.ones_like(logits) if scores is None else scores
        return self.with_scores(logits.unsqueeze(-1), torch.zeros_like(logits, dtype=torch.int64), scores).squeeze(-1)

    def per_class(self, logits: Tensor) -> ClassLosses | None:
        """The losses of all classes of logits (…, C), float32 at least; None if that is not known.

        With it, the loss of a soft plan needs no value for each class of each pair.
        """
        return None

    def class_weights(self, logits: Tensor) -> Tensor | None:
        """The weight of each class of logits (…, C) in the divisor, (C,); None if all are 1.

        Unless the loss says otherwise, its attributes ``weight`` (C,) and ``ignore_index`` do, as those of torch.

        Raises:
            ValueError: There are not as many weights as classes; or there are weights in one of several losses.
        """
        return weights_of(self, logits)

    def takes_scores(self) -> bool:
        """Whether it can be called with ``scores=``, as criteria with a sigmoid for each class do."""
        try:
            parameters = inspect.signature(self._called()).parameters.values()
        except (TypeError, ValueError):  # a builtin: nothing is known of it
            return True
        return any(each.name == "scores" or each.kind is each.VAR_KEYWORD for each in parameters)

    def with_scores(self, logits: Tensor, labels: Tensor, scores: Tensor | None) -> Tensor:
        """The loss (…, C) or (…) of logits (…, C), of labels (…), where -1 is no class, and their scores (…).

        Labels may also be multi-hot, floating (…, C), all 0 for no class.
        """
        values: Tensor = self(logits, labels, scores=scores)  # type: ignore[operator]
        return values

    def with_labels(self, logits: Tensor, labels: Tensor, *, one_hot: bool) -> Tensor:
        """The loss (R, C) or (R,) of logits (R, C) and labels (R,), where -1 is no class.

        Args:
            logits, labels: See above. Labels may also be multi-hot, floating (R, C), all 0 for no class.
            one_hot: Whether a loss that says nothing else is called with one-hot targets, all 0 for no class.
        """
        values: Tensor = self(logits, soft_one_hot(labels, None, logits) if one_hot else labels)  # type: ignore[operator]
        return values

    def _called(self) -> Callable[..., Any]:
        """What is called with predictions and targets."""
        called: Callable[..., Any] = self.forward  # type: ignore[attr-defined]
        return called


_OF_FORWARD = (
    "background",
    "of_labelled",
    "per_class",
    "pair_cost",
    "of_coordinates",
    "takes_scores",
    "with_scores",
    "with_labels",
)


def _formula(cls: type) -> Any:
    """What the values of a class are made by; None if it is abstract."""
    forward = getattr(cls, "forward", nn.Module.forward)
    return None if forward is nn.Module.forward else (forward, getattr(cls, "reduced", None))


def weights_of(loss: Any, logits: Tensor) -> Tensor | None:
    """What the attributes ``weight`` and ``ignore_index`` of a loss say; see ``LossTraits.class_weights``."""
    num_classes, weights = logits.shape[-1], getattr(loss, "weight", None)
    if weights is not None:
        check_shape(weights, (num_classes,), "the weight of the class loss", "the classes of the logits")
    ignored = getattr(loss, "ignore_index", -1)
    if not 0 <= ignored < num_classes:
        return weights
    weights = logits.new_ones(num_classes) if weights is None else weights
    return weights.masked_fill(torch.arange(num_classes, device=weights.device) == ignored, 0)


def soft_one_hot(labels: Tensor, scores: Tensor | None, logits: Tensor) -> Tensor:
    """Targets (…, C): the score, or 1, at the label, 0 elsewhere; of multi-hot labels (…, C), times the score."""
    if is_dense(labels):
        own = labels.to(logits.dtype)
        return own if scores is None else torch.where(own > 0, own * scores.to(logits.dtype).unsqueeze(-1), 0)
    valid = (labels >= 0) & (labels < logits.shape[-1])
    values = valid.to(logits.dtype) if scores is None else scores.to(logits.dtype).masked_fill(~valid, 0)
    index = labels.masked_fill(~valid, 0).unsqueeze(-1)
    return torch.zeros_like(logits).scatter(-1, index, values.unsqueeze(-1))
