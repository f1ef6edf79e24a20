"""Every mutant, what finds it, and how many are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cases import CRITERIA, MATCHERS
from cases.finding import joined, listed, modules_of

from ragged.testing import PROPERTIES
from tests.mutation import operations
from tests.mutation.criteria import OfCriterion
from tests.mutation.planting import REFERENCE, RELATION, Mutant, original, planted
from tests.mutation.users import bugs_of_criteria, bugs_of_matchers, of_kit

CHOICE = "choice"
"""The kind of a mutant that computes something else, though nothing is wrong with it in itself: only a reference tells."""
_OPERATIONS = modules_of(operations)


def _of_criteria() -> tuple[dict[str, OfCriterion], list[Mutant]]:
    """Criteria that have a bug which is planted into no operation of theirs, and all bugs."""
    cases: dict[str, OfCriterion] = {}
    mutants = []
    for module in CRITERIA:
        for mutant in module.BUGS:
            if mutant.case in module.CASES:
                name = f"{mutant.case} criterion"
                cases[name] = OfCriterion(module.CASES[mutant.case], module.reference)
                mutant = replace(mutant, case=name)
            mutants.append(mutant)
    return cases, mutants


_CRITERIA, _BUGS = _of_criteria()
CASES: dict[str, Any] = {
    **joined(_OPERATIONS, "CASES"),
    **joined(MATCHERS, "OPERATIONS"),
    **joined(CRITERIA, "OPERATIONS"),
    **_CRITERIA,
    **of_kit.CASES,
}
_OF_USERS = [bugs_of_matchers, bugs_of_criteria]
MUTANTS: list[Mutant] = [
    *listed(_OPERATIONS, "MUTANTS"),
    *listed(MATCHERS, "BUGS"),
    *_BUGS,
    *listed(_OF_USERS, "MUTANTS"),
]
# Compilation takes seconds: only where no other property sees the bug.
QUICK = (*(name for name in PROPERTIES if name != "compilation"), RELATION, REFERENCE)
ALL = (*QUICK, "compilation")


def properties_of(case: str) -> tuple[str, ...]:
    """What the unchanged operation of a case is checked for: all that its mutants are looked for with.

    A criterion has a test for each of its properties already, so that here it has those alone that find its bugs.
    """
    needed = {mutant.caught_by for mutant in MUTANTS if mutant.case == case}
    if isinstance(CASES[case], OfCriterion):
        return tuple(sorted(needed))
    return ALL if "compilation" in needed else QUICK


def find_in_original(name: str) -> dict[str, str]:
    """What the properties say of the operation without a bug: nothing."""
    return CASES[name].find(original, properties_of(name))


def find_mutant(mutant: Mutant) -> dict[str, str]:
    """The first property that a mutant lacks."""
    code = planted(mutant.place, mutant.old, mutant.new, mutant.carriers)
    return CASES[mutant.case].find(code, properties_of(mutant.case))


def main() -> int:
    """Print the table; 0 if every original passes and every mutant is caught."""
    wrong = {name: found for name in CASES if (found := find_in_original(name))}
    for name, found in wrong.items():
        print(f"the original of {name!r} fails: {found}")
    rows = [(mutant.kind, mutant.name, ", ".join(find_mutant(mutant)) or "NOT CAUGHT") for mutant in MUTANTS]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in [("kind", "mutant", "caught by"), *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    caught = sum(row[2] != "NOT CAUGHT" for row in rows)
    alone = sum(row[2] not in (REFERENCE, "NOT CAUGHT") for row in rows)
    choices = sum(row[0] == CHOICE and row[2] == REFERENCE for row in rows)
    need = caught - alone - choices
    print(
        f"{caught} of {len(rows)} caught: {alone} by properties and relations, {choices} wrong constants and choices ",
        end="",
    )
    print(f"and {need} others by a reference")
    return 0 if caught == len(rows) and not wrong else 1
