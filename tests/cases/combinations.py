"""Which matchers a criterion takes, and the table of them in the README, which ``python -m cases`` writes.

A criterion says kinds of matchers, or the names of single ones, and a matcher its kind; nobody lists the pairs.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from cases import CRITERIA, MATCHERS
from cases.finding import Choice, joined

CHOICES: dict[str, Choice] = joined(MATCHERS, "CHOICES")
SOFT = "soft plan"
README = Path(__file__).parents[2] / "README.md"


def takes(criterion: ModuleType, matcher: str) -> bool:
    """Whether a criterion can be given a matcher of this name."""
    return not {matcher, CHOICES[matcher].kind}.isdisjoint(criterion.TAKES)


def taken_by(criterion: ModuleType) -> list[str]:
    """The names of the matchers that a criterion can be given."""
    return [name for name in sorted(CHOICES) if takes(criterion, name)]


def table() -> str:
    """Criteria and matchers; rows, or columns, that have the same marks are one."""
    columns = _columns()
    rows: dict[tuple[str, ...], list[str]] = {}
    for criterion in sorted(CRITERIA, key=lambda each: each.PROVES[0].casefold()):
        cells = tuple(_cell(criterion, names) for names in columns)
        first, *others = (f"`{name}`" for name in criterion.PROVES)
        rows.setdefault(cells, []).append(first + (f" ({', '.join(others)})" if others else ""))
    head = ["", *("soft plans" if _is_soft(names) else _quoted(names) for names in columns)]
    lines = [
        _line(head),
        "|---" * len(head) + "|",
        *(_line([", ".join(names), *cells]) for cells, names in rows.items()),
    ]
    soft = [name for name in sorted(CHOICES) if CHOICES[name].kind == SOFT]
    return "\n".join([*lines, "", *textwrap.wrap(f"Soft plans: {_quoted(soft)}.", 120)])


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def with_table(readme: str) -> str:
    """The text of the README with the table of today."""
    return re.sub(
        r"^\| \| `.*?^Soft plans: [^.]*\.", lambda _: table(), readme, count=1, flags=re.DOTALL | re.MULTILINE
    )


def _columns() -> list[list[str]]:
    """Matchers that the same criteria take; first what most of them take."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(CHOICES):
        found.setdefault(tuple(each.__name__ for each in CRITERIA if takes(each, name)), []).append(name)
    return [names for _, names in sorted(found.items(), key=lambda item: (-len(item[0]), item[1]))]


def _cell(criterion: ModuleType, names: list[str]) -> str:
    if criterion.DEFAULT in names:
        return "◉" if len(names) == 1 else f"◉ `{criterion.DEFAULT}`"
    return "●" if takes(criterion, names[0]) else ""


def _is_soft(names: list[str]) -> bool:
    return all(CHOICES[name].kind == SOFT for name in names)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
