"""Pairs of a target with the predictions whose points lie near it, where the others do not matter.

Most points are far from most targets. Where the host can read the points (on CPU), the pairs of interest are found in
two steps, first of tiles of neighbouring points and then of single points, and rules compute nothing of the others.
Elsewhere the rows keep all predictions, in static shapes, and a mask says which of them are of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.boxes import Coordinates
from matchers.pairs import Pairs
from matchers.selection import reduce_rows_
from ragged.checks import known_finite, values_are_readable

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


def in_box(where: Extent, boxes: Coordinates, *, margin: float = 0.0) -> Tensor:
    """Whether points lie inside boxes by more than ``margin``."""
    # A difference of rounded numbers never shrinks as the first of them grows, so that extents are tested safely.
    across = torch.minimum(where.x2 - boxes.x1, boxes.x2 - where.x1)
    down = torch.minimum(where.y2 - boxes.y1, boxes.y2 - where.y1)
    return torch.minimum(across, down) > margin


def near_center(where: Extent, boxes: Coordinates, *, radius: float) -> Tensor:
    """Whether points lie, in x and y, strictly within ``radius`` strides of the centres of boxes."""
    return _farther_axis(where, boxes) < radius * where.stride


def _farther_axis(where: Extent, boxes: Coordinates) -> Tensor:
    """Distance from the centre, in x or y, whichever is larger; the smallest one of an extent, not below 0."""
    x, y = (boxes.x1 + boxes.x2) / 2, (boxes.y1 + boxes.y2) / 2
    across = torch.maximum(where.x1 - x, x - where.x2)
    return torch.maximum(across, torch.maximum(where.y1 - y, y - where.y2))


@dataclass(frozen=True, eq=False)
class Nearby:
    """The pairs of R targets and P points that are of interest.

    Args:
        rows: The targets.
        test: Which pairs (R, P) of some of them these are, bool.
        row, place: (K,), target and point of each, ascending; None where the host does not look for them.
    """

    rows: Pairs
    test: Callable[[Pairs], Tensor]
    row: Tensor | None = None
    place: Tensor | None = None

    @classmethod
    def of(cls, rows: Pairs, points: Tensor, region: Region, *, narrow: bool) -> Nearby:
        """Those whose point is in a region; the host looks for them if ``narrow``, see ``can_be_narrowed``."""
        where = Extent.of(points)
        found = cls(rows, lambda pairs: region(where, pairs.gt))
        return found._with(*_Tiles.of(points).pairs(rows, region)) if narrow else found

    @classmethod
    def of_candidates(cls, rows: Pairs, points: Tensor, candidates: Tensor, region: Region, *, narrow: bool) -> Nearby:
        """Those whose prediction is one of ``candidates`` (N, P); if ``narrow``, only those in the region."""
        found = cls(rows, lambda pairs: pairs.of_predictions(candidates))
        if not narrow:
            return found
        row, place = _Tiles.of(points).pairs(rows, region)
        kept = candidates[rows.sample[row], place]
        return found._with(row[kept], place[kept])

    def _with(self, row: Tensor, place: Tensor) -> Nearby:
        return replace(self, row=row, place=place)

    @property
    def is_narrow(self) -> bool:
        """Whether they were looked for."""
        return self.row is not None

    def of_any_target(self) -> Tensor:
        """(N, P), bool: predictions that are near any target of their image."""
        problem = self.rows.problem
        shape = (problem.num_samples, problem.num_predictions)
        found = torch.zeros(shape, dtype=torch.uint8, device=problem.device)
        if self.row is not None and self.place is not None:
            found[self.rows.sample[self.row], self.place] = 1
            return found.view(torch.bool)
        for pairs in self.blocks():
            counts = pairs.counts(pairs.near)
            assert counts is not None
            reduce_rows_(found, pairs.sample, counts.view(torch.uint8), "amax")
        return found.view(torch.bool)

    def __len__(self) -> int:
        """How many targets the blocks have together."""
        return len(self.rows) if self.row is None else int(torch.unique_consecutive(self.row).numel())

    def blocks(self, *, at_least: int = 1) -> Iterator[Pairs]:
        """The targets in blocks, each with the predictions that are near one of them at least; one block or more.

        Args:
            at_least: How many predictions a row has, if need be such that are not near.
        """
        if self.row is None or self.place is None:
            for pairs in self.rows.blocks():
                yield replace(pairs, near=self.test(pairs))
            return
        count = torch.bincount(self.row, minlength=len(self.rows))
        first = count.cumsum(0) - count
        # Rows of about the same length together, and none without a pair: little of a block is filler.
        exponent = torch.frexp(count.clamp(min=_NARROWEST // 2 + 1) - 0.5).exponent.where(count > 0, 0)
        widths = [width for width in exponent.unique().tolist() if width]
        for width in widths or [1]:
            rows = (exponent == width).nonzero().squeeze(-1)
            for part in rows.split(max(1, self.rows.problem.pairs_at_once >> width)):
                yield self._block(part, first[part], count[part], at_least)

    def _block(self, rows: Tensor, first: Tensor, count: Tensor, at_least: int) -> Pairs:
        assert self.place is not None
        count = count.unsqueeze(-1)
        within = torch.arange(max([at_least, *count.amax(0).tolist()]) if len(rows) else at_least)
        index = torch.minimum(within, count - 1).add_(first.unsqueeze(-1))
        return self.rows.select(rows, place=self.place[index], near=within < count)


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

    def pairs(self, rows: Pairs, region: Region) -> tuple[Tensor, Tensor]:
        """Row and point, (K,) each, of the pairs in the region."""
        found = [self._pairs(block, region) for block in rows.blocks(larger=_TILE)]
        row, place = (torch.cat(parts) for parts in zip(*found, strict=True))
        return row, place

    def _pairs(self, targets: Pairs, region: Region) -> tuple[Tensor, Tensor]:
        row, tile = region(self.hulls, targets.gt).nonzero(as_tuple=True)
        boxes = Coordinates(*targets.corners.index_select(1, row).unbind())
        passes = region(Extent(*(each[tile] for each in self.points)), boxes)
        which, within = passes.nonzero(as_tuple=True)
        place = tile[which] * _TILE + within
        row = targets.row[row[which]]
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
