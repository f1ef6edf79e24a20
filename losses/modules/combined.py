"""Several losses at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from losses.modules.adapters import traits_of
from losses.modules.classes import sum_of_classes
from losses.modules.of_mass import ClassLosses
from losses.modules.traits import LossTraits
from matchers.geometry.boxes import Coordinates
from ragged import RaggedBatch
from ragged.values.checks import check_is_sequence, check_not_negative
from ragged.values.precision import WideModule, wide


class MultipleObjectiveLoss(LossTraits, WideModule):
    """Weighted sum of several loss modules of one kind, such as L1 and GIoU.

    Every loss gets the same arguments. If ranks differ, results (…, 4) or (…, C) are summed over the last dimension.

    Args:
        losses: Modules, or a mapping of them by name.
        weights: One for each, in the order of ``losses`` or by name; 1 if not given.

    Raises:
        ValueError: There is no loss, or weights are not one for each.
        KeyError: A weight has no loss of that name.

    >>> loss = MultipleObjectiveLoss([nn.L1Loss(reduction="none"), GIoULoss()], [5.0, 2.0])
    >>> loss(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1]]))
    tensor([6.])
    """

    def __init__(
        self,
        losses: Sequence[nn.Module] | Mapping[str, nn.Module],
        weights: Sequence[float] | Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(losses, Mapping):
            check_is_sequence(losses, "losses", "loss modules, or a dict of them")
        named = dict(losses) if isinstance(losses, Mapping) else {str(k): loss for k, loss in enumerate(losses)}
        if not named:
            raise ValueError("MultipleObjectiveLoss needs one loss at least, got none")
        for name, loss in named.items():
            if not isinstance(name, str):
                raise TypeError(f"the names of losses must be strings, got {name!r}")
            if not isinstance(loss, nn.Module):
                raise TypeError(f"the loss {name!r} must be a module, got {type(loss).__name__}")
        self.losses = nn.ModuleDict(named)
        self.weights = _weights_by_name(weights, list(named))

    @property
    def reduction(self) -> str:
        """That of the losses, or "mixed" if they differ."""
        found = {getattr(loss, "reduction", "none") for loss in self.losses.values()}
        return found.pop() if len(found) == 1 else "mixed"

    @property
    def of_quality(self) -> bool:  # type: ignore[override]
        """Whether one of the losses is."""
        return any(loss.of_quality for loss in self._traits())

    @property
    def has_background(self) -> bool:  # type: ignore[override]
        """Whether one of the losses has."""
        return any(loss.has_background for loss in self._traits())

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The weighted sum; arguments as for each of the losses, which see float32 at least."""
        args = tuple(_wide(each) for each in args)
        return self._added([loss(*args, **kwargs) for loss in self.losses.values()])

    def per_class(self, logits: Tensor) -> ClassLosses | None:
        """The weighted sum, if it is known of each loss."""
        total: ClassLosses | None = None
        for loss, weight in zip(self._traits(), self.weights.values(), strict=True):
            own = loss.per_class(logits)
            if own is None:
                return None
            total = own.scaled(weight) if total is None else total + own.scaled(weight)
        return total

    @property
    def of_coordinates(self) -> Callable[[Coordinates, Coordinates], Tensor] | None:  # type: ignore[override]
        """The weighted sum, if each loss has a method of this name."""
        own = [loss.of_coordinates for loss in self._traits()]
        if None in own:
            return None
        return lambda *boxes: self._added([each(*boxes) for each in own])  # type: ignore[misc]

    def class_weights(self, logits: Tensor) -> Tensor | None:
        """Those of its only loss; a ``ValueError`` if one of several has some."""
        found = [loss.class_weights(logits) for loss in self._traits()]
        if len(found) > 1 and any(weights is not None for weights in found):
            raise ValueError("of several class losses none may have class weights: they would count predictions apart")
        return found[0]

    def takes_scores(self) -> bool:
        """Whether each loss does."""
        return all(loss.takes_scores() for loss in self._traits())

    def with_scores(self, logits: Tensor, labels: Tensor, scores: Tensor | None) -> Tensor:
        """Each loss in its own way."""
        scores = None if scores is None else wide(scores)
        return self._added([loss.with_scores(logits, labels, scores) for loss in self._traits()])

    def with_labels(self, logits: Tensor, labels: Tensor, *, one_hot: bool) -> Tensor:
        """Each loss in its own way."""
        values = [loss.with_labels(logits, labels, one_hot=one_hot) for loss in self._traits()]
        return self._added([sum_of_classes(each, logits) for each in values])

    def _traits(self) -> list[LossTraits]:
        return [traits_of(loss) for loss in self.losses.values()]

    def _added(self, values: list[Tensor]) -> Tensor:
        fewest = min(value.dim() for value in values)
        values = [torch.sum(value, -1) if value.dim() > fewest else value for value in values]
        first, *weights = self.weights.values()
        total = values[0] * first if first != 1 else values[0]
        for value, weight in zip(values[1:], weights, strict=True):
            total = torch.add(total, value, alpha=weight)
        return total


def _wide(value: Any) -> Any:
    if isinstance(value, RaggedBatch):
        return value.create_with_sample_sizes_like_self(_wide(value.tensor))
    return wide(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def _weights_by_name(weights: Sequence[float] | Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    if weights is None:
        weights = [1.0] * len(names)
    if isinstance(weights, Mapping):
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise KeyError(f"there is a weight for {unknown[0]!r}, but the losses are {names}")
        weights = [weights.get(name, 1.0) for name in names]
    check_is_sequence(weights, "weights", "numbers, or a dict of them")
    if len(weights) != len(names):
        raise ValueError(f"weights must be {len(names)}, one for each loss, got {len(weights)}")
    for weight in weights:
        check_not_negative(weight, "weights")
    return dict(zip(names, map(float, weights), strict=True))
