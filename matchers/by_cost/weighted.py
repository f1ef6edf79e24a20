"""Several matchers at once, their results added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from matchers.assignments.assignment import Assignment, Plan
from matchers.by_cost.cost_matcher import CostMatcher
from matchers.by_cost.dense_matcher import matched
from matchers.costs.terms import PairCost
from matchers.pairs.problem import AnyPredictions, Problem
from ragged import RaggedBatch
from ragged.values.checks import check_flag, check_is_sequence, check_number
from ragged.values.parameters import module_dataclass


@module_dataclass
class WeightedSum(CostMatcher):
    """The weighted sum of the plans of several matchers.

    A hard assignment counts as its ``plan()``. ``num_invalid`` is the maximum over the matchers.

    Args:
        matching_modules: The matchers.
        weights: A factor for each of them, not negative; 1 by default.
        normalize: Whether the sum is divided by that of the weights.
        same_cost: Whether all use the cost of this one, which is computed once: then each needs a method
            ``match_costs(problem, cost)``, as the matchers of this package that minimise a cost have. Else each uses
            its own. What a matcher does with the background, and its cost, is its own in both cases.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: Of the common cost,
            see ``CostMatcher``. Not with ``same_cost=False``.

    Raises:
        TypeError: An entry is not a matcher, or has no ``match_costs`` though ``same_cost`` is true.
        ValueError: There is no matcher, the number of weights differs from the number of matchers, weights are
            negative or sum to 0, or a common cost comes with ``same_cost=False``.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.eye(4)[None, :3] / 4 + 0.25}
    >>> target = {"boxes": predictions["pred_boxes"][0, 1:2], "labels": torch.tensor([1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> matcher = WeightedSum([SoftMin(reg=1e-3), ClosestTarget(background=False)], weights=[3, 1])
    >>> matcher(predictions, targets).weights.tensor.flatten()
    tensor([0.2500, 1.0000, 0.2500])
    """

    matching_modules: Sequence[Any] = field(kw_only=False)
    cost: PairCost | Mapping[str, PairCost] | None = None
    weights: Sequence[float] | None = None
    normalize: bool = True
    same_cost: bool = True

    def __post_init__(self) -> None:
        check_flag(self.same_cost, "same_cost")
        check_flag(self.normalize, "normalize")
        given = [each.name for each in fields(CostMatcher) if getattr(self, each.name) is not each.default]
        if not self.same_cost and given:
            raise ValueError(f"with same_cost=False each matcher has its own cost, got {', '.join(given)} for all")
        super().__post_init__()
        self.matching_modules = _checked_modules(self.matching_modules, self.same_cost)
        for index, module in enumerate(self.matching_modules):
            if isinstance(module, nn.Module):  # so that its parts move with this one
                self.add_module(f"matcher_{index}", module)
        self.factors = _checked_weights(self.weights, len(self.matching_modules))
        self.normalize, self.same_cost = bool(self.normalize), bool(self.same_cost)

    @torch.no_grad()
    def forward(
        self,
        predictions: AnyPredictions,
        targets: Any,
        priors: Tensor | None = None,
        *,
        given: Assignment | None = None,
        free: RaggedBatch | Tensor | None = None,
    ) -> Plan:
        """Match a batch.

        Args:
            predictions: Logits ``(*batch, P, C)`` and boxes ``(*batch, P, 4)``, in any form that
                ``Predictions.of`` reads.
            targets: Anything that ``Targets.of`` reads.
            priors: xyxy boxes ``(P, 4)`` or ``(*batch, P, 4)``, for matchers with ``is_anchor_based``.
            given, free: See ``DenseMatcher``; every matcher gets them.
        """
        known: dict[str, Any] = {"given": given, "free": free}
        if self.same_cost:
            problem = self.problem(predictions, targets, priors, **known)
            return matched(self, problem)
        known = {name: value for name, value in known.items() if value is not None}
        return self._sum(lambda module: module(predictions, targets, priors, **known))

    @torch.no_grad()
    def match_costs(self, problem: Problem, cost: Tensor) -> Plan:
        """Match by costs (N, G, P) that are known already, with all matchers; see ``DenseMatcher``."""
        return self._sum(lambda module: module.match_costs(problem, cost))

    def _sum(self, match: Callable[[Any], Plan | Assignment]) -> Plan:
        total = sum(self.factors) if self.normalize else 1.0
        shares = [factor / total for factor in self.factors]
        # One after the other, for plans are large: each is forgotten once it is added.
        return reduce(_added, map(_scaled, map(match, self.matching_modules), shares))


def _scaled(result: Plan | Assignment, factor: float) -> Plan:
    plan = result.plan() if isinstance(result, Assignment) else result
    weights = plan.weights.create_with_sample_sizes_like_self(factor * plan.weights.tensor)
    return Plan(weights, factor * plan.background, plan.num_invalid)


def _added(first: Plan, second: Plan) -> Plan:
    weights = first.weights.create_with_sample_sizes_like_self(first.weights.tensor + second.weights.tensor)
    num_invalid = torch.maximum(first.num_invalid, second.num_invalid)
    return Plan(weights, first.background + second.background, num_invalid)


def _checked_modules(modules: Sequence[Any], same_cost: bool) -> list[Any]:
    check_is_sequence(modules, "matching_modules", "matchers")
    modules = list(modules)
    if not modules:
        raise ValueError("matching_modules must have at least one matcher, got none")
    for index, module in enumerate(modules):
        if isinstance(module, type) or not callable(module):
            raise TypeError(f"matching_modules[{index}] must be a matcher, got {type(module).__name__}")
        if same_cost and not hasattr(module, "match_costs"):
            raise TypeError(
                f"matching_modules[{index}], a {type(module).__name__}, cannot use a common cost: it has no method "
                "match_costs(problem, cost); same_cost=False lets each matcher use its own"
            )
    return modules


def _checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is not None:
        check_is_sequence(weights, "weights", "numbers")
    weights = [1.0] * count if weights is None else list(weights)
    if len(weights) != count:
        raise ValueError(f"weights must have one number for each of {count} matchers, got {len(weights)}")
    for index, weight in enumerate(weights):
        check_number(weight, f"weights[{index}]", low=None)
    if min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"weights must not be negative and add up to more than 0, got {weights}")
    return [float(weight) for weight in weights]
