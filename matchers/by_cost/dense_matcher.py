"""The base class of matchers that need all costs of an image at once, padded to one size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment, Plan
from matchers.by_cost.cost_matcher import CostMatcher, IgnoringMatcher
from matchers.by_cost.groups import ImageGroup, groups_of, joined
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from ragged import RaggedBatch
from ragged.values.checks import check_flag, check_number
from ragged.values.parameters import module_dataclass
from ragged.values.precision import wide

SIDES = ("target", "prediction")
"""Who can choose a partner."""


@module_dataclass
class DenseMatcher(IgnoringMatcher):
    """A matcher of costs (N, G, P), with or without a background that competes with the targets.

    Args:
        background: Whether a prediction can go to the background. An image without targets is all background anyway.
        background_cost: Cost of the background for a prediction, in the unit of ``cost``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    Raises:
        TypeError, ValueError: As ``CostMatcher``; the background's cost is not finite.
    """

    background: bool = True
    background_cost: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.background_cost, "background_cost", low=None)
        check_flag(self.background, "background")
        self.background, self.background_cost = bool(self.background), float(self.background_cost)

    @torch.no_grad()
    def forward(
        self,
        predictions: AnyPredictions,
        targets: Any,
        priors: Tensor | None = None,
        *,
        given: Assignment | None = None,
        free: RaggedBatch | Tensor | None = None,
    ) -> Plan | Assignment:
        """Match a batch.

        Args:
            predictions: Logits ``(*batch, P, C)`` and boxes ``(*batch, P, 4)``, in any form that
                ``Predictions.of`` reads; ragged along P where images differ in number.
            targets: Anything that ``Targets.of`` reads.
            priors: xyxy boxes ``(P, 4)`` or ``(*batch, P, 4)``, with ``is_anchor_based``.
            given, free: Known pairs, and the predictions that can be matched; see ``Hungarian``. In a plan, a given
                pair has weight 1.
        """
        problem = self.problem(predictions, targets, priors, given=given, free=free)
        return matched(self, problem)

    def match_costs(self, problem: Problem, cost: Tensor) -> Plan | Assignment:
        """Match by costs that are known already.

        Args:
            problem: The result of ``problem``.
            cost: (N, G, P), float32 or float64. Rows where ``problem.matchable`` is false are not read.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it matches")


def matched(matcher: Any, problem: Problem) -> Any:
    """What ``matcher.match_costs`` makes of a problem: in groups of images, for which its costs are computed."""
    groups = groups_of(problem)
    if len(groups) == 1:
        return matcher.match_costs(problem, _costs(matcher, problem, groups[0]))
    parts = [matcher.match_costs(problem.of_images(*group), _costs(matcher, problem, group)) for group in groups]
    return joined(problem, groups, parts)


def _costs(matcher: CostMatcher, problem: Problem, group: ImageGroup) -> Tensor:
    """The total cost (n, most, P) of all pairs of a group; rows of what is not to be matched mean nothing."""
    images, most = group
    is_part, position = len(images) < problem.num_samples, images
    if is_part:
        position = images.new_full((problem.num_samples,), -1)
        position[images] = torch.arange(len(images), device=problem.device)
    # Of the whole problem: a cost may look up by image what it knows itself.
    pairs = Pairs.of(problem, problem.matchable & (position >= 0).unsqueeze(-1) if is_part else None)
    cost = wide(matcher.total_cost(pairs).detach())
    if is_part or len(pairs) < len(images) * most:
        slots = position[pairs.sample] * most + pairs.target
        cost = cost.new_zeros(len(images) * most, problem.num_predictions).index_copy_(0, slots, cost)
    return cost.reshape(len(images), most, problem.num_predictions)


def usable_pairs(problem: Problem, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs (N, G, P) are to be matched and have a finite cost, and how many (N,) have an unusable cost."""
    valid = problem.matchable.unsqueeze(-1)
    if problem.free is not None:
        valid = valid & problem.free.unsqueeze(1)
    finite = cost.abs() < torch.inf
    return finite & valid, (finite < valid).sum((1, 2))


def make_plan(
    matcher: IgnoringMatcher,
    problem: Problem,
    weights: Tensor,
    background: Tensor,
    num_invalid: Tensor,
    residual: Tensor | None = None,
) -> Plan:
    """Wrap weights (N, G, P) and the background (N, P).

    A prediction in an ignored region is not asked to find nothing: it has no background.
    """
    region = matcher.ignored_region(problem)
    if region is not None:
        background = background.masked_fill(region, 0)
    return problem.plan(weights.transpose(1, 2).contiguous(), background, num_invalid, residual)
