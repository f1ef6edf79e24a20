"""Planting a bug into a copy of a module or function, and looking for the property that finds it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from ragged.testing import PROPERTIES, NotCheckable, PropertyViolation, assert_matches_per_sample

Arguments = tuple[Any, ...]
REFERENCE = "reference"
RELATION = "relation"
Relation = Callable[..., bool]


@dataclass(frozen=True)
class Case:
    """An operation that a bug can be planted into, and what it is checked with.

    Args:
        operation: Makes the operation of a function that gives the copy of ``"module"`` or ``"module:qualified.name"``,
            or the original where nothing is planted.
        arguments: Makes lists of arguments, of which one must show the bug.
        reference: The same for one sample, if the case has one; see ``check_op``.
        shared: See ``check_op``.
        without: Properties that the operation does not have.
        relations: What else holds for it and any arguments; see ``operations.relations``.
    """

    operation: Callable[[Callable[[str], Any]], Callable[..., Any]]
    arguments: Callable[[], Sequence[Arguments]]
    reference: Callable[..., Any] | None = None
    shared: Callable[[], Arguments] = tuple
    without: frozenset[str] = frozenset()
    relations: tuple[Relation, ...] = ()

    def find(self, code: Callable[[str], Any], properties: Sequence[str]) -> dict[str, str]:
        """The first of ``properties`` that the operation of this code lacks, with the first line of the report.

        Empty if there is none. ``code`` is what ``planted`` gives, or ``original``.
        """
        operation = self.operation(code)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            given, shared = self.arguments(), self.shared()
        for name in properties:
            if name in self.without or (name == REFERENCE and self.reference is None):
                continue
            for arguments in given:
                try:
                    self._check(name, operation, arguments, shared)
                except PropertyViolation as violation:
                    return {name: str(violation).splitlines()[0]}
        return {}

    def _check(self, name: str, operation: Callable[..., Any], arguments: Arguments, shared: Arguments) -> None:
        if name == RELATION:
            for holds in self.relations:
                if not holds(operation, *arguments, *shared):
                    raise PropertyViolation(f"relation: {holds.__name__} does not hold")
        elif name == REFERENCE:
            assert self.reference is not None
            gradients = "gradients" not in self.without
            assert_matches_per_sample(operation, self.reference, *arguments, shared=shared, gradients=gradients)
        else:
            options = {} if name == "synchronisation" else {"shared": shared}
            given = (*arguments, *shared) if name == "synchronisation" else arguments
            with contextlib.suppress(NotCheckable):  # without check_op, which looks for the least arguments
                PROPERTIES[name](operation, *given, **options)


@dataclass(frozen=True)
class Mutant:
    """A bug: text of a module or function, which must occur there once, and what takes its place.

    Args:
        kind: What kind of bug it is.
        what: What is wrong, in words.
        place: ``"module"``, or ``"module:qualified.name"`` of a function.
        old, new: The text.
        case: Name of the case.
        caught_by: The first property that finds it, in the order of ``PROPERTIES``, then the reference.
        carriers: Modules between ``place`` and the operation, which import what is planted, in this order.
    """

    kind: str
    what: str
    place: str
    old: str
    new: str
    case: str
    caught_by: str
    carriers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For test ids and the table."""
        return f"{self.place.rpartition('.')[2]}: {self.what}"


def planted(place: str, old: str, new: str, carriers: Sequence[str] = ()) -> Callable[[str], Any]:
    """A function that gives copies with the replaced text, and originals of everything else."""
    copies = {place: _copy_of_function(place, old, new)} if ":" in place else _copies(place, old, new, carriers)
    return lambda name: copies[name] if name in copies else original(name)


def original(place: str) -> Any:
    """A module, or what is in it."""
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)
    return found


def replaced(source: str, old: str, new: str) -> str:
    """The source with the bug in it.

    Raises:
        ValueError: The text does not occur exactly once, or nothing changes: that would be no mutant.
    """
    if source.count(old) != 1 or old == new:
        raise ValueError(f"expected to replace one occurrence by something else, found {source.count(old)} of {old!r}")
    return source.replace(old, new)


def _copy_of_function(place: str, old: str, new: str) -> Any:
    function = original(place)
    source = replaced(textwrap.dedent(inspect.getsource(function)), old, new)
    names = dict(vars(importlib.import_module(place.partition(":")[0])))
    exec(compile(f"from __future__ import annotations\n{source}", f"<mutant of {place}>", "exec"), names)
    return names[function.__name__]


def _copies(place: str, old: str, new: str, carriers: Sequence[str]) -> dict[str, ModuleType]:
    copies: dict[str, ModuleType] = {}
    for name in (place, *carriers):
        source = inspect.getsource(importlib.import_module(name))
        if name == place:
            source = replaced(source, old, new)
        copies[name] = module = ModuleType(name)
        with _in_place_of(copies):
            exec(compile(source, f"<mutant of {name}>", "exec"), vars(module))
    return copies


@contextmanager
def _in_place_of(copies: dict[str, ModuleType]) -> Iterator[None]:
    """While a copy is made, what it imports are copies, too."""
    kept = {name: sys.modules[name] for name in copies}
    sys.modules.update(copies)
    try:
        yield
    finally:
        sys.modules.update(kept)
