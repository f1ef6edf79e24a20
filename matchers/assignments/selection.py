"""Choosing the best pairs, with ties broken towards the lowest index: see ``ragged/values/ranking.py``."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ragged.values.ranking import decoded as decoded
from ragged.values.ranking import index_of as index_of
from ragged.values.ranking import keys as keys
from ragged.values.ranking import largest as largest
from ragged.values.ranking import prefer_first as prefer_first
from ragged.values.ranking import smallest as smallest
from ragged.values.ranking import sortable as sortable
from ragged.values.ranking import value_of as value_of


def reduce_rows_(into: Tensor, index: Tensor, rows: Tensor, reduce: str) -> None:
    """Take in rows (R, …) at places ``index`` (R,) of the first dimension: ``"amax"``, ``"amin"`` or ``"sum"``."""
    if reduce == "sum":
        into.index_add_(0, index, rows)
    elif torch.are_deterministic_algorithms_enabled():
        # torch takes index_reduce_ for nondeterministic on CUDA, whatever it reduces by; else it is much faster.
        into.scatter_reduce_(0, index.view(-1, *(1,) * (rows.dim() - 1)).expand_as(rows), rows, reduce)
    else:
        into.index_reduce_(0, index, rows, reduce)


class BestTarget:
    """For each prediction, the best of the targets seen so far; the first of them on ties.

    Args:
        num_samples: N.
        num_predictions: P.
        device: Of the values.
        highest: Whether the highest value is best, or the lowest. Values must not be negative, nor -0.
    """

    def __init__(self, num_samples: int, num_predictions: int, device: torch.device, *, highest: bool) -> None:
        self.num_samples, self.num_predictions, self.highest = num_samples, num_predictions, highest
        self.none = -1 if highest else torch.iinfo(torch.int64).max
        self.reduce = "amax" if highest else "amin"
        # One slot more, for pairs that do not count.
        self.key = torch.full((num_samples * num_predictions + 1,), self.none, device=device)

    def see_rows(self, value: Tensor, sample: Tensor, target: Tensor, counts: Tensor | None = None) -> None:
        """Take in values (R, P) of rows of ``sample`` (R,) and ``target`` (R,), where ``counts`` (R, P) is true.

        Values may be ``sortable`` already.
        """
        sorting = value if value.dtype == torch.int64 else sortable(value, nonnegative=True)
        key = self._key(sorting, target)
        if counts is not None:
            key.masked_fill_(~counts, self.none)
        reduce_rows_(self.key[:-1].view(self.num_samples, self.num_predictions), sample, key, self.reduce)

    def see_pairs(self, value: Tensor, sample: Tensor, target: Tensor, index: Tensor, counts: Tensor) -> None:
        """Take in single pairs: values (R, K) with the predictions ``index`` (R, K), where ``counts`` is true."""
        slot = (sample.unsqueeze(-1) * self.num_predictions + index).masked_fill(~counts, self.key.numel() - 1)
        key = self._key(sortable(value, nonnegative=True), target)
        self.key.scatter_reduce_(0, slot.flatten(), key.flatten(), self.reduce)

    def forget(self, samples: Tensor) -> None:
        """Drop what was seen of some images, given by a mask (N,)."""
        self.key[:-1].view(self.num_samples, self.num_predictions)[samples] = self.none

    def result(self) -> tuple[Tensor, Tensor]:
        """Target (N, P), -1 where none was seen, and its value there, worse than any (infinite) where none was."""
        key = self.key[:-1].view(self.num_samples, self.num_predictions)
        none = key == self.none
        value, index = decoded(key) if self.highest else (value_of(key), index_of(key))
        return index.masked_fill(none, -1), value.masked_fill(none, -torch.inf if self.highest else torch.inf)

    def _key(self, sorting: Tensor, target: Tensor) -> Tensor:
        target = target.unsqueeze(-1)
        return prefer_first(sorting, target) if self.highest else sorting | target


with warnings.catch_warnings():
    # Said once in a process: that index_reduce_, which is as old as torch 1.12, may change. Not the user's concern.
    warnings.filterwarnings("ignore", "index_reduce")
    torch.zeros(1).index_reduce_(0, torch.zeros(1, dtype=torch.int64), torch.zeros(1), "amax")
