"""Sums of matchers."""

from __future__ import annotations

from typing import Any

from reliability.arguments import predictions, targets
from reliability.call import made

from cases.finding import Choice
from cases.matchers import hungarian, softmin
from cases.plans import ImagePlan
from cases.planted import of_matcher
from matchers import Hungarian, SoftMin, WeightedSum, detr_costs
from tests.mutation.planting import Mutant

PROVES = ("WeightedSum",)
CASES = {"weighted": (WeightedSum([Hungarian(), SoftMin()], same_cost=False), None)}


def reference(own: Any, predictions: Any, targets: Any, priors: Any = None) -> list[ImagePlan]:
    """The mean of the two."""
    first, second = own.matching_modules
    pairs = zip(
        hungarian.reference(first, predictions, targets), softmin.reference(second, predictions, targets), strict=True
    )
    return [
        (
            [[(a + b) / 2 for a, b in zip(*rows, strict=True)] for rows in zip(one[0], other[0], strict=True)],
            [(a + b) / 2 for a, b in zip(one[1], other[1], strict=True)],
        )
        for one, other in pairs
    ]


CHOICES = {
    "WeightedSum": Choice("soft plan", lambda: WeightedSum([Hungarian(), SoftMin()], cost=detr_costs())),
}
CALLS = {
    "WeightedSum": lambda: made(
        WeightedSum,
        {"matching_modules": [SoftMin(), Hungarian()], "weights": [1.0, 2.0], "normalize": True, "same_cost": True},
        predictions(),
        targets(),
    )
}
# fmt: off
BAD_INPUTS = [
    ("sum of nothing", lambda: WeightedSum([]), ValueError, "at least one matcher, got none"),
    ("sum with negative weights", lambda: WeightedSum([Hungarian()], weights=[-1.0]), ValueError, "weights must not be negative"),
    ("two weights for one", lambda: WeightedSum([Hungarian()], weights=[1.0, 1.0]), ValueError, "one number for each of 1 matchers, got 2"),
]
# fmt: on
OPERATIONS = {"weighted": of_matcher(WeightedSum, matching_modules=[SoftMin(), SoftMin(source="prediction")])}
BUGS = [
    Mutant(
        "sum instead of mean",
        "weights of the first image for all",
        "matchers.by_cost.weighted",
        "create_with_sample_sizes_like_self(factor * plan.weights.tensor)",
        "create_with_sample_sizes_like_self(factor * plan.weights.tensor[:1].expand_as(plan.weights.tensor))",
        "weighted",
        "order",
    )
]
