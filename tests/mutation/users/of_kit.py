"""Users' matchers and criteria as cases: what catches a bug is a property of ``matchers.testing`` or of ``losses.testing``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from losses.testing import CRITERION_PROPERTIES, CriterionCase, queries
from losses.testing.properties.smallest import violation_of as violation_of_criterion
from losses.testing.properties.table import DECLARED, reasons
from matchers import grid_points
from matchers.testing import standard_scenes
from matchers.testing.changes.plain_scenes import plain_scenes
from matchers.testing.properties.smallest import violation_of
from matchers.testing.properties.table import MATCHER_PROPERTIES, SYMMETRIES, reason_against
from matchers.testing.under_test import UnderTest
from tests.mutation.planting import Mutant

MATCHING = "tests.mutation.users.matching"
TRAINING = "tests.mutation.users.training"
_TRACED = ("compilation", "synchronisation")


@dataclass(frozen=True)
class OfMatcher:
    """A matcher, of a class of ``matching``."""

    name: str
    has_points: bool = False

    def find(self, code: Callable[[str], Any], properties: Sequence[str]) -> dict[str, str]:
        """The first of the matchers' properties that it lacks; see ``planting.Case``."""
        del properties
        priors = grid_points((64, 64), [8]) if self.has_points else None
        matcher = UnderTest(getattr(code(MATCHING), self.name)(), priors, 1e-4, 1e-5)
        plain = list(plain_scenes(priors).values())
        given = list(standard_scenes(priors).values())
        for name in MATCHER_PROPERTIES:
            if name in _TRACED or reason_against(name, matcher, plain[0]) is not None:
                continue
            scenes = plain if name in SYMMETRIES else [*plain, *given[:3]] if name == "result" else given[:3]
            for scene in scenes:
                problem = violation_of(name, matcher, scene)
                if problem is not None:
                    return {name: str(problem).splitlines()[0]}
        return {}


@dataclass(frozen=True)
class OfUsersCriterion:
    """A criterion, of a class of ``training``."""

    name: str

    def find(self, code: Callable[[str], Any], properties: Sequence[str]) -> dict[str, str]:
        """The first of the criteria's properties that it lacks; see ``planting.Case``."""
        del properties
        form: dict[str, Any] = {"box_format": "cxcywh", "normalized": True}
        case = CriterionCase(
            lambda **options: getattr(code(TRAINING), self.name)(),
            partial(_layers if self.name == "LayersLoss" else queries, num_classes=5, **form),
            **form,
            reductions=(),
            divides_by="batch",
        )
        without = reasons(case)
        for name in (*CRITERION_PROPERTIES, *DECLARED):
            if name in (*_TRACED, "reference") or name in without:
                continue
            problem = violation_of_criterion(name, case)
            if problem is not None:
                return {name: str(problem).splitlines()[0]}
        return {}


def _layers(boxes: list[Tensor], seed: int, **options: Any) -> dict[str, Any]:
    """Queries of three layers."""
    last, *others = (queries(boxes, seed + 7 * layer, **options) for layer in range(3))
    return {**last, "aux_outputs": others}


Bug = tuple[str, str, str, str]


def bugs_in(place: str, name: str, bugs: Sequence[Bug]) -> list[Mutant]:
    """Mutants of a class of a module: what is wrong, the text, what takes its place, and the property that finds it."""
    return [Mutant("user's", f"{name}, {what}", place, old, new, name, found) for what, old, new, found in bugs]


CASES: dict[str, Any] = {
    "BestOverlap": OfMatcher("BestOverlap"),
    "OneToOne": OfMatcher("OneToOne"),
    "Shares": OfMatcher("Shares"),
    "Inside": OfMatcher("Inside", has_points=True),
    "SetLoss": OfUsersCriterion("SetLoss"),
    "LayersLoss": OfUsersCriterion("LayersLoss"),
}
