"""Every public name is proved: each operation keeps to all properties of the kit that it promises."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from determinism import assert_deterministic_on_a_device, assert_repeats, moved
from effort import mostly_thorough
from registry import GIVE_NUMBERS, TABLES, names_of, operations
from registry.entries import Elsewhere, Operation
from registry.usual_graphs import USUAL_GRAPHS
from runs import run_operation

from ragged import RaggedBatch
from ragged.testing import PROPERTIES
from ragged.testing.arguments import batch_shape_of, emptied, trimmed
from ragged.testing.outcome import evaluate

ROOT = Path(__file__).parent.parent
OPERATIONS = dict(operations())
COMPILABLE = [name for name, entry in OPERATIONS.items() if "compilation" not in entry.without]


@pytest.mark.parametrize("package", TABLES)
def test_every_public_name_has_an_entry_and_every_entry_a_name(package: str) -> None:
    public = set(importlib.import_module(package).__all__)
    entries = {name.partition(".")[0] for name in names_of(package)}
    assert public - entries == set(), "without an entry"
    assert entries - public == set(), "entries of nothing"


@pytest.mark.parametrize("package", TABLES)
def test_every_entry_of_a_member_names_one(package: str) -> None:
    module = importlib.import_module(package)
    for name in names_of(package):
        owner, _, member = name.partition(".")
        assert not member or inspect.getattr_static(getattr(module, owner), member, None) is not None, name


def test_every_public_member_of_ragged_batch_has_an_entry() -> None:
    fields = {"tensor", "mask", "sample_sizes", "ragged_axis"}
    operators = {
        name
        for name, value in vars(RaggedBatch).items()
        if getattr(value, "__module__", "") == "ragged.batch.elementwise"
    }
    public = {name for name in dir(RaggedBatch) if not name.startswith("_") and hasattr(RaggedBatch, name)} | operators
    entries = {name.partition(".")[2] for name in names_of("ragged") if name.startswith("RaggedBatch.")}
    same = {"__ipow__"}  # __pow__ by another name
    assert public - entries - fields - same - {"__torch_function__"} == set()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name: str) -> None:
    """The one walk over all operations: the properties, what is excepted, no entry at all, and bits that repeat."""
    entry = OPERATIONS[name]
    checked = entry.check(skip={"compilation"})
    assert {"filler", "padding"} <= set(checked)
    check_that_exceptions_are_needed(entry)
    if not entry.without:
        check_without_any_entry(entry)
    if name not in GIVE_NUMBERS:
        check_bits(name, entry)


@pytest.mark.graphs
@pytest.mark.parametrize("name", mostly_thorough(COMPILABLE, usual=USUAL_GRAPHS))
def test_operation_in_one_graph(name: str) -> None:
    entry = OPERATIONS[name]
    PROPERTIES["compilation"](entry.function, *entry.arguments(), shared=entry.shared)


def check_that_exceptions_are_needed(entry: Operation) -> None:
    for exception in entry.without:
        given = (*entry.arguments(), *entry.shared) if exception == "synchronisation" else entry.arguments()
        options: dict[str, Any] = {} if exception == "synchronisation" else {"shared": entry.shared}
        options |= {"constants": entry.constants} if exception == "gradients" else {}
        with pytest.raises((AssertionError, RuntimeError)):
            PROPERTIES[exception](entry.function, *given, **options)


def check_without_any_entry(entry: Operation) -> None:
    """No sample has an entry, and there is no padding either: a ragged dimension of size 0."""
    nothing = trimmed(emptied(entry.arguments(), first_only=False))
    PROPERTIES["synchronisation"](entry.function, *nothing, *entry.shared)
    evaluate(entry.function, nothing, shared=entry.shared, batch_shape=batch_shape_of(nothing))


def check_bits(name: str, entry: Operation) -> None:
    arguments = (*entry.arguments(), *entry.shared)
    assert_repeats(lambda: run_operation(entry.function, arguments), name, "cpu")
    if "synchronisation" not in entry.without:
        on_meta = moved(arguments, "meta")
        assert_deterministic_on_a_device(lambda: run_operation(entry.function, on_meta), name)


def test_graphs_of_every_run_are_of_entries() -> None:
    assert set(COMPILABLE) >= USUAL_GRAPHS


def test_what_is_no_operation_is_tested_where_the_table_says() -> None:
    for table in TABLES.values():
        for name, entry in table.items():
            if isinstance(entry, Elsewhere):
                assert entry.why
                text = (ROOT / entry.file).read_text()
                word = name.rpartition(".")[2]
                assert re.search(rf"\b{word}\b", text), f"{entry.file} does not mention {word}"
