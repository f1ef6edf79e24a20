"""From values of predictions to the terms of a loss: what is summed, what it is divided by, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from losses.core.divisors import Divisors
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from ragged import RaggedBatch
from ragged.values.checks import (
    all_equal,
    check_has_values,
    check_is_tensor,
    check_not_negative,
    check_one_of,
    check_weights,
)
from ragged.values.keys import KnownKeys
from ragged.values.once import known_row

REDUCTIONS = ("mean", "sum", "sample", "none")
"""``"mean"``: sum over the batch over the batch's count. ``"sum"``: not divided. ``"sample"``: for each image, what it
would have as the only one of its batch. ``"none"``: not summed, not divided."""

Losses = dict[Any, Any]
"""Loss terms by name: tensors, or with ``reduction="none"`` ragged batches."""


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a loss.

    Args:
        values: ``(*batch, P)``, one for each prediction; or (R,), one for each of ``rows``.
        counts: What the sum is divided by, ``(*batch,)`` each, by name; a dimension of layers that share a count may be
            1. Terms may share a count.
        rows: Which predictions the values are of, if not of all.
        weight: Of the term.
        divisor: Makes the divisor of the counts' totals, given in order; by default their only one, at least 1.
        per_image: What the sum of each image is divided by before, ``(*batch,)``; nothing if not given. With ``"sum"``
            and ``"none"`` nothing is divided at all.

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
    totals = _totals(counts, normalizer, global_count, layers, counted) if reduction == "mean" else counts
    divisors = None if reduction == "sum" else Divisors(totals, normalizer)
    alike: dict[Any, list[tuple[Any, Term, Tensor]]] = {}
    for name, part in parts.items():
        for term in part:
            value = term.sums()
            value = value if term.per_image is None or reduction == "sum" else value / term.per_image
            # By the layers alone: images are as many, and a key with their number would fix it in a graph.
            alike.setdefault((value.shape[:layers], value.dtype), []).append((name, term, value))
    sums: dict[Any, list[Tensor]] = {name: [] for name in parts}
    for names, own, values in (zip(*each, strict=True) for each in alike.values()):
        stacked = torch.stack(values)
        stacked = stacked if reduction == "sample" else stacked.flatten(layers + 1).sum(-1)
        factor = normalizer.num_ranks if reduction == "mean" else 1
        found = _weighted(stacked, [term.weight * factor for term in own])
        if divisors is not None:
            found = found / divisors.of_all(own, found)
        for name, value in zip(names, found.unbind(), strict=True):
            sums[name].append(value)
    return {name: _sum(values) for name, values in sums.items()}


def _weighted(values: Tensor, weights: Sequence[float]) -> Tensor:
    """Values (T, …) times their weights."""
    if all(weight == 1 for weight in weights):
        return values
    return values * known_row(weights, values).view(-1, *(1,) * (values.dim() - 1))


@torch.no_grad()
def count_terms(
    terms: Terms, normalizer: Normalizer, layers: int = 0, counted: Sequence[str] = ()
) -> dict[str, Tensor]:
    """What the terms are divided by, over all images and all ranks, by name, ``(*layers,)`` each."""
    return _totals(_counts(_parts(terms, layers)), normalizer, None, layers, counted, every=True)


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


def _totals(
    counts: Mapping[str, Tensor],
    normalizer: Normalizer,
    global_count: Any,
    layers: int,
    counted: Sequence[str],
    *,
    every: bool = False,
) -> dict[str, Tensor]:
    """Counts over all images and ranks, in one reduction; or those given. ``every``: with all of ``counted``."""
    local = {name: count.detach().flatten(layers).sum(-1) for name, count in counts.items()}
    if global_count is not None:
        given = {name: _given(global_count, name, value) for name, value in local.items()}
        if isinstance(global_count, Mapping):
            KnownKeys(tuple(dict.fromkeys((*local, *counted)))).check(global_count, "global_count")
        return given
    if local and counted and (normalizer.num_ranks > 1 or every):
        # One number, as ranks have it that count something: layers may have counts of their own.
        nothing = next(iter(local.values())).new_zeros((1,) * layers)
        local = {name: local.get(name, nothing) for name in dict.fromkeys((*counted, *local))}
    if normalizer.num_ranks == 1:
        return local
    joined = normalizer.sum_over_ranks(torch.cat([value.reshape(-1) for value in local.values()]))
    pieces = joined.split([value.numel() for value in local.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(local.items(), pieces, strict=True)}


def _given(global_count: Any, name: str, local: Tensor) -> Tensor:
    if isinstance(global_count, Mapping):
        if name not in global_count:
            raise KeyError(f"global_count has no {name!r}, but {list(global_count)}")
        global_count = global_count[name]
    if isinstance(global_count, Tensor):
        if global_count.shape not in ((), (1,), local.shape):
            raise ValueError(
                f"global_count of {name!r} must be a number or have shape {tuple(local.shape)}, "
                f"got {tuple(global_count.shape)}"
            )
        check_has_values(global_count, "a global_count")
        check_weights(global_count, f"global_count of {name!r}")
        return global_count.detach().to(local).reshape(local.shape if global_count.shape == local.shape else ())
    check_not_negative(global_count, "global_count")
    return torch.full_like(local, global_count)
