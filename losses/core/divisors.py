"""What the sums of terms are divided by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from losses.core.normalizer import Normalizer


class HasCounts(Protocol):
    """A term, see ``Term``."""

    @property
    def counts(self) -> Mapping[str, Tensor]:
        """By name."""
        ...

    @property
    def divisor(self) -> Callable[..., Tensor] | None:
        """Of their totals."""
        ...


class Divisors:
    """Divisors of the totals of counts; terms that share a count have the same one."""

    def __init__(self, totals: Mapping[str, Tensor], normalizer: Normalizer) -> None:
        self.totals, self.normalizer = totals, normalizer
        self.made: dict[tuple[str, torch.dtype], Tensor] = {}

    def of_all(self, terms: Sequence[HasCounts], values: Tensor) -> Tensor:
        """Of terms with values (T, …), (T, …); or one that all share."""
        own = [self.of(term, values.dtype) for term in terms]
        is_shared = all(each is own[0] for each in own)
        return own[0] if is_shared else torch.stack([each.expand(values.shape[1:]) for each in own])

    def of(self, term: HasCounts, dtype: torch.dtype) -> Tensor:
        """Of a term whose values have this dtype, ``(*layers,)``."""
        if term.divisor is not None:
            return term.divisor(*(self.totals[name].to(dtype) for name in term.counts))
        key = next(iter(term.counts)), dtype
        if key not in self.made:
            self.made[key] = self.totals[key[0]].to(dtype).clamp(min=self.normalizer.minimum)
        return self.made[key]
