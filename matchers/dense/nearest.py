"""The priors of each level whose centres are nearest to those of targets.

Where the host can look at values (on CPU), and all images have the same priors, targets are compared with tiles of
neighbouring priors first, and with single priors only in tiles that may hold one of the nearest. Elsewhere, and in
small levels, with all priors of the level. The result is the same, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from matchers.geometry.places import squared_center_distance
from matchers.pairs.near import Found, Nearby
from matchers.pairs.pairs import Pairs
from matchers.pairs.tiles import SIZE, Extent, Tiling
from ragged.values.once import known_range
from ragged.values.ranking import index_of, keys, smallest
from ragged.values.readable import known_within

# With fewer priors, or fewer targets, a level is compared as a whole in less time.
_MANY_PRIORS, _MANY_PAIRS = 1 << 14, 1 << 20
# Squares of coordinates from here on may not be finite.
_FAR = 1e18


@dataclass(frozen=True, eq=False)
class Nearest:
    """Looks for the ``topk`` nearest priors of each level.

    Args:
        centers: Of the priors, x and y, (2, 1, P) if all images have the same, else (2, N, P).
        level_sizes: Number of priors of each level.
        topk: How many of each; all priors of a level that has fewer.
    """

    centers: Tensor
    level_sizes: Sequence[int]
    topk: int

    def blocks(self, rows: Pairs) -> Iterator[tuple[Pairs, Tensor]]:
        """Targets in blocks, each with the nearest priors of its targets, (R, K)."""
        if not self._can_be_narrowed(rows):
            for pairs in rows.blocks():
                yield pairs, self._of_all(pairs, self.level_sizes, self.centers)
            return
        found, first = [], 0
        for size, centers in zip(self.level_sizes, self.centers.split(list(self.level_sizes), -1), strict=True):
            found.append(self._of_level(rows, size, centers) + first)
            first += size
        joined = torch.cat(found, -1)
        for pairs in rows.blocks(larger=max(1, self.centers.shape[-1] // joined.shape[-1])):
            yield pairs, joined[pairs.row]

    def _can_be_narrowed(self, rows: Pairs) -> bool:
        most = max(self.level_sizes, default=0)
        if not rows.packed or self.centers.shape[1] > 1 or most < _MANY_PRIORS or len(rows) * most < _MANY_PAIRS:
            return False
        assert rows.corners is not None
        return known_within(self.centers, -_FAR, _FAR) and known_within(rows.corners[:4], -_FAR, _FAR)

    def _of_all(self, pairs: Pairs, sizes: Sequence[int], centers: Tensor) -> Tensor:
        """The nearest priors of levels, (R, K), by their distances from all."""
        own = centers if centers.shape[1] == 1 else centers.index_select(1, pairs.sample)
        distance = squared_center_distance(own, pairs.gt)
        key = keys(distance, known_range(distance.shape[-1], distance.device), nonnegative=True)
        levels = [
            level.topk(min(self.topk, level.shape[-1]), -1, largest=False) for level in key.split(list(sizes), -1)
        ]
        return index_of(torch.cat([nearest.values for nearest in levels], -1))

    def _of_level(self, rows: Pairs, size: int, centers: Tensor) -> Tensor:
        """The nearest priors of a level, of all targets, (R, topk); in tiles if that is less to compute."""
        if size <= max(_MANY_PRIORS, self.topk * SIZE):
            return torch.cat([self._of_all(pairs, [size], centers) for pairs in rows.blocks()])
        where = Extent(centers, None, torch.zeros_like(centers[0]))
        nearby = Nearby(rows, _no_test, partial(_search, Tiling.of(where.stacked()), self.topk))
        found = torch.empty(len(rows), self.topk, dtype=torch.int64)
        for pairs in nearby.blocks():
            assert pairs.prediction is not None and pairs.near is not None
            distance = squared_center_distance(centers[:, 0, pairs.prediction], pairs.gt)
            distance = distance.masked_fill_(~pairs.near, torch.inf)
            found[pairs.row] = smallest(distance, self.topk, index=pairs.prediction, nonnegative=True)[1]
        return found


def _no_test(pairs: Pairs) -> Tensor:
    raise AssertionError("pairs are looked for")


def _search(tiling: Tiling, topk: int, targets: Pairs) -> Found:
    """Pairs of targets and priors, the nearest among them: those of tiles that begin before the nearest surely end."""
    assert tiling.hulls is not None
    low, high = tiling.hulls[:2], tiling.hulls[2:4]
    middle = (targets.gt.low + targets.gt.high) / 2
    # A difference of rounded numbers never shrinks as the first of them grows, nor do its square and sums of these.
    before, behind = low - middle, middle - high
    across, down = torch.maximum(before, behind).clamp_(min=0).square_()
    begins = across.add_(down)
    across, down = torch.maximum(before.abs_(), behind.abs_()).square_()
    ends = across.add_(down)
    ends = ends[:, : tiling.count // SIZE]  # the last tile may hold fewer
    bound = ends.kthvalue(-(-topk // SIZE), -1, keepdim=True).values
    row, tile = (begins <= bound).nonzero(as_tuple=True)
    prediction = tile.unsqueeze(-1) * SIZE + torch.arange(SIZE)
    exists = prediction < tiling.count
    return row.unsqueeze(-1).expand_as(prediction)[exists], prediction[exists]
