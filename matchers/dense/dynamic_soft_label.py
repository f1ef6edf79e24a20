"""Dynamic soft label assignment, as in RTMDet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.costs.classes import softlabel_background, softlabel_cost
from matchers.costs.terms import PairCost
from matchers.dense.as_operation import Choice
from matchers.dense.dynamic_k import DynamicK, of_all_classes, overlap_cost, overlap_of
from matchers.dense.rule import Rule
from matchers.geometry.places import squared_center_distance
from matchers.pairs.near import Nearby, can_be_narrowed, in_box, near_center
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from ragged.values.checks import check_not_negative, check_number, check_positive
from ragged.values.once import of_constant

_FARTHEST = 30.0
# Strides beyond the soft radius, from which on a prediction is not looked at unless that turns out to be too near.
_NEAR = 3


@dataclass(frozen=True, kw_only=True)
class DynamicSoftLabel(Rule):
    """Let each target take its cheapest predictions, with the IoU as soft label (Lyu et al., RTMDet, 2022).

    The candidates of an image are the predictions whose point lies inside any of its targets. The cost is the binary
    cross entropy of all classes with the IoU as label of the target's class, scaled by the squared error; plus
    ``-iou_weight log(IoU)``; plus ``10^(d - soft_center_radius)`` for a point that is d strides from the target's
    centre. See ``DynamicK`` for how many a target takes and for conflicts.

    Args:
        topk: Number of IoUs to add up, and maximum number of predictions of a target.
        soft_center_radius: Distance in strides at which the centre cost is 1.
        iou_weight: Weight of the overlap's cost.
        max_pairwise_bytes: Limit in bytes for temporary memory of pairs, independent of the number of targets. Default:
            16 MiB on CPU, 1 GiB elsewhere. The result does not depend on it.

    >>> predictions = Predictions(torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0, 8, 8], [8, 0, 16, 8]]]))
    >>> target = {"boxes": torch.tensor([[1.0, 0.0, 9.0, 8.0]]), "labels": torch.tensor([0])}
    >>> points = torch.tensor([[4.0, 4.0, 8.0, 8.0], [12.0, 4.0, 8.0, 8.0]])
    >>> DynamicSoftLabel()(predictions, [target], points).target_index
    tensor([[ 0, -1]])
    """

    topk: int = 13
    soft_center_radius: float = 3.0
    iou_weight: float = 3.0
    max_pairwise_bytes: int | None = None
    of_points: ClassVar[bool] = True

    def check(self) -> None:
        """Raise ``ValueError`` or ``TypeError`` if a parameter is out of range."""
        check_positive(self.topk, "topk")
        check_number(self.soft_center_radius, "soft_center_radius", low=None)
        check_not_negative(self.iou_weight, "iou_weight")

    def __call__(self, predictions: AnyPredictions, targets: Any, priors: Tensor | None = None) -> Assignment:
        """Assign a batch.

        Args:
            predictions: Logits (*batch, P, C) and decoded boxes (*batch, P, 4).
            targets: Anything that ``Targets.of`` reads.
            priors: Grid points (P, 4), as ``grid_points`` gives them: x, y and strides, in pixels.

        Returns:
            An ``Assignment`` whose quality is the IoU of the predicted box.
        """
        return self._assignment(predictions, targets, priors)

    def most_per_target(self) -> int:
        """``topk``."""
        return self.topk

    def choose(self, problem: Problem) -> Choice:
        """The cheapest predictions of each target, and the IoU."""
        points, rows = problem.need_points("DynamicSoftLabel"), Pairs.of(problem)
        logits = problem.need_logits("DynamicSoftLabel")
        narrow = can_be_narrowed(rows, points, problem.need_boxes("DynamicSoftLabel"), logits)
        candidates = Nearby.of(rows, points, in_box, narrow=narrow).of_any_target()
        others = of_all_classes(rows, softlabel_background, logits)

        def cost(pairs: Pairs, overlap: Tensor) -> Tensor:
            found = softlabel_cost(pairs.logits_of_labels(), overlap, pairs.of_predictions(others))
            found.add_(overlap_cost(overlap, self.iou_weight)).add_(self._centre_cost(pairs, points))
            return found.clamp_(min=0)

        # Every candidate of the image is one of each target; but those far from it cost more than the ones it takes.
        radius = self.soft_center_radius + _NEAR
        near = Nearby.of_candidates(rows, points, candidates, partial(near_center, radius=radius), narrow=narrow)
        wanted = DynamicK(problem, self.topk, candidates)
        wanted.take(near, cost, bound=0.99 * 10**_NEAR)
        return wanted.result()

    def cost_terms(self, problem: Problem) -> dict[str, PairCost]:
        """``"class"``, ``"iou"``, and ``"centre"``."""
        points = problem.need_points("DynamicSoftLabel")
        others = softlabel_background(problem.need_logits("DynamicSoftLabel"))
        return {
            "class": lambda pairs: softlabel_cost(
                pairs.logits_of_labels(), overlap_of(pairs), pairs.of_predictions(others)
            ),
            "iou": lambda pairs: overlap_cost(overlap_of(pairs), self.iou_weight),
            "centre": lambda pairs: self._centre_cost(pairs, points),
        }

    def _centre_cost(self, pairs: Pairs, points: Tensor) -> Tensor:
        parts = of_constant(
            points, "x, y, stride", lambda: points[:, :3].mT.clone(memory_format=torch.contiguous_format)
        )
        parts = parts.unsqueeze(1) if pairs.prediction is None else parts[:, pairs.prediction]
        distance = squared_center_distance(parts[:2], pairs.gt).sqrt_().div_(parts[2]).sub_(self.soft_center_radius)
        # Far from the centre, the power of ten would be infinite.
        return distance.clamp_(max=_FARTHEST).mul_(math.log(10)).exp_()
