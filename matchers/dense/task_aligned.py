"""Task-aligned assignment, as in TOOD, YOLOv8 and YOLOv9."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.selection import BestTarget
from matchers.costs.classes import alignment
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.candidates import SMALLEST, Candidates, best_of, is_contested, normalized
from matchers.dense.rule import Rule
from matchers.geometry.overlaps import ciou, iou
from matchers.pairs.near import Nearby, can_be_narrowed, in_box
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.results import count_invalid
from ragged.values.checks import check_flag, check_not_negative, check_number, check_one_of, check_positive
from ragged.values.precision import wide
from ragged.values.ranking import largest
from ragged.values.readable import known_finite


@dataclass(frozen=True, kw_only=True)
class TaskAligned(Rule):
    """Take the predictions that both classify and locate a target best (Feng et al., TOOD, 2021).

    The metric of a pair is ``p^alpha overlap^beta`` with the sigmoid probability p of the target's class. A target
    takes the ``topk`` predictions of largest metric, if it is above 0 and their points lie inside the target. A
    prediction that several targets want goes to the one it overlaps most (or of largest metric), then to the first.

    A target may end up without any prediction, by design; ``Assignment.describe`` tells.

    Args:
        topk: Predictions that a target may take.
        alpha: Exponent of the class probability.
        beta: Exponent of the overlap.
        overlap: ``"iou"``, or ``"ciou"`` (clamped to [0, 1]).
        only_inside: Whether the ``topk`` are chosen among the predictions with a point inside, as in YOLOv8 and YOLOv9;
            or among all of them, and those outside are dropped afterwards, as in TOOD.
        conflict: What decides between the targets that want a prediction: ``"overlap"`` or ``"metric"``. Or
            ``"overlap_inside"``: the overlap, among all targets that hold its point, whether they want it or not.
        quality: What ``Assignment.quality`` is. ``"metric"``: the metric itself. ``"normalized"``: scaled for each
            target so that its largest is the largest overlap of its positives, as in TOOD and YOLOv8.
            ``"normalized_over_all"``: the same with the largest metric and overlap of all predictions, assigned or not,
            as in YOLOv9.
        min_center_margin: By how many pixels a point must be inside.
        topk2: After conflicts, each target keeps its ``topk2`` predictions of largest metric; None: all.
        min_side: Minimum side of a target in pixels for the test of points; overlaps use the true box.
        add_eps: True: normalisation divides by the largest metric + 1e-9; False: by max(metric, 1e-9).
        max_pairwise_bytes: Limit in bytes for temporary memory of pairs, independent of the number of targets. Default:
            16 MiB on CPU, 1 GiB elsewhere. The result does not depend on it.

    >>> TaskAligned.yolov9().alpha
    0.5
    """

    topk: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    overlap: str = "iou"
    only_inside: bool = False
    conflict: str = "overlap"
    quality: str = "normalized"
    min_center_margin: float = 0.01
    topk2: int | None = None
    min_side: float = 0.0
    add_eps: bool = False
    max_pairwise_bytes: int | None = None
    of_points: ClassVar[bool] = True

    def check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` if a parameter is out of range."""
        choices = {
            "overlap": ("iou", "ciou"),
            "conflict": ("overlap", "metric", "overlap_inside"),
            "quality": ("metric", "normalized", "normalized_over_all"),
        }
        for name, allowed in choices.items():
            check_one_of(getattr(self, name), allowed, name)
        check_positive(self.topk, "topk")
        if self.topk2 is not None:
            check_positive(self.topk2, "topk2")
        check_flag(self.only_inside, "only_inside")
        check_flag(self.add_eps, "add_eps")
        check_not_negative(self.min_side, "min_side")
        check_not_negative(self.alpha, "alpha")
        check_not_negative(self.beta, "beta")
        check_number(self.min_center_margin, "min_center_margin", low=None)
        if self.conflict == "overlap_inside" and self.quality == "normalized_over_all":
            raise ValueError(
                "quality must be 'metric' or 'normalized' with conflict='overlap_inside', got 'normalized_over_all'"
            )

    @classmethod
    def tood(cls) -> TaskAligned:
        """As in TOOD."""
        return cls()

    @classmethod
    def yolov8(cls, *, topk: int = 10, topk2: int | None = None, min_side: float = 16.0) -> TaskAligned:
        """The settings of Ultralytics: the square root of the probability, CIoU, and small targets enlarged.

        Args:
            topk: 10; 7 for the one-to-one head of YOLO26.
            topk2: None; 1 for that head.
            min_side: The second stride of the head, or its only one. Releases before 8.4 have 0.

        Differences to other implementations: in Ultralytics, a target with fewer than ``topk`` predictions of positive
            metric also takes arbitrary ones of metric 0. They get quality 0 but cause conflicts.
        """
        return cls(
            topk=topk,
            alpha=0.5,
            overlap="ciou",
            only_inside=True,
            conflict="overlap_inside",
            min_center_margin=SMALLEST,
            topk2=topk2,
            min_side=min_side,
            add_eps=True,
        )

    @classmethod
    def yolov9(cls) -> TaskAligned:
        """As in YOLOv9: the metric decides between targets, and quality is relative to all predictions."""
        return cls(
            topk=10,
            alpha=0.5,
            overlap="ciou",
            only_inside=True,
            conflict="metric",
            quality="normalized_over_all",
            min_center_margin=0.0,
        )

    def __call__(self, predictions: AnyPredictions, targets: Any, priors: Tensor | None = None) -> Assignment:
        """Assign a batch.

        Args:
            predictions: Logits (*batch, P, C) and decoded boxes (*batch, P, 4).
            targets: Anything that ``Targets.of`` reads.
            priors: Grid points (P, 4), as ``grid_points`` gives them: x, y and strides in pixels.
        """
        return self._assignment(predictions, targets, priors)

    def most_per_target(self) -> int:
        """``topk``."""
        return self.topk

    def choose(self, problem: Problem) -> Choice:
        """The predictions of largest metric of each target, and the quality that ``quality`` names."""
        points, rows = problem.need_points("TaskAligned"), Pairs.of(problem)
        best, holders = (
            BestTarget(problem.num_samples, problem.num_predictions, problem.device, highest=True) for _ in range(2)
        )
        # TOOD chooses among all predictions.
        narrow = self.only_inside and can_be_narrowed(
            rows, points, problem.need_boxes("TaskAligned"), problem.need_logits("TaskAligned")
        )
        region = partial(in_box, margin=self.min_center_margin, min_side=self.min_side)
        near = Nearby.of(rows, points, region, narrow=narrow)
        by_holders = self.conflict == "overlap_inside"
        blocks = (self._candidates(each, holders if by_holders else None) for each in near.blocks(at_least=self.topk))
        candidates = Candidates.joined(blocks, len(rows))
        if narrow and self.quality == "normalized_over_all":
            candidates = self._with_highest_of_all(candidates, rows)
        slots = candidates.wanted_by(best, by_metric=self.conflict == "metric")
        if by_holders:
            best.replace(is_contested(slots, candidates.counts, best.key), holders)
            return *self._of_predictions(problem, *best.result()), candidates.num_invalid
        target = best.targets()
        if self.topk2 is not None:
            candidates = candidates.kept(target, self.topk2)
            target = candidates.write_target(target)
        quality = torch.zeros_like(target, dtype=torch.float32)
        candidates.write_quality(quality, target, self.quality, add_eps=self.add_eps)
        return target, quality, candidates.num_invalid

    def _of_predictions(self, problem: Problem, target: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (N, P), of which they keep ``topk2``, and the quality, of overlaps (N, P) with these targets."""
        count = problem.max_num_targets
        slot = target % (count + 1)  # the last one is that of no target
        label = F.pad(problem.need_targets("labels", "TaskAligned"), (0, 1)).gather(-1, slot)
        logits = wide(problem.need_logits("TaskAligned").gather(-1, label.unsqueeze(-1)).squeeze(-1))
        metric = alignment(logits, overlap, alpha=self.alpha, beta=self.beta)
        if not known_finite(metric):
            metric = metric.nan_to_num_(0)
        if self.topk2 is not None:
            target = target.masked_fill(~best_of(slot, metric, self.topk2), -1)
            slot = target % (count + 1)
        if self.quality == "metric":
            return target, metric
        return target, normalized(slot, metric, overlap, count + 1, add_eps=self.add_eps)

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``{"alignment": -metric}``."""

        def cost(pairs: Pairs) -> Tensor:
            overlap = self._overlap(pairs)
            return -alignment(pairs.logits_of_labels(), overlap, alpha=self.alpha, beta=self.beta)

        return {"alignment": cost}

    def _overlap(self, pairs: Pairs) -> Tensor:
        boxes, gt = pairs.predicted, pairs.gt
        return iou(boxes, gt) if self.overlap == "iou" else ciou(boxes, gt).clamp_(0, 1)

    def _candidates(self, pairs: Pairs, holders: BestTarget | None) -> Candidates:
        overlap = self._overlap(pairs)
        metric = alignment(pairs.logits_of_labels(), overlap, alpha=self.alpha, beta=self.beta)
        invalid = count_invalid(metric, pairs, nonnegative=True)
        if not known_finite(metric):
            overlap, metric = overlap.nan_to_num_(0), metric.nan_to_num_(0)
        inside = pairs.near
        assert inside is not None
        if self.quality == "normalized_over_all" and overlap.shape[-1]:
            highest = (overlap if pairs.prediction is None else overlap * inside).amax(-1)
        else:
            highest = overlap.new_zeros(len(pairs))
        if holders is not None:
            _see_holders(holders, overlap, pairs)
        if self.only_inside:
            metric.mul_(inside.view(torch.uint8))  # torch is slower at multiplying by booleans
        value, column = largest(metric, self.topk, nonnegative=True)
        counts = value > 0
        if not self.only_inside:
            counts &= inside.gather(-1, column)
            if self.quality == "normalized_over_all":
                value = value * counts
        overlap = overlap.gather(-1, column)
        prediction = column if pairs.prediction is None else pairs.prediction.gather(-1, column)
        return Candidates(pairs.row, pairs.sample, pairs.target, prediction, value, overlap, counts, highest, invalid)

    def _with_highest_of_all(self, candidates: Candidates, rows: Pairs) -> Candidates:
        """Candidates that know the highest overlap of their targets with any prediction, not with those inside only."""
        highest = candidates.highest_overlap.new_zeros(len(rows))
        highest[candidates.row] = candidates.highest_overlap
        for pairs in rows.blocks():
            # No overlap is above the IoU, so that few pairs need another look.
            row, prediction = (iou(pairs.predicted, pairs.gt) > highest[pairs.row].unsqueeze(-1)).nonzero(as_tuple=True)
            prediction = prediction.unsqueeze(-1)
            every = torch.ones_like(prediction, dtype=torch.bool)
            found = self._overlap(pairs.select(row, prediction=prediction, near=every))
            highest.scatter_reduce_(0, pairs.row[row], found.squeeze(-1), "amax")
        return replace(candidates, highest_overlap=highest[candidates.row])


def _see_holders(holders: BestTarget, overlap: Tensor, pairs: Pairs) -> None:
    """Let each prediction see the targets that hold its point."""
    assert pairs.near is not None
    if pairs.prediction is None:
        holders.see_rows(overlap, pairs, pairs.near)
    else:
        holders.see_pairs(overlap, pairs.sample, pairs.target, pairs.prediction, pairs.near)
