"""Task-aligned assignment, as in TOOD, YOLOv8 and YOLOv9."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.selection import BestTarget
from matchers.costs.classes import alignment
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.rule import Rule
from matchers.geometry.overlaps import ciou, iou
from matchers.pairs.near import Nearby, can_be_narrowed, in_box
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.results import count_invalid
from ragged.values.checks import check_flag, check_not_negative, check_number, check_one_of, check_positive
from ragged.values.ranking import largest
from ragged.values.readable import known_finite

_SMALLEST = 1e-9


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
        conflict: What decides between targets: ``"overlap"`` or ``"metric"``.
        quality: What ``Assignment.quality`` is. ``"metric"``: the metric itself. ``"normalized"``: scaled for each
            target so that its largest is the largest overlap of its positives, as in TOOD and YOLOv8.
            ``"normalized_over_all"``: the same with the largest metric and overlap of all predictions, assigned or not,
            as in YOLOv9.
        min_center_margin: By how many pixels a point must be inside.
        max_pairwise_bytes: How much memory may be taken for pairs at once, whatever the number of targets; by default
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
    max_pairwise_bytes: int | None = None
    of_points: ClassVar[bool] = True

    def check(self) -> None:
        """Raise unless all parameters are right."""
        choices = {
            "overlap": ("iou", "ciou"),
            "conflict": ("overlap", "metric"),
            "quality": ("metric", "normalized", "normalized_over_all"),
        }
        for name, allowed in choices.items():
            check_one_of(getattr(self, name), allowed, name)
        check_positive(self.topk, "topk")
        check_flag(self.only_inside, "only_inside")
        check_not_negative(self.alpha, "alpha")
        check_not_negative(self.beta, "beta")
        check_number(self.min_center_margin, "min_center_margin", low=None)

    @classmethod
    def tood(cls) -> TaskAligned:
        """As in TOOD."""
        return cls()

    @classmethod
    def yolov8(cls) -> TaskAligned:
        """As in YOLOv8: ten predictions, the square root of the probability, CIoU.

        There, a prediction that several targets want may also go to one that it lies in and that did not want it.
        """
        return cls(topk=10, alpha=0.5, overlap="ciou", only_inside=True, min_center_margin=_SMALLEST)

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
        best = BestTarget(problem.num_samples, problem.num_predictions, problem.device, highest=True)
        # TOOD chooses among all predictions.
        narrow = self.only_inside and can_be_narrowed(
            rows, points, problem.need_boxes("TaskAligned"), problem.need_logits("TaskAligned")
        )
        near = Nearby.of(rows, points, partial(in_box, margin=self.min_center_margin), narrow=narrow)
        candidates = _Candidates.joined((self._candidates(each) for each in near.blocks(at_least=self.topk)), len(rows))
        if narrow and self.quality == "normalized_over_all":
            candidates = self._with_highest_of_all(candidates, rows)
        candidates.wanted_by(best, by_metric=self.conflict == "metric")
        target, _ = best.result()
        quality = torch.zeros_like(target, dtype=torch.float32)
        candidates.write_quality(quality, target, self.quality)
        return target, quality, candidates.num_invalid

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``{"alignment": -metric}``."""

        def cost(pairs: Pairs) -> Tensor:
            overlap = self._overlap(pairs)
            return -alignment(pairs.logits_of_labels(), overlap, alpha=self.alpha, beta=self.beta)

        return {"alignment": cost}

    def _overlap(self, pairs: Pairs) -> Tensor:
        boxes, gt = pairs.predicted, pairs.gt
        return iou(boxes, gt) if self.overlap == "iou" else ciou(boxes, gt).clamp_(0, 1)

    def _candidates(self, pairs: Pairs) -> _Candidates:
        overlap = self._overlap(pairs)
        metric = alignment(pairs.logits_of_labels(), overlap, alpha=self.alpha, beta=self.beta)
        invalid = count_invalid(metric, pairs)
        if not known_finite(metric):
            overlap, metric = overlap.nan_to_num_(0), metric.nan_to_num_(0)
        inside = pairs.near
        assert inside is not None
        highest = overlap.new_zeros(len(pairs))
        if self.quality == "normalized_over_all" and overlap.shape[-1]:
            highest = (overlap if pairs.prediction is None else overlap * inside).amax(-1)
        if self.only_inside:
            metric.masked_fill_(~inside, 0)
        value, column = largest(metric, self.topk, nonnegative=True)
        counts = (value > 0) & pairs.valid.unsqueeze(-1)
        if not self.only_inside:
            counts &= inside.gather(-1, column)
        overlap = overlap.gather(-1, column)
        prediction = column if pairs.prediction is None else pairs.prediction.gather(-1, column)
        return _Candidates(pairs.row, pairs.sample, pairs.target, prediction, value, overlap, counts, highest, invalid)

    def _with_highest_of_all(self, candidates: _Candidates, rows: Pairs) -> _Candidates:
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


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The K predictions that each of R targets would take.

    Args:
        row, sample, target: (R,), which target to be matched, its image, and its index there.
        prediction, metric, overlap, counts: (R, K): which prediction of the image, how well it fits, and whether it may
            be taken.
        highest_overlap: (R,), among all predictions.
        num_invalid: (N,), of the images.
    """

    row: Tensor
    sample: Tensor
    target: Tensor
    prediction: Tensor
    metric: Tensor
    overlap: Tensor
    counts: Tensor
    highest_overlap: Tensor
    num_invalid: Tensor

    @classmethod
    def joined(cls, blocks: Iterator[_Candidates], num_rows: int) -> _Candidates:
        """All rows of blocks, in memory that is taken before the second block is computed.

        Otherwise the little that is kept of a block would stand where the large tensors of the next one were, and all
        of these would be put in ever new places.
        """
        first = next(blocks)
        if first.sample.shape[0] == num_rows:
            return first
        whole, start = first._empty(num_rows), 0
        for block in itertools.chain([first], blocks):
            end = start + block.sample.shape[0]
            for name, value in block._of_rows().items():
                getattr(whole, name)[start:end] = value
            whole.num_invalid.add_(block.num_invalid)
            start = end
        return whole

    def _of_rows(self) -> dict[str, Tensor]:
        names = ("row", "sample", "target", "prediction", "metric", "overlap", "counts", "highest_overlap")
        return {name: getattr(self, name) for name in names}

    def _empty(self, num_rows: int) -> _Candidates:
        fields = {name: value.new_empty(num_rows, *value.shape[1:]) for name, value in self._of_rows().items()}
        return replace(self, **fields, num_invalid=torch.zeros_like(self.num_invalid))

    def wanted_by(self, best: BestTarget, *, by_metric: bool) -> None:
        value = self.metric if by_metric else self.overlap
        best.see_pairs(value, self.sample, self.target, self.prediction, self.counts)

    def write_quality(self, quality: Tensor, target: Tensor, kind: str) -> None:
        """Write the quality of the pairs that were made into (N, P)."""
        sample = self.sample.unsqueeze(-1)
        won = self.counts & (target[sample, self.prediction] == self.target.unsqueeze(-1))
        value = self.metric
        if kind != "metric" and value.shape[-1]:
            among = self.counts if kind == "normalized_over_all" else won
            most = (value * among).amax(-1, keepdim=True)
            overlap = (self.overlap * among).amax(-1, keepdim=True)
            if kind == "normalized_over_all":
                overlap = self.highest_overlap.unsqueeze(-1)
            value = value / most.clamp(min=_SMALLEST) * overlap
        quality.index_put_((sample, self.prediction), torch.where(won, value, 0).float(), accumulate=True)
