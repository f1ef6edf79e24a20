"""How much is tried: little by default, much with ``pytest --hypothesis-profile=thorough``."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest
from hypothesis import settings

# Of the default profile.
USUAL = 100
# Of what a test asks for by default, so that all tests together take minutes.
_SHARE = 1 / 3


def examples(count: int) -> settings:
    """Settings for a property test that draws up to so many examples by default, and as many as the profile in a long run."""
    return settings(max_examples=settings().max_examples if is_thorough() else max(1, round(_SHARE * count)))


def is_thorough() -> bool:
    """Whether the profile draws many more examples than the default one."""
    return settings().max_examples >= 10 * USUAL


# For a test that takes its time, and finds what others find, too.
thorough = pytest.mark.skipif(not is_thorough(), reason="in thorough runs")


def mostly_thorough(cases: Iterable[Any], usual: Container[Any]) -> list[Any]:
    """Parameters of a test, of which all but the usual ones are left to thorough runs, for they take their time."""
    return _marked(cases, usual, thorough)


def mostly_hunts(cases: Iterable[Any], usual: Container[Any]) -> list[Any]:
    """Parameters of a test, of which all but the usual ones wait for the long tests."""
    return _marked(cases, usual, pytest.mark.hunts)


def mostly_graphs(cases: Iterable[Any], usual: Container[Any]) -> list[Any]:
    """Parameters of a test, of which all but the usual ones compile graphs."""
    return _marked(cases, usual, pytest.mark.graphs)


def _marked(cases: Iterable[Any], usual: Container[Any], mark: pytest.MarkDecorator) -> list[Any]:
    return [
        case if case in usual else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark)
        for case in cases
    ]
