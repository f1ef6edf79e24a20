"""Members are found, as scikit-learn finds its estimators: a module of a package is one, and nobody lists it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

CRITERION_PARTS = {
    "PROVES": "the public names that this file proves",
    "CASES": "predictions and a constructor, by name: CriterionCase",
    "reference": "reference(criterion, predictions, targets): the terms, in plain loops",
    "TAKES": "kinds of matchers, or names of single ones, that `matcher=` can be",
    "DEFAULT": "the name of the matcher that it has by itself, or None",
    "CALLS": "valid calls for the fuzzer, by name",
    "BAD_INPUTS": "wrong calls: name, call, error, words of the message",
    "BUGS": "bugs to plant into the criterion, each with the property that finds it",
}
MATCHER_PARTS = {
    "PROVES": "the public names that this file proves",
    "CASES": "the matcher and its priors, by name",
    "reference": "reference(matcher, predictions, targets, priors): weights and background of each image, in a loop",
    "CHOICES": "what `matcher=` of a criterion is given, with its kind, by public name",
    "CALLS": CRITERION_PARTS["CALLS"],
    "BAD_INPUTS": CRITERION_PARTS["BAD_INPUTS"],
    "OPERATIONS": "what bugs are planted into",
    "BUGS": "bugs to plant into these operations, each with the property that finds it",
}


def modules_of(package: ModuleType) -> list[ModuleType]:
    """All modules of a package, by name."""
    names = sorted(each.name for each in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def missing(module: ModuleType, parts: Mapping[str, str]) -> list[str]:
    """A sentence for each part that the module does not have; one that is empty is missing, too, but None is not."""
    return [
        f"{module.__file__} lacks {name}: {what}"
        for name, what in parts.items()
        if not hasattr(module, name) or (not callable(part := getattr(module, name)) and part is not None and not part)
    ]


def joined(modules: Sequence[ModuleType], part: str) -> dict[str, Any]:
    """A part of all modules, by name.

    Raises:
        ValueError: Two modules have the same name for something.
    """
    found: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for module in modules:
        for name, value in getattr(module, part, {}).items():
            if name in found:
                raise ValueError(f"{part} of {module.__file__} and of {owner[name]} both have {name!r}")
            found[name], owner[name] = value, str(module.__file__)
    return found


def listed(modules: Sequence[ModuleType], part: str) -> list[Any]:
    """A part of all modules, that is a sequence, or a set."""
    return [value for module in modules for value in getattr(module, part, ())]


@dataclass(frozen=True)
class Choice:
    """What ``matcher=`` of a criterion can be.

    Args:
        kind: What it needs and gives: "by cost" needs predictions, "points" and "anchors" are the priors of a rule, and
            "soft plan" gives no assignment.
        make: Makes one for a criterion that may have priors, which matchers by cost are not to look at.
    """

    kind: str
    make: Callable[[], Any]
