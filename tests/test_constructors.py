"""Constructors name all their parameters; those of a base keep their defaults, and reach it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import losses
import matchers
import ragged
from losses.modules.base import LossModule
from matchers.by_cost.cost_matcher import CostMatcher

CLASSES = {
    name: made
    for package in (ragged, matchers, losses)
    for name in package.__all__
    if inspect.isclass(made := getattr(package, name)) and not getattr(made, "_is_protocol", False)
}
OTHERS: dict[str, Any] = {
    "background": False,
    "background_cost": 3.5,
    "ignore_iof": 0.75,
    "is_anchor_based": True,
    "loc_match_module": losses.L1Loss(),
    "loss_weight": 2.5,
    "max_pairwise_bytes": 12345,
    "normalize_cost_matrix": False,
    "normalized": True,
    "reduction": "sum",
    "reg": 0.25,
    "reg_dimless": 0.5,
}
"""Values that are nobody's default."""
DERIVED = [
    name for name, made in CLASSES.items() if issubclass(made, (CostMatcher, LossModule)) and name != "WeightedSum"
]


def shared_parameters(made: type) -> dict[str, Any]:
    """Parameters of a class that a base has as well, and their defaults there."""
    own = inspect.signature(made).parameters
    return {
        key: each.default
        for base in made.__mro__[1:]
        if "__init__" in vars(base) and base.__module__.startswith(("matchers.", "losses."))
        for key, each in inspect.signature(base).parameters.items()
        if key in own and each.default is not each.empty
    }


@pytest.mark.parametrize("name", CLASSES)
def test_no_parameter_hides(name: str) -> None:
    parameters = inspect.signature(CLASSES[name]).parameters.values()
    assert not [each.name for each in parameters if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_those_of_the_base(name: str) -> None:
    own = inspect.signature(CLASSES[name]).parameters
    shared = shared_parameters(CLASSES[name])
    assert {key: own[key].default for key in shared} == shared


@pytest.mark.parametrize("name", DERIVED)
def test_parameters_reach_the_base(name: str) -> None:
    made = CLASSES[name]
    given = {key: value for key, value in OTHERS.items() if key in inspect.signature(made).parameters}
    assert given
    object_ = made(**given)
    assert {key: getattr(object_, key) for key in given} == given
