"""Every public name, and how it is proved: tables in the modules ``of_…``, which one test walks through.

``python -c "from registry import counts; print(counts())"`` in this directory's parent says how much that is.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

from cases import CRITERIA, MATCHERS
from cases.finding import joined, listed, modules_of

from ragged.testing import PROPERTIES
from registry.entries import Elsewhere, Operation

_FILES = [each for each in modules_of(sys.modules[__name__]) if each.__name__.startswith("registry.of_")]
TABLES: dict[str, dict[str, Operation | Elsewhere]] = {
    package: joined([file for file in _FILES if package == file.PACKAGE], "ENTRIES")
    for package in ("ragged", "matchers", "losses")
}

# They decide, or sum over images: what they promise is checked in a form of their own, by files of ``cases``.
PROVED_BY_CASES: dict[str, set[str]] = {
    "ragged": set(),
    "matchers": set(listed(MATCHERS, "PROVES")),
    "losses": set(listed(CRITERIA, "PROVES")),
}

# They give numbers, which are the same or not.
GIVE_NUMBERS = ("RaggedBatch.largest_sample_size", "RaggedBatch.total_num_entries")


def operations() -> Iterator[tuple[str, Operation]]:
    """Every operation of all packages, by name."""
    for table in TABLES.values():
        for name, entry in table.items():
            if isinstance(entry, Operation):
                yield name, entry


def names_of(package: str) -> set[str]:
    """Public names, and members of them, that have an entry."""
    return {name.partition("[")[0] for name in TABLES[package]} | PROVED_BY_CASES[package]


def counts() -> dict[str, int]:
    """How many names and operations there are, and of how many operations each property is checked."""
    checked = Counter(name for _, entry in operations() for name in entry.properties())
    return {
        "public names": sum(len(names_of(package)) for package in TABLES),
        "operations": sum(1 for _ in operations()),
        **{name: checked[name] for name in (*PROPERTIES, "reference")},
    }
