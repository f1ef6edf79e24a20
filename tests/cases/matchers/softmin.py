"""Soft minima of costs."""

from __future__ import annotations

from reference import transport as loops
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import ImagePlan, by_cost
from cases.planted import of_matcher
from matchers import SoftMin, detr_costs
from tests.mutation.planting import Mutant

PROVES = ("SoftMin",)
CASES = {"softmin": (SoftMin(), None)}


def _solved(own: SoftMin, costs: list[list[float]], count: int) -> ImagePlan:
    return loops.softmin(
        costs,
        count,
        source=own.source,
        reg=own.reg,
        background_cost=own.background_cost if own.background else None,
        background_weight=own.background_weight,
    )


reference = by_cost(_solved)
CHOICES = {"SoftMin": Choice("soft plan", lambda: SoftMin(detr_costs()))}
CALLS = {"SoftMin": matcher(SoftMin, source="target", reg=1.0, background_weight=True, cost=detr_costs())}
# fmt: off
BAD_INPUTS = [
    ("unknown side", lambda: SoftMin(source="both"), ValueError, "source must be 'target' or 'prediction', got 'both'"),
    ("regularisation 0", lambda: SoftMin(reg=0.0), ValueError, "reg must be finite and above 0"),
]
# fmt: on
_SOFTMIN = "matchers.by_cost.softmin"
OPERATIONS = {"softmin": of_matcher(SoftMin)}
BUGS = [
    Mutant(
        "batch-global",
        "background of the padded number of targets",
        _SOFTMIN,
        "count = problem.matchable.sum(-1, keepdim=True)",
        "count = torch.full((problem.num_samples, 1), problem.max_num_targets)",
        "softmin",
        "padding",
    ),
    Mutant(
        "host synchronisation",
        "number of targets read",
        _SOFTMIN,
        "usable, num_invalid = usable_pairs(problem, cost)",
        "usable, num_invalid = usable_pairs(problem, cost[:, : int(problem.num_targets.sum()) + cost.shape[1]])",
        "softmin",
        "synchronisation",
    ),
]
