"""One-to-one matching of lowest total cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND
from matchers.by_cost.cost_matcher import IgnoringMatcher
from matchers.pairs.ignored import mark_ignored
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.results import count_invalid
from matchers.solver.linear_assignment import check_available, solve
from ragged import RaggedBatch
from ragged.values.checks import check_number
from ragged.values.parameters import module_dataclass


@module_dataclass
class Hungarian(IgnoringMatcher):
    """Match each target to one prediction, so that the sum of the costs is smallest (Carion et al., DETR, 2020).

    With more targets than predictions, the cheapest set of targets is matched. Exact; see
    ``batched_linear_sum_assignment`` for the solvers.

    Args:
        background_cost: The cost of a prediction without a target. The matcher makes no pair that costs as much or
            more, so a target can stay without a prediction. None: it matches every target, as in DETR.
        solver: ``"auto"``, ``"scipy"``, ``"triton"`` or ``"lapx"``; see ``batched_linear_sum_assignment``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.rand(1, 3, 4)}
    >>> target = {"boxes": predictions["pred_boxes"][0, 1:2], "labels": torch.tensor([1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> Hungarian()(predictions, targets).target_index
    tensor([[-1,  0, -1]])
    """

    background_cost: float | None = None
    solver: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_available(self.solver)
        if self.background_cost is not None:
            check_number(self.background_cost, "background_cost", low=None)

    @torch.no_grad()
    def forward(
        self,
        predictions: AnyPredictions,
        targets: Any,
        priors: Tensor | None = None,
        *,
        given: Assignment | None = None,
        free: RaggedBatch | Tensor | None = None,
    ) -> Assignment:
        """Match a batch.

        Args:
            predictions: Logits ``(*batch, P, C)`` and boxes ``(*batch, P, 4)``, in any form that
                ``Predictions.of`` reads; ragged along P if their number differs from image to image.
            targets: Anything that ``Targets.of`` reads.
            priors: xyxy boxes ``(P, 4)`` or ``(*batch, P, 4)``, with ``is_anchor_based``.
            given: Known pairs, as an assignment of these predictions to these targets; leading dimensions that only
                the predictions have can be missing. The matcher keeps its pairs with their quality, and its ignored
                predictions stay ignored. It matches background predictions with targets that have no given
                prediction. A target keeps all its given predictions; those given to an ignored target are ignored.
            free: bool ``(*batch, P)``, ragged if the predictions are: the predictions without a given target that the
                matcher can match. The others, such as queries of ended tracks, are background. Default: all.

        Raises:
            ValueError: ``given`` is of other predictions or targets, or has a target for filler.
        """
        problem = self.problem(predictions, targets, priors, given=given, free=free)
        pairs = Pairs.of(problem)
        return self._match(pairs, self.total_cost(pairs))

    @torch.no_grad()
    def match_costs(self, problem: Problem, cost: Tensor) -> Assignment:
        """Match by costs (N, G, P) that are known already; see ``DenseMatcher``."""
        pairs = Pairs.of(problem)
        return self._match(pairs, cost[pairs.sample, pairs.target])

    def _match(self, pairs: Pairs, cost: Tensor) -> Assignment:
        problem, forbidden = pairs.problem, None
        if problem.free is not None:
            forbidden = ~pairs.of_predictions(problem.free)
            cost = cost.masked_fill(forbidden, 0)
        num_invalid = count_invalid(cost, pairs)
        if self.background_cost is not None:
            # What would not pay costs as much as the background: chosen or not, it changes no sum.
            cost = cost.clamp(max=self.background_cost).nan_to_num(*[self.background_cost] * 3)
        start, count = pairs.runs()
        row = solve(cost, start, count, pairs.valid, forbidden, self.solver)
        target = row if pairs.is_whole else _targets_of_rows(row, start, pairs.target)
        if self.background_cost is not None and len(pairs):
            chosen = cost.gather(0, (start.unsqueeze(-1) + row.clamp(min=0)).clamp(max=len(pairs) - 1))
            target = target.masked_fill(chosen >= self.background_cost, BACKGROUND)
        target = mark_ignored(target, self.ignored_region(problem))
        return problem.assignment(target, num_invalid=num_invalid, per_target=1)


def _targets_of_rows(row: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """Turn rows counted from the first of each image (N, P) into targets of the image; -1 stays."""
    if not target.numel():
        return row
    taken = target[(start.unsqueeze(-1) + row.clamp(min=0)).clamp(max=target.numel() - 1)]
    return torch.where(row >= 0, taken, BACKGROUND)
