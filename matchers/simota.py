"""Simplified optimal transport assignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from matchers.assignment import Assignment
from matchers.boxes import iou
from matchers.cost_matcher import count_invalid
from matchers.costs import binary_background, binary_cost, inside, log_joint_score, near_center
from matchers.dynamic_k import AVOIDED, DynamicK
from matchers.ignored import in_ignored_region, mark_ignored, point_in_region
from matchers.pair_costs import PairCost, padded_costs
from matchers.pairs import Pairs
from matchers.problem import AnyPredictions, Problem
from ragged.checks import check_not_negative, check_positive


@dataclass(frozen=True, kw_only=True)
class SimOTA:
    """Let each target take its cheapest predictions, as many as its overlaps suggest (Ge et al., YOLOX, 2021).

    A prediction is a candidate of a target if its point lies in the target's box or near its centre. The cost is binary
    cross entropy of all class scores plus ``-iou_weight log(IoU)``, and much higher if the point is not both in the box
    and near the centre. See ``DynamicK`` for how many a target takes and for conflicts; the overlaps with predictions
    that are candidates of any target of the image are added up.

    A target that no point is a candidate of gets no prediction.

    Args:
        center_radius: What is near the centre, in strides.
        candidate_topk: Overlaps that are added up, and predictions that a target may take at most.
        iou_weight: Weight of the overlap's cost.
        cls_weight: Weight of the class cost.

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

    _OUTSIDE = 1e5

    def __post_init__(self) -> None:
        check_positive(self.candidate_topk, "candidate_topk")
        for name in ("center_radius", "iou_weight", "cls_weight"):
            check_not_negative(getattr(self, name), name)

    @torch.no_grad()
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
        problem = Problem.of(predictions, targets, priors, normalized=False)
        points = problem.need_points("SimOTA")
        blocks = [(pairs, *self._regions(pairs, points)) for pairs in problem.pairs().blocks()]
        candidates = torch.zeros(problem.num_samples, problem.num_predictions, dtype=torch.uint8, device=points.device)
        for pairs, in_box, near in blocks:
            region = in_box | near if pairs.packed else (in_box | near) & pairs.valid.unsqueeze(-1)
            candidates.index_reduce_(0, pairs.sample, region.view(torch.uint8), "amax")
        logits, objectness = problem.need_logits("SimOTA"), problem.predictions.objectness
        others = binary_background(logits, objectness)
        wanted, invalid = DynamicK(problem, self.candidate_topk), torch.zeros_like(problem.num_targets)
        for pairs, in_box, near in blocks:
            overlap = iou(pairs.predicted, pairs.gt)
            cost = self._class_cost(pairs, others).add_(self._overlap_cost(overlap))
            invalid += count_invalid(cost, pairs)
            overlap.add_(cost, alpha=0)  # a prediction that is avoided adds to no sum
            cost.nan_to_num_(AVOIDED, posinf=AVOIDED).add_(~(in_box & near), alpha=self._OUTSIDE)
            cost.masked_fill_(~(in_box | near), torch.inf)
            pairs.computed.clear()  # the block lives on, what it was compared with need not
            wanted.see(pairs, cost, overlap.nan_to_num_(0).mul_(pairs.of_sample(candidates)))
        target, overlap = wanted.result()
        target = mark_ignored(target, in_ignored_region(problem, point_in_region(points[:, :2])))
        return problem.assignment(target, quality=overlap, num_invalid=invalid)

    def _regions(self, pairs: Pairs, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, stride_x, stride_y = points.unbind(-1)
        radius = self.center_radius * torch.maximum(stride_x, stride_y)
        return inside(x, y, pairs.gt), near_center(x, y, pairs.gt, radius)

    @torch.no_grad()
    def costs(self, predictions: AnyPredictions, targets: Any, priors: Tensor | None = None) -> dict[str, Tensor]:
        """The cost terms ``(*batch, G, P)`` by name, for ``Assignment.explain`` and plots."""
        problem = Problem.of(predictions, targets, priors, normalized=False)
        points = problem.need_points("SimOTA")
        others = binary_background(problem.need_logits("SimOTA"), problem.predictions.objectness)

        def outside(pairs: Pairs) -> Tensor:
            in_box, near = self._regions(pairs, points)
            return (self._OUTSIDE * ~(in_box & near)).masked_fill(~(in_box | near), torch.inf)

        terms: dict[str, PairCost] = {
            "class": lambda pairs: self._class_cost(pairs, others),
            "iou": lambda pairs: self._overlap_cost(iou(pairs.predicted, pairs.gt)),
            "outside": outside,
        }
        return padded_costs(terms, problem)

    def _class_cost(self, pairs: Pairs, others: Tensor) -> Tensor:
        objectness = pairs.problem.predictions.objectness
        score = log_joint_score(pairs.logits_of_labels(), None if objectness is None else pairs.of_sample(objectness))
        return binary_cost(score, pairs.of_sample(others)).mul_(self.cls_weight)

    def _overlap_cost(self, overlap: Tensor) -> Tensor:
        # Never below 0: an IoU of 1 and a little has a logarithm above.
        return (overlap + 1e-7).log_().mul_(-self.iou_weight).clamp_(min=0)
