"""Matching each target to its cheapest prediction, or each prediction to its cheapest target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from matchers.assignments.assignment import Assignment, Plan
from matchers.assignments.parts import BACKGROUND
from matchers.by_cost.dense_matcher import SIDES, DenseMatcher, make_plan, usable_pairs
from matchers.costs.terms import PairCost
from matchers.pairs.ignored import mark_ignored
from matchers.pairs.problem import Problem
from ragged.values.checks import check_number, check_one_of
from ragged.values.parameters import module_dataclass


@module_dataclass
class ClosestPrediction(DenseMatcher):
    """Match each target to its cheapest prediction, which may serve several targets.

    Costs are compared in float32; on ties, the first prediction wins. A pair with a non-finite cost is never matched.
    All predictions without a target are background.

    Args:
        threshold: Only matches that cost at most this are made. None: all.
        background: Whether predictions without a target are background. If False, they have no weight. An image
            without targets is always all background.
        background_cost: Not used.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.eye(4)[None, :3] / 4 + 0.25}
    >>> target = {"boxes": predictions["pred_boxes"][0, [1, 1, 0]], "labels": torch.tensor([1, 0, 1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> ClosestPrediction()(predictions, targets).weights.tensor
    tensor([[[0., 0., 1.],
             [1., 1., 0.],
             [0., 0., 0.]]])
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None:
            check_number(self.threshold, "threshold", low=None)

    @torch.no_grad()
    def match_costs(self, problem: Problem, cost: Tensor) -> Plan:
        """Match by costs (N, G, P) that are known already; see ``DenseMatcher``."""
        usable, num_invalid = usable_pairs(problem, cost)
        allowed = usable if self.threshold is None else usable & (cost <= self.threshold)
        chosen = allowed
        if cost.shape[2]:
            best = cost.float().masked_fill(~allowed, torch.inf).argmin(-1, keepdim=True)  # the first of equal ones
            chosen = allowed & (torch.arange(cost.shape[2], device=cost.device) == best)
        alone = ~chosen.any(1)
        background = alone if self.background else alone & problem.is_empty
        return make_plan(self, problem, chosen.to(cost.dtype), background.to(cost.dtype), num_invalid)


@module_dataclass
class ClosestTarget(DenseMatcher):
    """Match each prediction to the cheapest of its image's targets and the background.

    Costs are compared in float32; on ties, the first target wins, and a target wins over the background. A pair
    whose cost is not finite is not made.

    Args:
        background: Whether the background competes at all. If not, every prediction has a target, unless there is none
            whose cost is finite.
        background_cost: Cost of the background for a prediction, in the unit of ``cost``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.eye(4)[None, :3] / 4 + 0.25}
    >>> target = {"boxes": predictions["pred_boxes"][0, 1:2], "labels": torch.tensor([1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> ClosestTarget(background_cost=0.5)(predictions, targets).target_index
    tensor([[-1,  0, -1]])
    """

    @torch.no_grad()
    def match_costs(self, problem: Problem, cost: Tensor) -> Assignment:
        """Match by costs (N, G, P) that are known already; see ``DenseMatcher``."""
        usable, num_invalid = usable_pairs(problem, cost)
        limit = self.background_cost if self.background else torch.inf
        if cost.shape[1]:
            value, target = cost.float().masked_fill(~usable, torch.inf).min(1)  # the first of equal ones
            target = torch.where((value <= limit) & value.isfinite(), target, BACKGROUND)
        else:
            target = num_invalid.new_full((len(cost), cost.shape[2]), BACKGROUND)
        target = mark_ignored(target, self.ignored_region(problem))
        return problem.assignment(target, num_invalid=num_invalid)


def Min(
    cost: PairCost | Mapping[str, PairCost] | None = None,
    *,
    source: str = "target",
    threshold: float | None = None,
    background: bool = True,
    background_cost: float = 10.0,
    cls_match_module: nn.Module | None = None,
    loc_match_module: nn.Module | None = None,
    is_anchor_based: bool = False,
    normalized: bool | None = None,
    ignore_iof: float = 0.5,
    max_pairwise_bytes: int | None = None,
) -> ClosestPrediction | ClosestTarget:
    """The cheapest partner of each ``source``: ``ClosestPrediction`` for ``"target"``, else ``ClosestTarget``.

    Args:
        source: ``"target"`` or ``"prediction"``: the side that chooses.
        threshold: See ``ClosestPrediction``; only with ``source="target"``.
        background, background_cost: See ``DenseMatcher``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    Raises:
        ValueError: ``source`` is unknown, or ``threshold`` comes with ``source="prediction"``.

    >>> type(Min(source="prediction")).__name__
    'ClosestTarget'
    """
    check_one_of(source, SIDES, "source")
    options: dict[str, Any] = {
        "background": background,
        "background_cost": background_cost,
        "cls_match_module": cls_match_module,
        "loc_match_module": loc_match_module,
        "is_anchor_based": is_anchor_based,
        "normalized": normalized,
        "ignore_iof": ignore_iof,
        "max_pairwise_bytes": max_pairwise_bytes,
    }
    if source == "target":
        return ClosestPrediction(cost, threshold=threshold, **options)
    if threshold is not None:
        raise ValueError(f"threshold is for source='target'; predictions have background_cost, got {threshold}")
    return ClosestTarget(cost, **options)
