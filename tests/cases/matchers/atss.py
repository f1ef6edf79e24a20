"""ATSS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reference import dense
from reliability.arguments import COUNT, PRIORS, predictions, targets
from reliability.call import made
from torch import Tensor

from cases.finding import Choice
from cases.plans import by_rule
from cases.planted import anchors, of_matcher, scenes
from cases.scenes import ANCHORS
from matchers import ATSS, Targets
from tests.mutation.planting import Case, Mutant

PROVES = ("ATSS",)
CASES = {"atss": (ATSS(topk=40), ANCHORS)}
reference = by_rule(dense.atss, "topk", "min_center_margin", "ignore_iof")
CHOICES = {"ATSS": Choice("anchors", ATSS)}
CALLS = {
    "ATSS": lambda: made(
        ATSS,
        {"topk": 3, "min_center_margin": 0.01, "ignore_iof": 0.5},
        predictions(),
        targets(),
        PRIORS,
        level_sizes=[COUNT],
    )
}
# fmt: off
BAD_INPUTS = [
    ("no priors", lambda: ATSS()(predictions(), targets()), ValueError, "ATSS needs priors"),
    ("levels that do not add up", lambda: ATSS()(predictions(), targets(), PRIORS, level_sizes=[3, 4]), ValueError, r"level_sizes \[3, 4\] add up to 7, but there are 16 priors"),
    ("topk of 0", lambda: ATSS(topk=0), ValueError, "topk must be at least 1, got 0"),
]
# fmt: on
_ATSS = "matchers.dense.atss"


def pairs_of_levels(code: Callable[[str], Any]) -> Callable[..., Any]:
    """Each level has the same anchors, so that a target takes as many of each."""

    def op(targets: Targets, priors: Tensor) -> Any:
        found = code(_ATSS).ATSS(topk=1)(None, targets, priors.repeat(4, 1), level_sizes=[len(priors)] * 4)
        return found.pairs()[0].mask.sum(-1)  # (B,): of those that there is room for

    return op


OPERATIONS = {
    "atss": of_matcher(ATSS, anchors, topk=6),
    "atss, pairs": Case(pairs_of_levels, lambda: [(each[-1],) for each in scenes()], shared=anchors),
}
BUGS = [
    Mutant(
        "batch-global",
        "threshold of the target that overlaps most",
        _ATSS,
        "return mean + ((",
        "return mean.amax() + ((",
        "atss",
        "independence",
    ),
    Mutant(
        "too little room",
        "pairs of one level only",
        _ATSS,
        "return self.topk * len(level_sizes or [0])",
        "return self.topk",
        "atss, pairs",
        "independence",
    ),
]
