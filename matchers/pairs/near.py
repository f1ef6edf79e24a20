"""Pairs of a target with the predictions whose points lie near it, where the others do not matter.

Most points are far from most targets. Where the host can read the points (on CPU), the pairs of interest are found in
two steps, first of tiles of neighbouring points and then of single points, and rules compute nothing of the others.
Elsewhere the rows keep all predictions, in static shapes, and a mask says which of them are of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.assignments.selection import reduce_rows_
from matchers.geometry import places
from matchers.geometry.boxes import Coordinates
from matchers.pairs.pairs import Pairs
from ragged.values.readable import known_finite, values_are_readable

_TILE = 16
# Numbers in a row are rounded up to a power of two from here on: so many widths of blocks there are at most.
_NARROWEST = 256


class Extent(NamedTuple):
    """Where points are, between lowest and highest x and y; and the largest stride. A point has both alike."""

    x1: Tensor
    y1: Tensor
    x2: Tensor
    y2: Tensor
    stride: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Extent:
        """Of grid points (P, 4): x, y and strides."""
        x, y, stride_x, stride_y = points.unbind(-1)
        return cls(x, y, x, y, torch.maximum(stride_x, stride_y))


Region = Callable[[Extent, Coordinates], Tensor]
"""Whether points lie near boxes; and, of an extent, a test that is true if any point in it may."""

Found = tuple[Tensor, Tensor]
"""Of K pairs, which of the targets and which point, (K,) each; ascending."""


def in_box(where: Extent, boxes: Coordinates, *, margin: float = 0.0) -> Tensor:
    """Whether points lie inside boxes by more than ``margin``."""
    return places.inside(where.x1, where.y1, boxes, margin=margin, up_to=(where.x2, where.y2))


def near_center(where: Extent, boxes: Coordinates, *, radius: float) -> Tensor:
    """Whether points lie, in x and y, strictly within ``radius`` strides of the centres of boxes."""
    return places.near_center(where.x1, where.y1, boxes, radius * where.stride, up_to=(where.x2, where.y2))


@dataclass(frozen=True, eq=False)
class Nearby:
    """The pairs of R targets and P points that are of interest.

    Args:
        rows: The targets.
        test: Which pairs (R, P) of some of them these are, bool.
        search: Looks for the pairs of some of them; None where the host does not.
        first: The pairs of the first targets that were looked for, which are all of them as a rule.
    """

    rows: Pairs
    test: Callable[[Pairs], Tensor]
    search: Callable[[Pairs], Found] | None = None
    first: list[Found] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Pairs, points: Tensor, region: Region, *, narrow: bool) -> Nearby:
        """Those whose point is in a region; the host looks for them if ``narrow``, see ``can_be_narrowed``."""
        where = Extent.of(points)
        search = partial(_Tiles.of(points).search, region) if narrow else None
        return cls(rows, lambda pairs: region(where, pairs.gt), search)

    @classmethod
    def of_candidates(cls, rows: Pairs, points: Tensor, candidates: Tensor, region: Region, *, narrow: bool) -> Nearby:
        """Those whose prediction is one of ``candidates`` (N, P); if ``narrow``, only those in the region."""
        tiles = _Tiles.of(points) if narrow else None

        def search(pairs: Pairs) -> Found:
            assert tiles is not None
            row, place = tiles.search(region, pairs)
            kept = candidates[pairs.sample[row], place]
            return row[kept], place[kept]

        return cls(rows, lambda pairs: pairs.of_predictions(candidates), search if narrow else None)

    @property
    def is_narrow(self) -> bool:
        """Whether they are looked for."""
        return self.search is not None

    def of_any_target(self) -> Tensor:
        """(N, P), bool: predictions that are near any target of their image."""
        problem = self.rows.problem
        shape = (problem.num_samples, problem.num_predictions)
        found = torch.zeros(shape, dtype=torch.uint8, device=problem.device)
        if self.search is not None:
            for pairs, (row, place) in self._found():
                found[pairs.sample[row], place] = 1
            return found.view(torch.bool)
        for pairs in self.blocks():
            counts = pairs.counts(pairs.near)
            assert counts is not None
            reduce_rows_(found, pairs.sample, counts.view(torch.uint8), "amax")
        return found.view(torch.bool)

    def blocks(self, *, at_least: int = 1) -> Iterator[Pairs]:
        """The targets in blocks, each with the predictions that are near one of them at least; one block or more.

        Args:
            at_least: How many predictions a row has, if need be such that are not near.
        """
        if self.search is None:
            for pairs in self.rows.blocks():
                yield replace(pairs, near=self.test(pairs))
            return
        for pairs, found in self._found():
            yield from _blocks(pairs, found, at_least)

    def _found(self) -> Iterator[tuple[Pairs, Found]]:
        """The pairs of so many targets that a list of these takes no more memory than a block."""
        # Tests of tiles are what is computed most of; about one in ten has points that are near.
        assert self.search is not None
        for number, pairs in enumerate(self.rows.blocks(larger=_TILE)):
            if number:
                yield pairs, self.search(pairs)
                continue
            # Asked for twice; those of further targets are looked for again, which takes no memory.
            if not self.first:
                self.first.append(self.search(pairs))
            yield pairs, self.first[0]


def _blocks(rows: Pairs, found: Found, at_least: int) -> Iterator[Pairs]:
    """Rows of about the same length together, so that little of a block is filler."""
    row, place = found
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
            index = index.clamp_(max=max(len(place) - 1, 0))
            near = within < number
            yield rows.select(part, place=place[index] if len(place) else index, near=near)


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Points in tiles of neighbours, M of them, the last one filled up with its last point.

    Args:
        points: Of each tile, (M, T).
        hulls: Of the tiles, (M,).
        count: P.
    """

    points: Extent
    hulls: Extent
    count: int

    @classmethod
    def of(cls, points: Tensor) -> _Tiles:
        count = points.shape[0]
        columns = F.pad(points.mT.unsqueeze(0), (0, -count % _TILE), mode="replicate").view(4, -1, _TILE)
        tiles = Extent.of(columns.movedim(0, -1))
        hulls = Extent(*(each.amin(-1) for each in tiles[:2]), *(each.amax(-1) for each in tiles[2:]))
        return cls(tiles, hulls, count)

    def search(self, region: Region, targets: Pairs) -> Found:
        """The pairs in the region."""
        row, tile = region(self.hulls, targets.gt).nonzero(as_tuple=True)
        boxes = Coordinates(*targets.need_corners().index_select(1, row).unbind())
        passes = region(Extent(*(each[tile] for each in self.points)), boxes)
        which, within = passes.nonzero(as_tuple=True)
        place = tile[which] * _TILE + within
        row = row[which]
        if self.count % _TILE == 0:
            return row, place
        real = place < self.count
        return row[real], place[real]


def can_be_narrowed(rows: Pairs, points: Tensor, *values: Tensor | None) -> bool:
    """Whether the host can look for the pairs, and nothing else than them needs a look, as all values are finite."""
    return (
        rows.packed
        and values_are_readable(points)
        and points.shape[0] > 0
        and len(rows) > 0
        and all(value is None or known_finite(value) for value in values)
    )
