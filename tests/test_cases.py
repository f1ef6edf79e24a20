"""A criterion or a matcher is a file of ``cases``, which says all of it: what follows goes over those that are found."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from cases import CRITERIA, EVERY_CRITERION, EVERY_MATCHER, MATCHERS, ON_THE_HOST, RAISES_ON_CUDA, VARIANTS, scene
from cases.combinations import CHOICES, SOFT, table, taken_by
from cases.finding import CRITERION_PARTS, MATCHER_PARTS, joined, missing
from cases.plans import assert_same_plans, planned
from cases.readme import README, updated
from reliability.test_bad_inputs import ROWS

import losses
import matchers
from losses import total
from losses.testing import leaves_of
from matchers import Plan
from tests.mutation.criteria import assert_as_reference

FILES = [(module, CRITERION_PARTS) for module in CRITERIA] + [(module, MATCHER_PARTS) for module in MATCHERS]


def file_of(name: str, modules: list[ModuleType]) -> Any:
    return next(module for module in modules if name in module.CASES)


def name_of(module: Any) -> str | None:
    return module.__name__ if isinstance(module, ModuleType) else None


# --- what a file says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "parts"), FILES, ids=name_of)
def test_a_file_has_every_part(module: ModuleType, parts: dict[str, str]) -> None:
    assert missing(module, parts) == []


def test_a_part_that_is_missing_is_named_with_its_file() -> None:
    module = ModuleType("foo")
    module.__file__ = "tests/cases/criteria/foo.py"
    for name in CRITERION_PARTS.keys() - {"reference", "CALLS", "BUGS"}:
        setattr(module, name, [1])
    module.reference, module.BUGS, module.DEFAULT = print, [], None  # type: ignore[attr-defined]
    assert missing(module, CRITERION_PARTS) == [
        "tests/cases/criteria/foo.py lacks CALLS: valid calls for the fuzzer, by name",
        "tests/cases/criteria/foo.py lacks BUGS: bugs to plant into the criterion, each with the property that finds it",
    ]


def test_two_files_with_the_same_name_for_something_are_refused() -> None:
    first, second = ModuleType("a"), ModuleType("b")
    first.__file__, second.__file__ = "a.py", "b.py"
    first.CASES, second.CASES = {"foo": 1}, {"foo": 2}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"CASES of .*b\.py and of .*a\.py both have 'foo'"):
        joined([first, second], "CASES")


@pytest.mark.parametrize(("module", "parts"), FILES, ids=name_of)
def test_a_file_proves_what_it_says(module: ModuleType, parts: dict[str, str]) -> None:
    """Each name is public and has a valid call, and each object of the cases is of one of these classes."""
    package = losses if module in CRITERIA else matchers
    assert set(module.PROVES) <= set(package.__all__) & module.CALLS.keys()
    kinds = tuple(kind for name in module.PROVES if isinstance(kind := getattr(package, name), type))
    for case in module.CASES.values():
        assert isinstance(case.make() if module in CRITERIA else case[0], kinds)


def test_what_is_said_of_single_cases_is_said_of_cases_that_are_there() -> None:
    assert set(EVERY_CRITERION) >= VARIANTS | RAISES_ON_CUDA
    assert set(EVERY_MATCHER) >= ON_THE_HOST | joined(MATCHERS, "COSTS").keys()


# --- against the references -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_a_criterion_is_its_reference(name: str) -> None:
    for sizes in ([3, 0, 1], [0]):
        assert_as_reference(EVERY_CRITERION[name], file_of(name, CRITERIA).reference, sizes)


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_a_matcher_is_its_reference(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    for sizes in ((3, 0, 5), (0,), (1,), (12, 2)):
        predictions, targets = scene(*sizes, seed=sum(sizes))
        found = planned(matcher(predictions, targets, priors))
        assert_same_plans(found, file_of(name, MATCHERS).reference(matcher, predictions, targets, priors), 1e-3)


# --- criteria and matchers ------------------------------------------------------------------------------------------

PAIRS = [
    pytest.param(name, matcher, id=f"{name}-{matcher}")
    for module in CRITERIA
    for name in module.CASES
    for matcher in taken_by(module)
]


@pytest.mark.parametrize(("name", "matcher"), PAIRS)
def test_a_criterion_with_every_matcher_that_it_takes(name: str, matcher: str) -> None:
    """With no target, one, and several, the loss is finite, and each prediction has a gradient."""
    case = EVERY_CRITERION[name]
    criterion = case.make(matcher=CHOICES[matcher].make())
    for sizes in ([0], [1], [5], [3, 0, 1]):
        predictions, targets = case.cast(case.predictions(sizes), torch.float32), case.targets(sizes)
        loss = total(case.losses(criterion, predictions, targets))
        assert loss.isfinite()
        gradients = torch.autograd.grad(loss, leaves_of(predictions))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients) or not sum(sizes)


@pytest.mark.parametrize("module", CRITERIA, ids=name_of)
def test_the_default_matcher_is_the_one_that_the_file_says(module: ModuleType) -> None:
    if module.DEFAULT is None:
        return
    assert module.DEFAULT in taken_by(module)
    for case in module.CASES.values():
        assert type(case.make().matcher).__name__ == module.DEFAULT


@pytest.mark.parametrize("name", CHOICES)
def test_a_soft_plan_is_what_gives_no_assignment(name: str) -> None:
    result = CHOICES[name].make()(*scene(2, 1), priors_of(name))
    assert isinstance(result, Plan) == (CHOICES[name].kind == SOFT)


def priors_of(name: str) -> Any:
    """Those of the case of a matcher of this class."""
    return next(priors for matcher, priors in EVERY_MATCHER.values() if type(matcher).__name__ == name)


@pytest.mark.parametrize("kind", sorted({kind for module in CRITERIA for kind in module.TAKES}))
def test_what_a_criterion_takes_exists(kind: str) -> None:
    assert kind in CHOICES or kind in {choice.kind for choice in CHOICES.values()}


def test_the_readme_is_up_to_date() -> None:
    """``PYTHONPATH=.:tests python -m cases`` writes its table, and its counts."""
    text = README.read_text()
    assert table() in text and updated(text) == text
    old = text.replace(table(), table().replace("◉", "●")).replace(f"{len(ROWS)} of {len(ROWS)} cases", "1 of 1 cases")
    assert old != text and updated(old) == text
