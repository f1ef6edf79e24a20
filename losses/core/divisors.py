"""What the sums of terms are divided by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
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

    @property
    def part(self) -> int | None:
        """Which of several divisors is its own."""
        ...


class Divisors:
    """Divisors of the totals of counts; terms that share a count have the same one."""

    def __init__(self, totals: Mapping[str, Tensor], normalizer: Normalizer) -> None:
        self.totals, self.normalizer = totals, normalizer

    def of_all(self, terms: Sequence[HasCounts], layers: Sequence[int], values: Tensor) -> Tensor:
        """Of terms that have so many layers each, whose values (sum of layers, …) are one after the other.

        Returns:
            As many, or one that all share.
        """
        dtype, lowest = values.dtype, self.normalizer.minimum
        names = [None if term.divisor is not None else next(iter(term.counts)) for term in terms]
        if names[0] is not None and set(names) == {names[0]}:
            only = self.totals[names[0]].to(dtype)
            if only.dim() < values.dim() or only.shape[0] == 1:
                return only.clamp(min=lowest)
        made: dict[Hashable, Tensor] = {}
        found = []
        for term, name in zip(terms, names, strict=True):
            if name is not None:
                found.append(self.totals[name].to(dtype))
                continue
            key = term.divisor, *term.counts
            if key not in made:
                made[key] = term.divisor(*(self.totals[each].to(dtype) for each in term.counts))  # type: ignore[misc]
            found.append(made[key] if term.part is None else made[key][term.part])
        found = [each.expand(size, *values.shape[1:]) for each, size in zip(found, layers, strict=True)]
        usual = [each for each, name in zip(found, names, strict=True) if name is not None]
        if not usual:
            return torch.cat(found)
        bounded = torch.cat(usual).clamp(min=lowest)
        if len(usual) == len(found):
            return bounded
        pieces = iter(bounded.split([len(each) for each in usual]))
        return torch.cat([each if name is None else next(pieces) for each, name in zip(found, names, strict=True)])
