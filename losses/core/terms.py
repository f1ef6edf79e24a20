"""From values of predictions to the terms of a loss: what is summed, what it is divided by, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from losses.core.divisors import Divisors
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.totals import totals_of
from ragged import RaggedBatch
from ragged.values.checks import (
    all_equal,
    check_is_tensor,
    check_one_of,
)
from ragged.values.once import known_row

REDUCTIONS = ("mean", "sum", "sample", "none")
"""``"mean"``: sum over the batch over the batch's count. ``"sum"``: not divided. ``"sample"``: the loss of
each image as if it were alone in its batch. ``"none"``: not summed, not divided."""

Losses = dict[Any, Any]
"""Loss terms by name: tensors, or with ``reduction="none"`` ragged batches."""


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a loss.

    Args:
        values: ``(*batch, P)``, one for each prediction; or (R,), one for each of ``rows``.
        counts: The counts that divide the sum, by name, each ``(*batch,)``. The layer dimension can be 1 if layers
            share a count. Terms can share a count.
        rows: The rows of ``values``; None if there is a value for every prediction.
        weight: Weight of the term.
        divisor: Called with the total of each count, in order; returns the divisor. Default: the only count, at least
            1.
        part: Which of the divisors is its own, where ``divisor`` makes those of several terms at once.
        per_image: Divisor of each image's sum, ``(*batch,)``, applied first; None for none. ``"sum"`` and
            ``"none"`` never divide.

    Raises:
        ValueError: Values are not one for each row, or a count is not one for each image of each layer. A count
            ``(B,)`` beside values ``(L, B, P)`` would make the loss L times too large.

    >>> Term(torch.zeros(6, 2, 300), {"num_positives": torch.ones(2)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: the count 'num_positives' must have the batch shape (6, 2) of values (6, 2, 300), got (2,): one for ...
    """

    values: Tensor
    counts: Mapping[str, Tensor]
    rows: Positives | None = None
    weight: float = 1.0
    divisor: Callable[..., Tensor] | None = None
    part: int | None = None
    per_image: Tensor | None = None

    def __post_init__(self) -> None:
        check_is_tensor(self.values, "the values of a term")
        own = tuple(self.values.shape)
        if self.rows is not None and own != (len(self.rows),):
            raise ValueError(f"values of rows must have shape ({len(self.rows)},), one for each row, got {own}")
        if not own:
            raise ValueError("the values of a term must have shape (*batch, P), got a single number")
        self.check_counts(max(len(self.batch_shape) - 1, 0))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``*batch``."""
        return tuple(self.values.shape[:-1]) if self.rows is None else self.rows.batch_shape

    def check_counts(self, layers: int) -> None:
        """Raise ``ValueError`` unless counts have the batch shape; the first ``layers`` dimensions may be 1."""
        batch = self.batch_shape
        divisors = {f"the count {name!r}": count for name, count in self.counts.items()}
        for name, count in (divisors | ({} if self.per_image is None else {"per_image": self.per_image})).items():
            check_is_tensor(count, name)
            shape = tuple(count.shape)
            shared = [own for own, size in zip(shape, batch, strict=False) if own != size]
            if len(shape) == len(batch) and shape[layers:] == batch[layers:] and all(own == 1 for own in shared):
                continue
            of_what = f"values {tuple(self.values.shape)}" if self.rows is None else f"rows of {self.rows.shape}"
            raise ValueError(
                f"{name} must have the batch shape {batch} of {of_what}, got {shape}: one for each image of each "
                f"layer, as assigned.num_positives() gives it; one that all layers share is count.expand{batch}"
            )

    def per_prediction(self) -> Tensor:
        """``(*batch, P)``."""
        values = self.values if self.rows is None else self.rows.per_prediction(self.values)
        return values * self.weight

    def sums(self) -> Tensor:
        """``(*batch,)``, not weighted."""
        return self.values.sum(-1) if self.rows is None else self.rows.per_sample(self.values)


Terms = Mapping[Any, Term | Sequence[Term]]
"""Terms by name; several of one name add up."""


def check_reduction(reduction: str) -> None:
    """Raise ``ValueError`` unless this is one of the reductions."""
    check_one_of(reduction, REDUCTIONS, "reduction")


def reduce_terms(
    terms: Terms,
    *,
    reduction: str,
    normalizer: Normalizer,
    global_count: Mapping[str, Any] | float | Tensor | None = None,
    layers: int = 0,
    counted: Sequence[str] = (),
) -> Losses:
    """Sum up, divide, and weight.

    Args:
        terms: Of equal batch shape ``(*layers, *images)``.
        reduction: See ``REDUCTIONS``.
        normalizer: How counts become divisors.
        global_count: Totals of all ranks and all micro-batches, as ``count_terms`` gives them; a number is that of
            every count. If not given, the counts of this call are added up over the ranks.
        layers: How many leading batch dimensions are kept in any case.
        counted: Names of counts that other ranks may have, and this one not: all have to reduce the same.

    Returns:
        For each name a tensor ``(*layers,)``, with ``"sample"`` ``(*batch,)``, with ``"none"`` a RaggedBatch
        ``(*batch, P)``.
    """
    parts = _parts(terms, layers)
    if reduction == "none":
        return {name: _ragged(_sum([term.per_prediction() for term in part])) for name, part in parts.items()}
    counts = _counts(parts)
    totals = totals_of(counts, normalizer, global_count, layers, counted) if reduction == "mean" else counts
    divisors = None if reduction == "sum" else Divisors(totals, normalizer)
    found: dict[Any, list[Tensor]] = {name: [] for name in parts}
    factor = normalizer.num_ranks if reduction == "mean" else 1
    for named, blocks in _sums(parts, layers, divided=reduction != "sum"):
        own = [term for _, term in named]
        sizes = [term.batch_shape[0] if layers else 1 for term in own]
        values = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        values = values if reduction == "sample" else values.flatten(1).sum(-1)
        values = _weighted(values, [term.weight * factor for term in own], sizes)
        if divisors is not None:
            values = values / divisors.of_all(own, sizes, values)
        for (name, _), value in zip(named, values.split(sizes) if layers else values.unbind(), strict=True):
            found[name].append(value)
    return {name: _sum(values) for name, values in found.items()}


def _sums(
    parts: Mapping[Any, Sequence[Term]], layers: int, *, divided: bool
) -> Iterable[tuple[list[tuple[Any, Term]], list[Tensor]]]:
    """For each dtype the terms with their names, and their sums over predictions, (layers of all terms, *images).

    The latter are in blocks: those of the same rows are summed at once.
    """
    alike: dict[Any, list[tuple[Any, Term]]] = {}
    for name, part in parts.items():
        for term in part:
            key = id(term) if term.rows is None else (id(term.rows), id(term.per_image), term.values.dtype)
            alike.setdefault(key, []).append((name, term))
    found: dict[torch.dtype, tuple[list[tuple[Any, Term]], list[Tensor]]] = {}
    for named in alike.values():
        values, first = [term.values for _, term in named], named[0][1]
        sums = values[0].sum(-1).unsqueeze(0) if first.rows is None else first.rows.per_sample_of_each(values)
        if divided and first.per_image is not None:
            sums = sums / first.per_image
        own, blocks = found.setdefault(sums.dtype, ([], []))
        own.extend(named)
        blocks.append(sums.flatten(0, layers))
    return found.values()


def _weighted(values: Tensor, weights: Sequence[float], sizes: Sequence[int]) -> Tensor:
    """Values (T, …) times the weights of terms, which have so many of them each."""
    if all(weight == 1 for weight in weights):
        return values
    each = [weight for weight, size in zip(weights, sizes, strict=True) for _ in range(size)]
    return values * known_row(each, values).view(-1, *(1,) * (values.dim() - 1))


@torch.no_grad()
def count_terms(
    terms: Terms, normalizer: Normalizer, layers: int = 0, counted: Sequence[str] = ()
) -> dict[str, Tensor]:
    """What the terms are divided by, over all images and all ranks, by name, ``(*layers,)`` each."""
    return totals_of(_counts(_parts(terms, layers)), normalizer, None, layers, counted, every=True)


def total(losses: Losses) -> Any:
    """Sum of all terms: what ``backward`` is called on.

    Args:
        losses: As a criterion returns them; all of one shape.

    Raises:
        ValueError: There is no term.

    >>> total({"loss_cls": torch.tensor(1.0), "loss_bbox": torch.tensor(0.5)})
    tensor(1.5000)
    """
    _check_losses(losses)
    if not losses:
        raise ValueError("there is no loss term to add up")
    shapes = {name: tuple(value.shape) for name, value in losses.items()}
    if not all_equal(shapes.values()):
        raise ValueError(f"loss terms must have one shape, got {shapes}")
    return _sum(list(losses.values()))


def detached(losses: Losses) -> Losses:
    """The same values without their graph, for logging. Nothing waits for the device.

    >>> detached({"loss_cls": torch.ones((), requires_grad=True)})
    {'loss_cls': tensor(1.)}
    """
    _check_losses(losses)
    return {name: value.detach() for name, value in losses.items()}


def _check_losses(losses: Losses) -> None:
    if not isinstance(losses, Mapping):
        raise TypeError(f"losses must be a dict of terms, as a criterion gives them, got {type(losses).__name__}")
    for name, value in losses.items():
        if not isinstance(value, (Tensor, RaggedBatch)):
            raise TypeError(f"the loss term {name!r} must be a tensor or a RaggedBatch, got {type(value).__name__}")
        if isinstance(value, Tensor):
            check_is_tensor(value, f"the loss term {name!r}")


def _sum(values: Sequence[Any]) -> Any:
    if len(values) > 3 and isinstance(values[0], Tensor):
        kinds = {(type(value), value.shape, value.dtype, value.device) for value in values}
        if len(kinds) == 1:
            return torch.stack(list(values)).sum(0)  # two launches, however many there are
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def _ragged(values: Tensor) -> RaggedBatch:
    return RaggedBatch.from_full_tensor(values, num_batch_dims=values.dim() - 1)


def _parts(terms: Terms, layers: int) -> dict[Any, list[Term]]:
    parts = {name: [term] if isinstance(term, Term) else list(term) for name, term in terms.items()}
    for part in parts.values():
        for term in part:
            term.check_counts(layers)
    return parts


def _counts(parts: Mapping[Any, Sequence[Term]]) -> dict[str, Tensor]:
    return {name: count for part in parts.values() for term in part for name, count in term.counts.items()}
