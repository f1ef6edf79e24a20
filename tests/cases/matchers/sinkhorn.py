"""Entropic optimal transport by Sinkhorn's iterations."""

from __future__ import annotations

from typing import Any

from reference import transport as loops
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import ImagePlan, by_cost
from cases.planted import of_matcher
from matchers import BalancedSinkhorn, UnbalancedSinkhorn, detr_costs
from tests.mutation.planting import Mutant

PROVES = ("BalancedSinkhorn", "UnbalancedSinkhorn")
CASES = {"balanced": (BalancedSinkhorn(), None), "unbalanced": (UnbalancedSinkhorn(), None)}


def solved(own: Any, costs: list[list[float]], count: int) -> ImagePlan:
    """By plain iterations; for a matcher of a solver of another package too."""
    reg, powers = own.regularization(count), (1.0, 1.0)
    if isinstance(own, UnbalancedSinkhorn):
        powers = (own.reg_pred / (own.reg_pred + reg), own.reg_target / (own.reg_target + reg))
    return loops.sinkhorn(
        costs,
        count,
        reg=reg,
        count=own.num_iter,
        background_cost=own.background_cost if own.background else None,
        normalize=own.normalize_cost_matrix,
        powers=powers,
    )


reference = by_cost(solved)
CHOICES = {
    "BalancedSinkhorn": Choice("soft plan", lambda: BalancedSinkhorn(detr_costs())),
    "UnbalancedSinkhorn": Choice("soft plan", lambda: UnbalancedSinkhorn(detr_costs())),
}
_COMMON = {"num_iter": 5, "tolerance": 1e-3, "cost": detr_costs()}
CALLS = {
    "BalancedSinkhorn": matcher(BalancedSinkhorn, background_cost=1.0, **_COMMON),
    "UnbalancedSinkhorn": matcher(UnbalancedSinkhorn, reg_pred=1.0, reg_target=1.0, **_COMMON),
}
# fmt: off
BAD_INPUTS = [
    ("no iterations", lambda: BalancedSinkhorn(num_iter=-1), ValueError, "num_iter must"),
]
# fmt: on
OPERATIONS = {"sinkhorn": of_matcher(BalancedSinkhorn)}
BUGS = [
    Mutant(
        "batch-global",
        "costs scaled by those of all images",
        "matchers.transport.transport",
        "scale = scale.amax(-1) if",
        "scale = scale.amax().expand(len(cost)) if",
        "sinkhorn",
        "independence",
        ("matchers.transport.sinkhorn",),
    )
]
