"""Every criterion and every matcher, each a file that says all of it; they are found here, and listed nowhere.

case = EVERY_CRITERION["yolox"]
criterion, predictions = case.make(), case.predictions([3, 0, 1], seed=0)
losses = case.losses(criterion, predictions, case.targets([3, 0, 1], seed=0))

matcher, priors = EVERY_MATCHER["simota"]
result = matcher(*scene(3, 0, 5), priors)
"""

from __future__ import annotations

from typing import Any

from cases import criteria, matchers
from cases.finding import joined, listed, modules_of
from cases.scenes import scene
from losses.testing import CriterionCase

CRITERIA, MATCHERS = modules_of(criteria), modules_of(matchers)
EVERY_CRITERION: dict[str, CriterionCase] = joined(CRITERIA, "CASES")
EVERY_MATCHER: dict[str, tuple[Any, Any]] = joined(MATCHERS, "CASES")
"""Each with its priors, or None."""
VARIANTS = set(listed(CRITERIA, "VARIANTS"))
"""Cases of criteria that have nearly the graph of another case."""
ON_THE_HOST = set(listed(MATCHERS, "ON_THE_HOST"))
"""Cases of matchers that compute with arrays of numpy: they make no graph, and wait for the device."""
WITHOUT_LABELS = set(listed(CRITERIA, "WITHOUT_LABELS"))
"""Cases of criteria that read no labels of targets."""
RAISES_ON_CUDA = set(listed(CRITERIA, "RAISES_ON_CUDA"))
"""Cases of criteria that torch has no deterministic way for on CUDA."""

__all__ = [
    "CRITERIA",
    "EVERY_CRITERION",
    "EVERY_MATCHER",
    "MATCHERS",
    "ON_THE_HOST",
    "RAISES_ON_CUDA",
    "VARIANTS",
    "WITHOUT_LABELS",
    "scene",
]
