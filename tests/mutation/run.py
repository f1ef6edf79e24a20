"""Every mutant, what finds it, and how many are found."""

from __future__ import annotations

from ragged.testing import PROPERTIES
from tests.mutation import loss_cases, loss_mutants, matcher_cases, matcher_mutants, ragged_cases, ragged_mutants
from tests.mutation.planting import REFERENCE, Case, Mutant, find, original, planted

CASES: dict[str, Case] = {**ragged_cases.CASES, **matcher_cases.CASES, **loss_cases.CASES}
MUTANTS: list[Mutant] = [*ragged_mutants.MUTANTS, *matcher_mutants.MUTANTS, *loss_mutants.MUTANTS]
# Compilation takes seconds: only where no other property sees the bug.
QUICK = (*(name for name in PROPERTIES if name != "compilation"), REFERENCE)
ALL = (*QUICK, "compilation")


def properties_of(case: str) -> tuple[str, ...]:
    """What the unchanged operation of a case is checked for: all that its mutants are looked for with."""
    compiled = any(mutant.case == case and mutant.caught_by == "compilation" for mutant in MUTANTS)
    return ALL if compiled else QUICK


def find_in_original(name: str) -> dict[str, str]:
    """What the properties say of the operation without a bug: nothing."""
    case = CASES[name]
    return find(case, case.operation(original), properties_of(name))


def find_mutant(mutant: Mutant) -> dict[str, str]:
    """The first property that a mutant lacks."""
    case = CASES[mutant.case]
    code = planted(mutant.place, mutant.old, mutant.new, mutant.carriers)
    return find(case, case.operation(code), properties_of(mutant.case))


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
    print(f"{caught} of {len(rows)} caught, {alone} of them without a reference")
    return 0 if caught == len(rows) and not wrong else 1
