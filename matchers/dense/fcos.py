"""Assignment of points by centre sampling and ranges of scale, as in FCOS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from matchers.assignments.selection import BestTarget
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.rule import Rule
from matchers.geometry.boxes import Coordinates
from matchers.pairs.near import in_box, near_center
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import Problem
from matchers.pairs.tiles import Extent, Tiling
from ragged.values.checks import check_all_positive, check_is_sequence


@dataclass(frozen=True, kw_only=True)
class FCOS(Rule):
    """Give each point the smallest target around it that fits its level (Tian et al., 2019).

    A point wants a target if it lies in the box, within ``center_radius`` strides of the centre in x and y (centre
    sampling, of the journal version, 2021), and its distance to the farthest side lies between
    ``regress_range[0]`` and ``regress_range[1]`` strides. The level of the smallest stride has no lower bound, that of
    the largest no upper bound. Of several targets, a point takes the one with the smallest area; on ties, the first.

    A target may end up without any point; ``Assignment.describe`` tells.

    Its call takes predictions, of which only the shape is read (None if there are none), targets, and grid points
    (P, 4): x, y and strides, in pixels. The quality of each positive is 1.

    Args:
        center_radius: Radius of centre sampling in strides; None: the whole box.
        regress_range: In strides. Ranges of levels whose strides double meet at 4 and 8.
        max_pairwise_bytes: Limit in bytes for temporary memory of pairs, independent of the number of targets. Default:
            16 MiB on CPU, 1 GiB elsewhere. The result does not depend on it.

    Raises:
        ValueError: ``regress_range`` is not an increasing pair.

    >>> points = torch.tensor([[4.0, 4.0, 8.0, 8.0], [12.0, 4.0, 8.0, 8.0], [28.0, 4.0, 8.0, 8.0]])
    >>> boxes = torch.tensor([[0.0, 0.0, 16.0, 8.0], [2.0, 0.0, 10.0, 8.0]])
    >>> FCOS()(None, [{"boxes": boxes, "labels": torch.tensor([0, 0])}], points).target_index
    tensor([[ 1,  0, -1]])
    """

    center_radius: float | None = 1.5
    regress_range: tuple[float, float] = (4.0, 8.0)
    max_pairwise_bytes: int | None = None
    of_points: ClassVar[bool] = True

    def check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` if a parameter is out of range."""
        if self.center_radius is not None:
            check_all_positive((self.center_radius,), "center_radius")
        check_is_sequence(self.regress_range, "regress_range", "2 numbers")
        check_all_positive(self.regress_range, "regress_range")
        if len(self.regress_range) != 2 or self.regress_range[0] > self.regress_range[1]:
            raise ValueError(f"regress_range must be a pair (low, high) in order, got {self.regress_range}")

    def choose(self, problem: Problem) -> Choice:
        """The smallest target of each point."""
        points = problem.need_points("FCOS")
        ranges = _Ranges.of(points, self.regress_range)
        tiling = Tiling.of(Extent.of(points).stacked())
        best = BestTarget(problem.num_samples * tiling.per_image, tiling.size, problem.device, highest=False)
        for pairs in Pairs.of(problem).blocks(larger=tiling.share):
            tiles = tiling.met_by(pairs, self._is_central)
            where = Extent.of_stacked(tiles.parts)
            wanted = self._is_central(where, tiles.gt) & ranges.hold(where, tiles.gt)
            area = tiles.gt.area.expand_as(wanted)
            if tiling.hulls is None:
                best.see_rows(area, pairs, pairs.counts(wanted))
            else:
                tile = pairs.sample[tiles.row] * tiling.per_image + tiles.tile
                counts = wanted if pairs.packed else wanted & pairs.valid[tiles.row].unsqueeze(-1)
                best.see_at(area, tile, pairs.target[tiles.row], counts)
        target = tiling.untiled(best.targets())
        return target, (target >= 0).float(), None

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``{"area": area of the target}``, infinite where the point does not want it."""
        points = problem.need_points("FCOS")
        ranges, where = _Ranges.of(points, self.regress_range), Extent.of(points)

        def area(pairs: Pairs) -> Tensor:
            wanted = self._is_central(where, pairs.gt) & ranges.hold(where, pairs.gt)
            return pairs.gt.area.masked_fill(~wanted, torch.inf)

        return {"area": area}

    def _is_central(self, where: Extent, gt: Coordinates) -> Tensor:
        within = in_box(where, gt)
        return within if self.center_radius is None else within & near_center(where, gt, radius=self.center_radius)


@dataclass(frozen=True, eq=False)
class _Ranges:
    """Which distances to the farthest side a level regresses.

    Args:
        finest, coarsest: The smallest and the largest stride, ().
        strides: Of the lower and of the upper bound.
    """

    finest: Tensor
    coarsest: Tensor
    strides: tuple[float, float]

    @classmethod
    def of(cls, points: Tensor, strides: tuple[float, float]) -> _Ranges:
        """Of grid points (P, 4)."""
        if not points.shape[0]:
            return cls(points.new_zeros(()), points.new_zeros(()), strides)
        return cls(*points[:, 2:].amax(-1).aminmax(), strides)

    def hold(self, where: Extent, gt: Coordinates) -> Tensor:
        """Whether the level of points is one for targets; everything broadcasts."""
        sides = torch.maximum(where.low - gt.low, gt.high - where.low)
        farthest = torch.maximum(sides[0], sides[1])
        low, high = (where.stride * each for each in self.strides)
        above = (farthest > low) | (where.stride == self.finest)
        return above & ((farthest < high) | (where.stride == self.coarsest))
