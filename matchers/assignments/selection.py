"""Choosing the best pairs, with ties broken towards the lowest index: see ``ragged/values/ranking.py``."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import torch
from torch import Tensor

from ragged.values.once import known_row
from ragged.values.ranking import INDEX_MASK, keys, signed_index_of, value_of

_BELOW_ALL = -1.0
"""A value of what does not count, where the highest is best."""


def reduce_rows_(into: Tensor, index: Tensor, rows: Tensor, reduce: str) -> None:
    """Take in rows (R, …) at places ``index`` (R,) of the first dimension: ``"amax"``, ``"amin"`` or ``"sum"``."""
    if reduce == "sum":
        into.index_add_(0, index, rows)
    elif torch.are_deterministic_algorithms_enabled():
        # torch takes index_reduce_ for nondeterministic on CUDA, whatever it reduces by; else it is much faster.
        into.scatter_reduce_(0, index.view(-1, *(1,) * (rows.dim() - 1)).expand_as(rows), rows, reduce)
    else:
        into.index_reduce_(0, index, rows, reduce)


class Rows(Protocol):
    """Rows of targets, as ``Pairs`` are."""

    @property
    def target(self) -> Tensor:
        """(R,), the index of each target in its image."""
        ...

    @property
    def packed(self) -> bool:
        """Whether the rows are targets and nothing else; otherwise all images of a group have as many."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether all images are one group, in their order."""
        ...

    def over_targets(self, values: Tensor, reduce: str, *, none: int, into: Tensor | None) -> Tensor:
        """Values (R, P) reduced over the targets of each image, (N, P)."""
        ...

    def by_image(self, values: Tensor) -> list[tuple[Any, Tensor]]:
        """Values (R, P) of each group, (n, G, P)."""
        ...

    def images_of(self, group: Any) -> Tensor | slice:
        """The n images of a group."""
        ...


class BestTarget:
    """For each prediction, the best of the targets seen so far; the first of them on ties.

    Args:
        num_samples: N.
        num_predictions: P.
        device: Of the values.
        highest: Whether the highest value is best, or the lowest. Values must not be negative, nor -0.
    """

    def __init__(self, num_samples: int, num_predictions: int, device: torch.device, *, highest: bool) -> None:
        self.num_samples, self.num_predictions, self.highest, self.device = (
            num_samples,
            num_predictions,
            highest,
            device,
        )
        # The best has the lowest key, whose index is that of a target; the lower half of that of none is -1.
        self.none = INDEX_MASK if highest else torch.iinfo(torch.int64).max
        self._found: Tensor | None = None  # (N * P,)

    def see_rows(self, value: Tensor, rows: Rows, counts: Tensor | None = None) -> None:
        """Take in values (R, P) of rows, where ``counts`` (R, P) is true."""
        if not rows.packed and (self.highest or counts is None):
            self._see_static(value if counts is None else _others(counts, value, _BELOW_ALL), rows)
            return
        into = None if self._found is None else self.key
        found = rows.over_targets(self._keys_of(value, rows.target, counts), "amin", none=self.none, into=into)
        if into is None:
            self._found = found.flatten()

    def _see_static(self, value: Tensor, rows: Rows) -> None:
        """Of the G rows of an image torch finds the first of the best; only that one gets a key."""
        known = self._found
        for group, values in rows.by_image(value.float()):  # as keys compare them
            best, index = (values.max if self.highest else values.min)(1)
            index = index + group.target if group.target else index
            key = self._key_of(best, index)
            if self.highest:
                key.clamp_(max=self.none)
            if rows.is_whole and known is None:
                self._found = key.flatten()
                return
            images = rows.images_of(group)
            self.key[images] = key if known is None else torch.minimum(self.key[images], key)

    def see_at(self, value: Tensor, sample: Tensor, target: Tensor, counts: Tensor | None = None) -> None:
        """Take in values (R, P) of rows of ``sample`` (R,) and ``target`` (R,), in any order; as ``see_rows``."""
        reduce_rows_(self.key, sample, self._keys_of(value, target, counts), "amin")

    def see_pairs(self, value: Tensor, sample: Tensor, target: Tensor, index: Tensor, counts: Tensor) -> Tensor:
        """Take in single pairs: values (R, K) with the predictions ``index`` (R, K), where ``counts`` is true.

        Returns:
            (R * K,), which prediction of all images each pair is of.
        """
        slot = torch.add(index, sample.unsqueeze(-1), alpha=self.num_predictions).flatten()
        # A pair that does not count changes nothing at its own prediction: a place for all of them would be crowded.
        self._table().scatter_reduce_(0, slot, self._keys_of(value, target, counts).flatten(), "amin")
        return slot

    def forget(self, samples: Tensor) -> None:
        """Drop what was seen of some images, given by a mask (N,)."""
        self.key[samples] = self.none

    def replace(self, where: Tensor, other: BestTarget) -> None:
        """Take over what another one saw of some predictions, given by a mask (N, P)."""
        self._found = torch.where(where, other.key, self.key).flatten()

    def result(self) -> tuple[Tensor, Tensor]:
        """Target (N, P), -1 where none was seen, and its value there, which means nothing where none was.

        If the highest is best, that value is 0.
        """
        return self.targets(), value_of(self.key, nonnegative=True, falling=self.highest)

    def targets(self) -> Tensor:
        """The targets of ``result``."""
        return signed_index_of(self.key)

    @property
    def key(self) -> Tensor:
        """Value and target as one number, (N, P); a view."""
        return self._table().view(self.num_samples, self.num_predictions)

    def _table(self) -> Tensor:
        """(N * P,)"""
        if self._found is None:
            self._found = torch.full((self.num_samples * self.num_predictions,), self.none, device=self.device)
        return self._found

    def _keys_of(self, value: Tensor, target: Tensor, counts: Tensor | None) -> Tensor:
        key = self._key_of(value, target.unsqueeze(-1))
        return key if counts is None else _others(counts, key, self.none)

    def _key_of(self, value: Tensor, target: Tensor) -> Tensor:
        return keys(value, target, nonnegative=True, falling=self.highest)


def _others(counts: Tensor, values: Tensor, other: float) -> Tensor:
    """The values that count, and another one in the place of those that do not."""
    return torch.where(counts, values, known_row((other,), values))


with warnings.catch_warnings():
    # Said once in a process: that index_reduce_, which is as old as torch 1.12, may change. Not the user's concern.
    warnings.filterwarnings("ignore", "index_reduce")
    torch.zeros(1).index_reduce_(0, torch.zeros(1, dtype=torch.int64), torch.zeros(1), "amax")
