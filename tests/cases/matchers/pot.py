"""Entropic optimal transport by the solvers of Python Optimal Transport."""

from __future__ import annotations

from typing import Any

from reference import transport as loops
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import ImagePlan, by_cost
from cases.planted import of_matcher
from matchers import BalancedPOT, UnbalancedPOT, detr_costs
from tests.mutation.planting import Mutant

PROVES = ("BalancedPOT", "UnbalancedPOT")
CASES = {"balanced pot": (BalancedPOT(num_iter=300), None), "unbalanced pot": (UnbalancedPOT(num_iter=300), None)}
ON_THE_HOST = set(CASES)


def _solved(own: Any, costs: list[list[float]], count: int) -> ImagePlan:
    """By as many plain iterations, after which both have converged."""
    reg, power = own.regularization(count), 1.0
    if isinstance(own, UnbalancedPOT):
        power = own.reg_pred_target / (own.reg_pred_target + reg)
    return loops.sinkhorn(
        costs,
        count,
        reg=reg,
        count=own.num_iter,
        background_cost=own.background_cost if own.background else None,
        normalize=own.normalize_cost_matrix,
        powers=(power, power),
    )


reference = by_cost(_solved)
CHOICES = {
    "BalancedPOT": Choice("soft plan", lambda: BalancedPOT(detr_costs(), num_iter=30)),
    "UnbalancedPOT": Choice("soft plan", lambda: UnbalancedPOT(detr_costs(), num_iter=30)),
}
_COMMON = {"num_iter": 5, "tolerance": 1e-3, "cost": detr_costs()}
CALLS = {
    "BalancedPOT": matcher(BalancedPOT, method="sinkhorn_log", **_COMMON),
    "UnbalancedPOT": matcher(UnbalancedPOT, method="sinkhorn", reg_pred_target=1.0, **_COMMON),
}
# fmt: off
BAD_INPUTS = [
    ("unknown method", lambda: BalancedPOT(method="greedy"), ValueError, "method must be one of 'sinkhorn', .*, got 'greedy'"),
    ("strength 0", lambda: UnbalancedPOT(reg_pred_target=0.0), ValueError, "reg_pred_target must be finite and above 0, got 0"),
]
# fmt: on
OPERATIONS = {"pot": of_matcher(BalancedPOT, without=frozenset({"synchronisation"}), num_iter=30)}
BUGS = [
    Mutant(
        "batch-global",
        "costs of image 0 for all",
        "matchers.transport.pot",
        "for sample in zip(kernels, demands, free, strict=True)",
        "for sample in zip([kernels[0]] * len(kernels), demands, free, strict=True)",
        "pot",
        "order",
    )
]
