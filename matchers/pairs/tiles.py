"""Pairs whose boxes may overlap, and no others.

For rules that only look at overlapping boxes. Predictions are cut into tiles, runs of neighbours in their order, which
for grids are neighbours in the image. A target is compared with the tiles whose hull it meets. That depends on values:
where the host cannot read them at no cost, there is one tile, of all predictions, and every target is compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.geometry.boxes import Coordinates
from matchers.pairs.pairs import Pairs
from ragged.values.readable import values_are_readable

_SIZE = 40


@dataclass(frozen=True, eq=False)
class TiledBoxes:
    """Boxes of n images (1 if all have the same), in M tiles of T boxes each, and the hulls of the tiles.

    Args:
        boxes: Coordinates, stacked, (5, n * M, T); empty boxes fill up the last tile.
        hulls: Lowest x1 and y1, highest x2 and y2 of each tile, (4, n, M); None if there is one tile.
        count: P, without what fills up.
    """

    boxes: Tensor
    hulls: Tensor | None
    count: int

    @classmethod
    def of(cls, boxes: Tensor) -> TiledBoxes:
        """Cut boxes, given as stacked coordinates (5, n, P), into tiles."""
        count = boxes.shape[2]
        if not values_are_readable(boxes) or count <= _SIZE:
            return cls(boxes, None, count)
        missing = -count % _SIZE
        # What is unusable may lie anywhere, what fills up lies nowhere.
        low = F.pad(boxes[:2].nan_to_num(-torch.inf), (0, missing), value=torch.inf)
        high = F.pad(boxes[2:4].nan_to_num(torch.inf), (0, missing), value=-torch.inf)
        shape = (2, boxes.shape[1], -1, _SIZE)
        hulls = torch.cat([low.view(shape).amin(-1), high.view(shape).amax(-1)])
        return cls(F.pad(boxes, (0, missing)).view(5, -1, _SIZE), hulls, count)

    @property
    def size(self) -> int:
        """T."""
        return self.boxes.shape[2]

    @property
    def per_image(self) -> int:
        """M."""
        return 1 if self.hulls is None else self.hulls.shape[2]

    def untiled(self, table: Tensor) -> Tensor:
        """A table (N * M, T) of all images as (N, P)."""
        return table.view(table.shape[0] // self.per_image, self.per_image * self.size)[:, : self.count]

    @property
    def is_shared(self) -> bool:
        """Whether all images have the same boxes."""
        return self.boxes.shape[1] == self.per_image

    @property
    def share(self) -> int:
        """About how many times fewer pairs there are to compute; to make blocks of pairs larger by."""
        return 1 if self.hulls is None else 4


@dataclass(frozen=True, eq=False)
class Tiles:
    """K tiles, each with a target that may overlap some of its T boxes.

    Args:
        pairs: The R targets.
        row: (K,), which of the targets.
        tile: (K,), which tile of the image.
        place: (K, T) or (1, T), which prediction; P and more for what fills up.
        boxes: Coordinates of the boxes, (K, T) or (1, T) each.
        gt: Coordinates of the targets, (K, 1) each.
    """

    pairs: Pairs
    row: Tensor
    tile: Tensor
    place: Tensor
    boxes: Coordinates
    gt: Coordinates

    @classmethod
    def overlapping(cls, pairs: Pairs, tiled: TiledBoxes) -> Tiles:
        """The tiles that the targets of ``pairs`` meet."""
        within = torch.arange(tiled.size, device=pairs.sample.device).unsqueeze(0)
        sample = torch.zeros_like(pairs.sample) if tiled.is_shared else pairs.sample
        if tiled.hulls is None:
            row = torch.arange(len(pairs), device=sample.device)
            boxes = tiled.boxes if tiled.is_shared else tiled.boxes.index_select(1, sample)
            return cls(pairs, row, torch.zeros_like(row), within, Coordinates(*boxes.unbind()), pairs.gt)
        x1, y1, x2, y2 = tiled.hulls.index_select(1, sample)
        gt = pairs.gt
        meets = (gt.x1 < x2) & (gt.x2 > x1) & (gt.y1 < y2) & (gt.y2 > y1)
        row, tile = meets.nonzero(as_tuple=True)
        boxes = tiled.boxes.index_select(1, sample[row] * tiled.per_image + tile)
        corners = pairs.need_corners().index_select(1, row)
        place = tile.unsqueeze(-1) * tiled.size + within
        return cls(pairs, row, tile, place, Coordinates(*boxes.unbind()), Coordinates(*corners.unbind()))

    def highest_of_rows(self, values: Tensor) -> Tensor:
        """The highest of non-negative values (K, T), or of such integers, for each target, (R,); 0 without any."""
        none = values.new_zeros(len(self.pairs))
        if not values.shape[-1]:
            return none
        return none.scatter_reduce(0, self.row, values.amax(-1), "amax")
