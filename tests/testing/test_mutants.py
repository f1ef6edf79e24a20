"""Every bug that is planted into a copy of a real operation is found, and nothing is found in the originals."""

from __future__ import annotations

import re

import pytest

from ragged import sum_over_targets
from tests.mutation.planting import Mutant, original, planted, replaced
from tests.mutation.run import CASES, CHOICE, MUTANTS, find_in_original, find_mutant, main

pytestmark = pytest.mark.hunts


@pytest.mark.parametrize("name", CASES)
def test_originals_pass(name: str) -> None:
    assert find_in_original(name) == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutants_are_caught(mutant: Mutant) -> None:
    assert list(find_mutant(mutant)) == [mutant.caught_by]


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 60 and len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.case for mutant in MUTANTS} == set(CASES)
    by_reference = [mutant for mutant in MUTANTS if mutant.caught_by == "reference"]
    assert len([mutant for mutant in by_reference if mutant.kind != CHOICE]) <= 5
    assert len(by_reference) <= len(MUTANTS) / 20


@pytest.mark.parametrize(
    ("old", "new"), [("not there", "x"), ("return", "yield"), ("_filled(data, 0).sum(", "_filled(data, 0).sum(")]
)
def test_a_mutant_is_never_the_original(old: str, new: str) -> None:
    source = "def f(data):\n    if data:\n        return 1\n    return _filled(data, 0).sum("
    with pytest.raises(ValueError, match="expected to replace one occurrence by something else, found"):
        replaced(source, old, new)


def test_the_toolkit_keeps_its_own_modules() -> None:
    code = planted("ragged.ops.reductions", "return _filled(data, 0).sum(", "return _filled(data, 1).sum(")
    assert code("ragged.ops.reductions").sum_over_targets is not sum_over_targets
    assert original("ragged.ops.reductions:sum_over_targets") is sum_over_targets


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    few = [mutant for mutant in MUTANTS if mutant.case == "average"]
    monkeypatch.setattr("tests.mutation.run.MUTANTS", few)
    monkeypatch.setattr("tests.mutation.run.CASES", {"average": CASES["average"]})
    assert main() == 0
    shown = capsys.readouterr().out
    assert re.search(r"size with padding +reductions: divided by the padded size +padding\n", shown)
    assert shown.endswith(
        f"{len(few)} of {len(few)} caught: {len(few)} by properties and relations, 0 wrong constants and choices and 0 "
        "others by a reference\n"
    )
    harmless = Mutant("none", "nothing", "ragged.ops.reductions", "count > 0, mean", "count >= 1, mean", "average", "")
    monkeypatch.setattr("tests.mutation.run.MUTANTS", [*few, harmless])
    assert main() == 1
    assert "reductions: nothing" in (shown := capsys.readouterr().out) and "NOT CAUGHT\n" in shown
