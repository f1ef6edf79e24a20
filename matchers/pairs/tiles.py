"""Pairs of a target with the points or boxes near it, and few others.

Points and boxes are cut into tiles, runs of neighbours in their order, which for grids are neighbours in the image. A
target is compared with the hulls of the tiles first, then with what is in the tiles that it meets. That depends on
values: where the host cannot read them at no cost, there is one tile, which every target meets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from matchers.geometry.boxes import Coordinates
from matchers.pairs.pairs import Pairs
from ragged.values.once import known_range, of_constant
from ragged.values.ranking import INDEX_MASK, index_of, keys, value_of
from ragged.values.readable import values_are_readable

SIZE = 16
"""Points or boxes in a tile."""
NOWHERE = (torch.inf, torch.inf, -torch.inf, -torch.inf, 0.0)
"""What fills up the last tile: nothing is near it."""


@dataclass(frozen=True, eq=False)
class Extent:
    """Where points or boxes are, between lowest and highest x and y, and the largest stride of points.

    Args:
        low: Lowest x and y, ``(2, …)``.
        high: The highest; None of points, for which they are the lowest.
        stride: ``(…)``. Of boxes, it means nothing.
    """

    low: Tensor
    high: Tensor | None
    stride: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Extent:
        """Of grid points (P, 4), x, y and strides: (1, P) each."""
        return of_constant(points, "extent", lambda: cls._of_points(points))

    @classmethod
    def _of_points(cls, points: Tensor) -> Extent:
        parts = points.mT.clone(memory_format=torch.contiguous_format).unsqueeze(1)
        return cls(parts[:2], None, torch.maximum(parts[2], parts[3]))

    @classmethod
    def of_stacked(cls, stacked: Tensor) -> Extent:
        """Of lowest and highest x and y, and strides, in one tensor ``(5, …)``."""
        return cls(stacked[:2], stacked[2:4], stacked[4])

    def stacked(self) -> Tensor:
        """Lowest and highest x and y, and strides, in one tensor ``(5, …)``."""
        return torch.cat([self.low, self.low if self.high is None else self.high, self.stride.unsqueeze(0)])

    def at(self, prediction: Tensor | None) -> Extent:
        """Of the points ``prediction`` (R, W) of all that there are, (1, P); None keeps these."""
        if prediction is None:
            return self
        return Extent(self.low[:, 0, prediction], None, self.stride[0, prediction])


Region = Callable[[Extent, Coordinates], Tensor]
"""Whether points or boxes lie near targets; and, of a hull, a test that is true if any of those in it may."""


def overlapping(where: Extent, gt: Coordinates) -> Tensor:
    """Whether boxes may overlap targets."""
    meet = (gt.low < (where.low if where.high is None else where.high)) & (gt.high > where.low)
    return meet[0] & meet[1]


@dataclass(frozen=True, eq=False)
class Tiling:
    """P points or boxes of n images (1 if all have the same), in M tiles of T each, and the hulls of the tiles.

    Args:
        parts: As the fields of ``Extent`` or ``Coordinates``, (5, n * M, T); ``NOWHERE`` fills up the last tile.
        hulls: As the fields of ``Extent``, (5, n, M); None if there is one tile.
        count: P.
    """

    parts: Tensor
    hulls: Tensor | None
    count: int

    @classmethod
    def of(cls, parts: Tensor) -> Tiling:
        """Cut points or boxes, given as stacked fields (5, n, P), into tiles."""
        count = parts.shape[2]
        if not values_are_readable(parts) or count <= SIZE:
            return cls(parts, None, count)
        missing = -count % SIZE
        if missing:
            filler = parts.new_tensor(NOWHERE).view(5, 1, 1).expand(-1, parts.shape[1], missing)
            parts = torch.cat([parts, filler], -1)
        tiles = parts.view(5, parts.shape[1], -1, SIZE)
        # What is NaN lies nowhere.
        lowest = tiles[:2].nan_to_num(torch.inf, posinf=torch.inf, neginf=-torch.inf).amin(-1)
        highest = tiles[2:].nan_to_num(-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(-1)
        return cls(parts.view(5, -1, SIZE), torch.cat([lowest, highest]), count)

    @property
    def size(self) -> int:
        """T."""
        return self.parts.shape[2]

    @property
    def per_image(self) -> int:
        """M."""
        return 1 if self.hulls is None else self.hulls.shape[2]

    @property
    def is_shared(self) -> bool:
        """Whether all images have the same points or boxes."""
        return self.parts.shape[1] == self.per_image

    @property
    def share(self) -> int:
        """About how many times fewer pairs there are to compute; to make blocks of pairs larger by."""
        return 1 if self.hulls is None else 4

    def untiled(self, table: Tensor) -> Tensor:
        """A table (N * M, T) of all images as (N, P)."""
        return table.view(table.shape[0] // self.per_image, self.per_image * self.size)[:, : self.count]

    def met_by(self, pairs: Pairs, region: Region) -> Tiles:
        """The tiles whose hulls are in the region of targets."""
        within = known_range(self.size, pairs.sample.device).unsqueeze(0)
        if self.hulls is None:
            parts = self.parts if self.is_shared else self.parts.index_select(1, pairs.sample)
            return Tiles(pairs, None, within, parts, pairs.gt)
        hulls = self.hulls if self.is_shared else self.hulls.index_select(1, pairs.sample)
        row, tile = region(Extent.of_stacked(hulls), pairs.gt).nonzero(as_tuple=True)
        of_all = tile if self.is_shared else pairs.sample[row] * self.per_image + tile
        gt = Coordinates(pairs.need_corners().index_select(1, row))
        prediction = tile.unsqueeze(-1) * self.size + within
        return Tiles(pairs, (row, tile), prediction, self.parts.index_select(1, of_all), gt)


@dataclass(frozen=True, eq=False)
class Tiles:
    """K tiles, each with a target that may be near some of its T points or boxes.

    Args:
        pairs: The R targets.
        found: (K,), which of the targets, ascending, and which tile of the image. None if an image is one tile, which
            all its targets meet: K is R.
        prediction: (K, T) or (1, T), index in the image; P and more for what fills up.
        parts: Fields of the points or boxes, stacked, (5, K, T) or (5, 1, T).
        gt: Coordinates of the targets, (K, 1) each.
    """

    pairs: Pairs
    found: tuple[Tensor, Tensor] | None
    prediction: Tensor
    parts: Tensor
    gt: Coordinates

    @property
    def row(self) -> Tensor:
        """(K,), which of the targets; ascending."""
        return torch.arange(len(self.pairs), device=self.prediction.device) if self.found is None else self.found[0]

    @property
    def tile(self) -> Tensor:
        """(K,), which tile of the image."""
        return torch.zeros_like(self.row) if self.found is None else self.found[1]

    def highest_of_rows(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The highest of non-negative values (K, T) of each target, (R, 1), and its prediction, the first on ties.

        The highest of none is 0, of the first prediction; (R, 0) if there are no predictions.
        """
        if not values.shape[-1]:
            none = self.prediction.new_zeros(len(self.pairs), 0)
            return none.to(values.dtype), none
        if self.found is None:
            found = values.max(-1, keepdim=True)
            return found.values, found.indices
        none = self.prediction.new_full((len(self.pairs), 1), INDEX_MASK)
        # On a CPU, torch finds the largest integer of 64 bits many times faster than the smallest.
        key = keys(values, INDEX_MASK - self.prediction, nonnegative=True).amax(-1, keepdim=True)
        key = none.scatter_reduce(0, self.row.unsqueeze(-1), key, "amax")
        return value_of(key, nonnegative=True), INDEX_MASK - index_of(key)
