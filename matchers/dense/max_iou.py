"""Assignment by IoU thresholds, as in Faster R-CNN, RetinaNet and SSD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.assignments.selection import BestTarget
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.rule import Rule
from matchers.geometry.boxes import Coordinates
from matchers.geometry.overlaps import iou
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.tiles import Tiles, Tiling, overlapping
from ragged.values.checks import check_flag, check_not_negative, check_share


@dataclass(frozen=True, kw_only=True)
class MaxIoU(Rule):
    """Give each prior the target that it overlaps most, if the IoU is high enough (Ren et al., Faster R-CNN, 2015).

    A prior is positive if its largest IoU is at least ``pos_iou_thr``, background if it is below ``neg_iou_thr``, and
    ignored in between. With ``match_low_quality``, each target also takes its best prior, even from another target; if
    several targets have the same best prior, the one with the highest IoU gets it, then the first. A target that
    overlaps no prior at all (IoU 0) gets none.

    Args:
        pos_iou_thr: From this IoU on, a prior is positive.
        neg_iou_thr: Below this IoU, a prior is background; or a pair (low, high): background from low to below high,
            ignored below low.
        min_pos_iou: The least IoU at which a target takes its best prior.
        match_low_quality: Whether targets take their best priors.
        gt_max_assign_all: Whether a target takes all priors that share its largest IoU, or the first of them.
        keep_best_target: True: a prior taken by low quality becomes positive for the target that it overlaps most
            (torchvision). False: for the target that took it.
        ignore_iof: A prior without a target is ignored if at least this part of it lies in an ignored target;
            above 1, none is.
        max_pairwise_bytes: Limit in bytes for temporary memory of pairs, independent of the number of targets. Default:
            16 MiB on CPU, 1 GiB elsewhere. The result does not depend on it.

    Raises:
        ValueError: Thresholds are not in order.

    >>> anchors = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0], [0.0, 0.0, 4.0, 3.0]])
    >>> target = {"boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "labels": torch.tensor([0])}
    >>> MaxIoU()(None, [target], anchors).target_index
    tensor([[ 0, -1,  0]])
    """

    pos_iou_thr: float = 0.5
    neg_iou_thr: float | tuple[float, float] = 0.5
    min_pos_iou: float = 0.0
    match_low_quality: bool = True
    gt_max_assign_all: bool = False
    keep_best_target: bool = False
    ignore_iof: float = 0.5
    max_pairwise_bytes: int | None = None
    normalized: ClassVar[bool | None] = None

    def check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` if a parameter is out of range."""
        if isinstance(self.neg_iou_thr, (list, tuple)) and len(self.neg_iou_thr) != 2:
            raise ValueError(f"neg_iou_thr must be a number or a pair (low, high), got {self.neg_iou_thr}")
        low, high = self._background_range
        for name, value in (("pos_iou_thr", self.pos_iou_thr), ("neg_iou_thr", low), ("neg_iou_thr", high)):
            check_share(value, name)
        check_share(self.min_pos_iou, "min_pos_iou")
        check_not_negative(self.ignore_iof, "ignore_iof")
        for name in ("match_low_quality", "gt_max_assign_all", "keep_best_target"):
            check_flag(getattr(self, name), name)
        if not low <= high <= self.pos_iou_thr:
            raise ValueError(
                "thresholds must be in order, 0 <= low <= high <= pos_iou_thr <= 1; "
                f"got neg_iou_thr={self.neg_iou_thr}, pos_iou_thr={self.pos_iou_thr}"
            )

    def __call__(self, predictions: AnyPredictions | None, targets: Any, priors: Tensor | None = None) -> Assignment:
        """Assign a batch.

        Args:
            predictions: Their boxes, (*batch, P, 4), are compared with the targets if there are no priors. None if
                there are no predictions yet.
            targets: Anything that ``Targets.of`` reads.
            priors: xyxy boxes (P, 4) or (*batch, P, 4), in the unit of the targets.

        Returns:
            An ``Assignment`` whose quality is the IoU.
        """
        return self._assignment(predictions, targets, priors)

    def choose(self, problem: Problem) -> Choice:
        """The target of the largest IoU, by thresholds; then the best prior of each target."""
        tiling = Tiling.of(problem.predicted if problem.priors is None else problem.prior_boxes)
        best = BestTarget(problem.num_samples * tiling.per_image, tiling.size, problem.device, highest=True)
        forced = BestTarget(problem.num_samples, problem.num_predictions, problem.device, highest=True)
        for pairs in Pairs.of(problem).blocks(larger=tiling.share):
            tiles = tiling.met_by(pairs, overlapping)
            # A box that is not finite overlaps nothing.
            overlap = iou(Coordinates.of_stacked(tiles.parts), tiles.gt).nan_to_num_(0).float()
            if tiles.found is None:
                best.see_rows(overlap, pairs, None if pairs.packed else pairs.valid.unsqueeze(-1))
            else:
                tile = pairs.sample[tiles.row] * tiling.per_image + tiles.tile
                counts = None if pairs.packed else pairs.valid[tiles.row].unsqueeze(-1)
                best.see_at(overlap, tile, pairs.target[tiles.row], counts)
            if self.match_low_quality:
                self._take_best(forced, overlap, tiles)
        target, overlap = (tiling.untiled(found) for found in best.result())
        # A prior has an IoU of 0 with all targets that it did not meet, of which the first is the best.
        if tiling.hulls is not None and problem.max_num_targets:
            first = problem.matchable.to(torch.uint8).argmax(1, keepdim=True)
            target = torch.where(overlap > 0, target, first.masked_fill(problem.is_empty, BACKGROUND))
        target_index = self._by_threshold(target, overlap)
        if self.match_low_quality:
            taker, taken = forced.result()
            is_taken = taker >= 0
            if self.keep_best_target:
                return torch.where(is_taken, target, target_index), overlap, _num_invalid(problem)
            target_index = torch.where(is_taken, taker, target_index)
            overlap = torch.where(is_taken, taken, overlap)
        return target_index, overlap, _num_invalid(problem)

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``{"iou": 1 - IoU}``."""
        which = "predicted" if problem.priors is None else "priors"
        return {"iou": lambda pairs: 1 - iou(getattr(pairs, which), pairs.gt)}

    @property
    def _background_range(self) -> tuple[float, float]:
        limits = self.neg_iou_thr
        return (limits[0], limits[1]) if isinstance(limits, (list, tuple)) else (0.0, limits)

    def _by_threshold(self, target: Tensor, overlap: Tensor) -> Tensor:
        """The target, or what a prior is that does not overlap it enough; there is no target in an empty image."""
        low, high = self._background_range
        found = target.masked_fill(overlap < self.pos_iou_thr, BACKGROUND)
        if low == 0 and high == self.pos_iou_thr:
            return found
        is_ignored = (overlap < low) | ((overlap >= high) & (overlap < self.pos_iou_thr))
        return found.masked_fill(is_ignored & (target >= 0), IGNORED)

    def _take_best(self, forced: BestTarget, overlap: Tensor, tiles: Tiles) -> None:
        pairs = tiles.pairs
        highest, prediction = tiles.highest_of_rows(overlap)
        takes = (highest >= self.min_pos_iou if self.min_pos_iou > 0 else highest > 0) & pairs.valid.unsqueeze(-1)
        if self.gt_max_assign_all:
            takes = takes[tiles.row] & (overlap == highest[tiles.row])
            sample, target = pairs.sample[tiles.row], pairs.target[tiles.row]
            prediction = tiles.prediction.clamp(max=pairs.problem.num_predictions - 1)  # of what fills up the last tile
            forced.see_pairs(highest[tiles.row].expand_as(overlap), sample, target, prediction, takes)
        else:
            forced.see_pairs(highest, pairs.sample, pairs.target, prediction, takes)


def _num_invalid(problem: Problem) -> Tensor | None:
    """Pairs with predicted boxes that are not finite, (N,); priors are finite."""
    if problem.priors is not None:
        return None
    unusable = problem.need_boxes("MaxIoU").isnan().any(-1).sum(-1)
    return unusable * problem.matchable.sum(-1)
