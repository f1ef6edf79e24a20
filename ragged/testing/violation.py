"""The exception of a check that fails, the code that it prints, and why something was not checked."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.as_code import as_code

# The function that checks a property alone, by the name that ``without`` takes.
_ALONE = {
    "randomness": "assert_random_state_kept",
    "purity": "assert_pure",
    "filler": "assert_filler_invariant",
    "padding": "assert_padding_invariant",
    "order": "assert_batch_equivariant",
    "independence": "assert_sample_independent",
    "empty": "assert_empty_batches",
    "layout": "assert_layout_invariant",
    "nonfinite": "assert_nonfinite_contained",
    "sizes": "assert_large_samples",
    "integers": "assert_large_integers",
    "gradients": "assert_gradients",
    "precision": "assert_dtype_stable",
    "synchronisation": "assert_no_host_sync",
    "compilation": "assert_compiles",
    "reference": "assert_matches_per_sample",
}


class PropertyViolation(AssertionError):
    """An operation does not keep to a property; the message names it, the first sample, the position, the values.

    The attribute ``property`` is the name that ``check_op`` takes in ``without``; None where there is none.
    """

    def __init__(self, message: str = "", *, property: str | None = None) -> None:
        super().__init__(message)
        self.property = property


class NotCheckable(ValueError):
    """A property cannot be checked on these arguments; the message says why."""


def with_hint(found: PropertyViolation, hint: str) -> PropertyViolation:
    """The same with more behind what was found; itself if there is nothing to add."""
    if not hint:
        return found
    problem, line, rest = str(found).partition("\n")
    return type(found)(f"{problem}{hint}{line}{rest}", property=found.property)


def violation(claim: str, problem: str, arguments: Any, shared: Sequence[Any] = ()) -> PropertyViolation:
    """The exception: the property and what should hold, what does not, and code to see it with.

    Args:
        claim: Begins with the name of the property.
        problem: What was found, and what was expected.
        arguments: Those that show it.
        shared: Those that all samples share.
    """
    name = re.split(r"\W", claim, maxsplit=1)[0]
    lines = "\n".join(f"    {line}" for line in reproduction(name, arguments, shared))
    return PropertyViolation(f"{claim}: {problem}\nReproduce with\n{lines}", property=name)


def reproduction(name: str, arguments: Any, shared: Sequence[Any]) -> list[str]:
    """Lines of code that check a property on these arguments, imports included."""
    lines = [f"arguments = {as_code(tuple(arguments))}"]
    if shared:
        lines.append(f"shared = {as_code(tuple(shared))}")
    called = _ALONE.get(name)
    imports = _imports([arguments, shared], "\n".join(lines))
    if called is None:
        return [*imports, *lines]
    given = "op, reference" if name == "reference" else "op"
    more = "" if not shared else ", *shared" if name == "synchronisation" else ", shared=shared"
    return [*imports, f"from ragged.testing import {called}", *lines, f"{called}({given}, *arguments{more})"]


def with_call(error: Exception, what: str, arguments: Any, shared: Sequence[Any] = ()) -> None:
    """Note on an error of somebody's code which call raised it, from Python 3.11 on, which shows notes."""
    lines = [*_imports([arguments, shared], as_code((arguments, shared))), f"arguments = {as_code(tuple(arguments))}"]
    lines += [f"shared = {as_code(tuple(shared))}"] if shared else []
    call = f"{what}(*arguments{', *shared' if shared else ''})"
    note = "\n    ".join([f"raised by {call} with", *lines])
    if hasattr(error, "add_note") and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _imports(values: Any, text: str) -> list[str]:
    numbers = [name for name in ("inf", "nan") if re.search(rf"\b{name}\b", text)]
    lines = {f"from {module} import {name}" for module, name in sorted(set(_classes(values)))}
    return [*([f"from math import {', '.join(numbers)}"] if numbers else []), "import torch", *sorted(lines)]


def _classes(value: Any) -> Iterable[tuple[str, str]]:
    """Where the classes come from that the code names."""
    named = isinstance(value, tuple) and hasattr(value, "_fields")
    if isinstance(value, RaggedBatch):
        yield "ragged", "RaggedBatch"
    elif named or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        kind = type(value)
        package = kind.__module__.partition(".")[0]
        is_public = getattr(sys.modules.get(package), kind.__name__, None) is kind
        yield package if is_public else kind.__module__, kind.__name__
        fields = value if named else [getattr(value, field.name) for field in dataclasses.fields(value)]
        for each in fields:
            yield from _classes(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _classes(each)
    elif isinstance(value, (list, tuple)) and not isinstance(value, Tensor):
        for each in value:
            yield from _classes(each)
