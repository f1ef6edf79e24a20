"""Cheapest partners: the prediction of each target, or the target of each prediction."""

from __future__ import annotations

from typing import Any

from reference import transport as loops
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import ImagePlan, by_cost, of_index
from cases.planted import of_matcher
from matchers import ClosestPrediction, ClosestTarget, Min, detr_costs
from tests.mutation.planting import Mutant

# ``Min`` makes one of the two others.
PROVES = ("ClosestPrediction", "ClosestTarget", "Min")
CASES = {"closest_target": (ClosestTarget(), None), "closest_prediction": (ClosestPrediction(), None)}


def _solved(own: Any, costs: list[list[float]], count: int) -> ImagePlan:
    if isinstance(own, ClosestPrediction):
        return loops.closest_prediction(costs, count, threshold=own.threshold, background=own.background)
    limit = own.background_cost if own.background else None
    return of_index(loops.closest_target(costs, count, background_cost=limit), len(costs))


reference = by_cost(_solved)
CHOICES = {
    "ClosestPrediction": Choice("soft plan", lambda: ClosestPrediction(detr_costs())),
    "ClosestTarget": Choice("by cost", lambda: ClosestTarget(detr_costs())),
}
CALLS = {
    "ClosestPrediction": matcher(ClosestPrediction, threshold=2.0, cost=detr_costs()),
    "ClosestTarget": matcher(ClosestTarget, background=True, background_cost=1.0, cost=detr_costs()),
    "Min": matcher(Min, source="prediction", cost=detr_costs()),
}
# fmt: off
BAD_INPUTS = [
    ("unknown side of the cheapest", lambda: Min(source="both"), ValueError, "source must be 'target' or 'prediction', got 'both'"),
    ("threshold of a cost of text", lambda: ClosestPrediction(threshold="low"), TypeError, "threshold must be a number, got str"),
]
# fmt: on
_CLOSEST = "matchers.by_cost.closest"
OPERATIONS = {
    "closest target": of_matcher(ClosestTarget),
    "closest prediction": of_matcher(ClosestPrediction),
}
BUGS = [
    Mutant(
        "batch-global",
        "a prediction without target in any image",
        _CLOSEST,
        "alone = ~chosen.any(1)",
        "alone = ~chosen.any(1).any(0).expand(len(chosen), -1)",
        "closest prediction",
        "independence",
    ),
    Mutant(
        "batch-global",
        "limit from the costs of other images",
        _CLOSEST,
        "target = torch.where((value <= limit) & value.isfinite(), target, BACKGROUND)",
        "target = torch.where((value <= value.amin() + 0.5) & value.isfinite(), target, BACKGROUND)",
        "closest target",
        "independence",
    ),
    Mutant(
        "mask dropped",
        "padding is a target",
        "matchers.by_cost.dense_matcher",
        "valid = problem.matchable.unsqueeze(-1)",
        "valid = torch.ones_like(problem.matchable).unsqueeze(-1)",
        "closest target",
        "padding",
        (_CLOSEST,),
    ),
    Mutant(
        "tie broken by padding",
        "rows counted from the padded end",
        _CLOSEST,
        "value, target = cost.float().masked_fill(~usable, torch.inf).min(1)",
        "value, target = cost.float().masked_fill(~usable, torch.inf).flip(1).min(1)",
        "closest target",
        "padding",
    ),
]
