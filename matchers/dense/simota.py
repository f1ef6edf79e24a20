"""Simplified optimal transport assignment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.costs.classes import binary_background, binary_cost, binary_costs, log_joint_score
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.dynamic_k import DynamicK, of_all_classes, overlap_cost, overlap_of
from matchers.dense.rule import Rule
from matchers.geometry.boxes import Coordinates
from matchers.pairs.near import Nearby, can_be_narrowed, in_box, near_center
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.tiles import Extent
from ragged.values.checks import check_not_negative, check_positive
from ragged.values.once import once


@dataclass(frozen=True, kw_only=True)
class SimOTA(Rule):
    """Let each target take its cheapest predictions, as many as its overlaps suggest (Ge et al., YOLOX, 2021).

    A prediction is a candidate of a target if its point lies in the target's box or near its centre. The cost is binary
    cross entropy of all class scores plus ``-iou_weight log(IoU)``, and much higher if the point is not both in the box
    and near the centre. See ``DynamicK`` for how many a target takes and for conflicts; k sums the IoUs with
    candidates of any target of the image.

    A target without candidates gets no prediction.

    Args:
        center_radius: Radius around the centre, in strides.
        candidate_topk: Overlaps that are added up, and predictions that a target may take at most.
        iou_weight: Weight of the overlap's cost.
        cls_weight: Weight of the class cost.
        max_pairwise_bytes: Limit in bytes for temporary memory of pairs, independent of the number of targets. Default:
            16 MiB on CPU, 1 GiB elsewhere. The result does not depend on it.

    >>> predictions = Predictions(torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0, 8, 8], [8, 0, 16, 8]]]))
    >>> target = {"boxes": torch.tensor([[1.0, 0.0, 9.0, 8.0]]), "labels": torch.tensor([0])}
    >>> points = torch.tensor([[4.0, 4.0, 8.0, 8.0], [12.0, 4.0, 8.0, 8.0]])
    >>> SimOTA()(predictions, [target], points).target_index
    tensor([[ 0, -1]])
    """

    center_radius: float = 2.5
    candidate_topk: int = 10
    iou_weight: float = 3.0
    cls_weight: float = 1.0
    max_pairwise_bytes: int | None = None
    of_points: ClassVar[bool] = True

    _OUTSIDE = 1e5

    def check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` if a parameter is out of range."""
        check_positive(self.candidate_topk, "candidate_topk")
        for name in ("center_radius", "iou_weight", "cls_weight"):
            check_not_negative(getattr(self, name), name)

    def __call__(self, predictions: AnyPredictions, targets: Any, priors: Tensor | None = None) -> Assignment:
        """Assign a batch.

        Args:
            predictions: Logits (*batch, P, C), decoded boxes (*batch, P, 4) and objectness (*batch, P), without which
                it counts as 1.
            targets: Anything that ``Targets.of`` reads.
            priors: Grid points (P, 4), as ``grid_points`` gives them: x, y and strides, in pixels, in the middle of
                the cells.

        Returns:
            An ``Assignment`` whose quality is the IoU of the predicted box.
        """
        return self._assignment(predictions, targets, priors)

    def most_per_target(self) -> int:
        """``candidate_topk``."""
        return self.candidate_topk

    def choose(self, problem: Problem) -> Choice:
        """The cheapest predictions of each target, and the IoU."""
        points = problem.need_points("SimOTA")
        rows, where = Pairs.of(problem), Extent.of(points)
        logits, objectness = problem.need_logits("SimOTA"), problem.predictions.objectness
        narrow = can_be_narrowed(rows, points, problem.need_boxes("SimOTA"), logits, objectness)
        near = Nearby.of(rows, points, self._is_candidate, narrow=narrow)
        if not narrow:
            near = replace(near, test=lambda pairs: torch.bitwise_or(*self._tests(pairs, where)))
        class_cost = self._class_cost(rows, logits, objectness)

        def cost(pairs: Pairs, overlap: Tensor) -> Tensor:
            found = class_cost(pairs).add_(overlap_cost(overlap, self.iou_weight))
            return found.add_(self._is_outside(pairs, where), alpha=self._OUTSIDE)

        wanted = DynamicK(problem, self.candidate_topk, near.of_any_target())
        wanted.take(near, cost)
        return wanted.result()

    def _is_candidate(self, where: Extent, gt: Coordinates) -> Tensor:
        return in_box(where, gt) | near_center(where, gt, radius=self.center_radius)

    def _is_outside(self, pairs: Pairs, where: Extent) -> Tensor:
        """Whether the point of a candidate is not both in the box and near its centre."""
        return torch.bitwise_xor(*self._tests(pairs, where))

    def _tests(self, pairs: Pairs, where: Extent) -> tuple[Tensor, Tensor]:
        """Whether points are in the box, and near its centre."""

        def make() -> tuple[Tensor, Tensor]:
            points = where.at(pairs.prediction)
            return in_box(points, pairs.gt), near_center(points, pairs.gt, radius=self.center_radius)

        return once(pairs.computed, "tests", make)

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``"class"``, ``"iou"``, and ``"outside"``."""
        where = Extent.of(problem.need_points("SimOTA"))
        class_cost = self._class_cost(Pairs.of(problem), problem.need_logits("SimOTA"), problem.predictions.objectness)

        def outside(pairs: Pairs) -> Tensor:
            cost = self._OUTSIDE * self._is_outside(pairs, where)
            return cost.masked_fill(~self._is_candidate(where, pairs.gt), torch.inf)

        return {
            "class": class_cost,
            "iou": lambda pairs: overlap_cost(overlap_of(pairs), self.iou_weight),
            "outside": outside,
        }

    def _class_cost(self, rows: Pairs, logits: Tensor, objectness: Tensor | None) -> PairCost:
        """The cost of classes: of each pair, if these are few; else of all classes, and then looked up."""
        if not rows.packed:
            table = binary_costs(logits, objectness).mul_(self.cls_weight)
            table.add_(logits, alpha=0)  # NaN of what is infinite
            return lambda pairs: pairs.of_labels(table)
        others = of_all_classes(rows, binary_background, logits, objectness)

        def cost(pairs: Pairs) -> Tensor:
            score = log_joint_score(
                pairs.logits_of_labels(), None if objectness is None else pairs.of_predictions(objectness)
            )
            return binary_cost(score, pairs.of_predictions(others)).mul_(self.cls_weight)

        return cost
