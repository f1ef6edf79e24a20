"""Pairs of a target with the predictions whose points lie near it, where the others do not matter.

Most points are far from most targets. Where the host can read the points (on CPU), the pairs of interest are found in
two steps, first of tiles of neighbouring points and then of single points, and rules compute nothing of the others.
Elsewhere the rows keep all predictions, in static shapes, and a mask says which of them are of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from matchers.geometry import places
from matchers.geometry.boxes import Coordinates
from matchers.pairs.pairs import Pairs
from matchers.pairs.tiles import SIZE, Extent, Region, Tiling
from ragged.values.once import once
from ragged.values.readable import known_finite, values_are_readable

# Numbers in a row are rounded up to a power of two from here on: so many widths of blocks there are at most.
_NARROWEST = 256

Found = tuple[Tensor, Tensor]
"""Of K pairs, which of the rows and which prediction of its image, (K,) each; ascending."""


def in_box(where: Extent, boxes: Coordinates, *, margin: float = 0.0, min_side: float = 0.0) -> Tensor:
    """Whether points lie inside boxes by more than ``margin``, whose shorter sides are taken for ``min_side``."""
    boxes = places.enlarged(boxes, min_side) if min_side else boxes
    return places.inside(where.low, boxes, margin=margin, up_to=where.high)


def near_center(where: Extent, boxes: Coordinates, *, radius: float) -> Tensor:
    """Whether points lie, in x and y, strictly within ``radius`` strides of the centres of boxes."""
    return places.near_center(where.low, boxes, radius * where.stride, up_to=where.high)


@dataclass(frozen=True, eq=False)
class Nearby:
    """The pairs of R targets and P points that are of interest.

    Args:
        rows: The targets.
        test: Which pairs (R, P) of some of them these are, bool.
        search: Looks for the pairs of some of them; None where the host does not.
        first: The pairs of the first targets that were looked for, which are all of them as a rule.
        all: Which pairs they are of all rows, if these are one block.
    """

    rows: Pairs
    test: Callable[[Pairs], Tensor]
    search: Callable[[Pairs], Found] | None = None
    first: list[Found] = field(default_factory=list)
    all: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Pairs, points: Tensor, region: Region, *, narrow: bool) -> Nearby:
        """Those whose point is in a region; the host looks for them if ``narrow``, see ``can_be_narrowed``."""
        where = Extent.of(points)
        search = partial(_search, Tiling.of(where.stacked()), region) if narrow else None
        return cls(rows, lambda pairs: region(where, pairs.gt), search)

    @classmethod
    def of_candidates(cls, rows: Pairs, points: Tensor, candidates: Tensor, region: Region, *, narrow: bool) -> Nearby:
        """Those whose prediction is one of ``candidates`` (N, P); if ``narrow``, only those in the region."""
        tiling = Tiling.of(Extent.of(points).stacked()) if narrow else None

        def search(pairs: Pairs) -> Found:
            assert tiling is not None
            row, prediction = _search(tiling, region, pairs)
            kept = candidates[pairs.sample[row], prediction]
            return row[kept], prediction[kept]

        return cls(rows, lambda pairs: candidates_of(pairs, candidates), search if narrow else None)

    @property
    def is_narrow(self) -> bool:
        """Whether they are looked for."""
        return self.search is not None

    def of_any_target(self) -> Tensor:
        """(N, P), bool: predictions that are near any target of their image."""
        problem = self.rows.problem
        shape = (problem.num_samples, problem.num_predictions)
        if self.search is not None:
            found = torch.zeros(shape, dtype=torch.uint8, device=problem.device)
            for pairs, (row, prediction) in self._found():
                found[pairs.sample[row], prediction] = 1
            return found.view(torch.bool)
        near: Tensor | None = None
        for pairs in self.blocks():
            assert pairs.near is not None
            near = pairs.over_targets(pairs.near.view(torch.uint8), "amax", into=near)
        assert near is not None
        return near.view(torch.bool)

    def blocks(self, *, at_least: int = 1) -> Iterator[Pairs]:
        """The targets in blocks, each with the predictions that are near one of them at least; one block or more.

        Args:
            at_least: How many predictions a row has, if need be such that are not near.
        """
        if self.search is None:
            for pairs in self.rows.blocks():
                yield replace(pairs, near=self._tested(pairs))
            return
        for pairs, found in self._found():
            yield from _blocks(pairs, found, at_least)

    def _tested(self, pairs: Pairs) -> Tensor:
        """Which pairs are of interest; none of filler."""
        if pairs is self.rows and self.all:  # asked for twice
            return self.all[0]
        near = pairs.counts(self.test(pairs))
        assert near is not None
        if pairs is self.rows:
            self.all.append(near)
        return near

    def _found(self) -> Iterator[tuple[Pairs, Found]]:
        """The pairs of so many targets that a list of these takes no more memory than a block."""
        # Tests of tiles are what is computed most of; about one in ten has points that are near.
        assert self.search is not None
        for number, pairs in enumerate(self.rows.blocks(larger=SIZE)):
            if number:
                yield pairs, self.search(pairs)
                continue
            # Asked for twice; those of further targets are looked for again, which takes no memory.
            if not self.first:
                self.first.append(self.search(pairs))
            yield pairs, self.first[0]


def candidates_of(pairs: Pairs, candidates: Tensor) -> Tensor:
    """Which predictions are ``candidates`` (N, P) of the image, bool, for each row (R, P)."""
    return once(pairs.computed, "candidates", lambda: pairs.of_predictions(candidates))


def _blocks(rows: Pairs, found: Found, at_least: int) -> Iterator[Pairs]:
    """Rows of about the same length together, so that little of a block is filler."""
    row, prediction = found
    count = torch.bincount(row, minlength=len(rows))
    first = count.cumsum(0) - count
    exponent = torch.frexp(count.clamp(min=_NARROWEST // 2 + 1) - 0.5).exponent
    for width in exponent.unique().tolist():
        which = (exponent == width).nonzero().squeeze(-1)
        for part in which.split(max(1, rows.problem.pairs_at_once >> width)):
            number = count[part].unsqueeze(-1)
            within = torch.arange(max(at_least, int(number.max())))
            index = torch.minimum(within, (number - 1).clamp(min=0)).add_(first[part].unsqueeze(-1))
            # A last row without a pair would begin behind the end.
            index = index.clamp_(max=max(len(prediction) - 1, 0))
            near = within < number
            yield rows.select(part, prediction=prediction[index] if len(prediction) else index, near=near)


def _search(tiling: Tiling, region: Region, targets: Pairs) -> Found:
    """The pairs in the region."""
    tiles = tiling.met_by(targets, region)
    which, within = region(Extent.of_stacked(tiles.parts), tiles.gt).nonzero(as_tuple=True)
    return tiles.row[which], tiles.tile[which] * tiling.size + within


def can_be_narrowed(rows: Pairs, points: Tensor, *values: Tensor | None) -> bool:
    """Whether the host can look for the pairs, and nothing else than them needs a look, as all values are finite."""
    return (
        rows.packed
        and values_are_readable(points)
        and points.shape[0] > 0
        and len(rows) > 0
        and all(value is None or known_finite(value) for value in values)
    )
