"""What ``check_op`` returns, and how it reads what it is given."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn


class UncheckedWarning(UserWarning):
    """A property was not checked although you can expect it."""


class Checked(tuple[str, ...]):
    """Names of the properties that were checked.

    The attribute ``unchecked`` says why each of the others was not, by name.
    """

    unchecked: Mapping[str, str]

    def __new__(cls, names: Iterable[str], unchecked: Mapping[str, str]) -> Checked:
        """A tuple is made here, not in ``__init__``."""
        made = super().__new__(cls, names)
        made.unchecked = unchecked
        return made


def check_call(
    op: Any, reference: Any, shared: Any, constants: Any, without: Any, properties: Collection[str], name: str
) -> None:
    """Say in a sentence what is wrong with the options of a checker.

    Args:
        op, reference, shared, constants, without: As ``check_op`` takes them.
        properties: The names that ``without`` may have.
        name: Of the checker.

    Raises:
        TypeError: Something is no callable, a class, or a string or tensor where a collection is meant.
        ValueError: ``without`` names no property.
    """
    for what, value in (("op", op), ("reference", reference)):
        if value is None and what == "reference":
            continue
        # A reference may make a named tuple.
        if inspect.isclass(value) and (what == "op" or issubclass(value, nn.Module)):
            raise TypeError(f"{what} must be a callable, got the class {value.__name__}: give {name} an instance of it")
        if not callable(value):
            raise TypeError(f"{what} must be a callable, got {_described(value)}: the call is {name}(op, *arguments)")
    if isinstance(without, str):
        raise TypeError(f"without must be a collection of names, got the string {without!r}: write [{without!r}]")
    if isinstance(shared, Tensor) or not isinstance(shared, Iterable):
        raise TypeError(f"shared must be a sequence of arguments, got {_described(shared)}: write shared=(…,)")
    if isinstance(constants, int) or not isinstance(constants, Iterable):
        raise TypeError(f"constants must be a collection of positions, got {_described(constants)}: write [0]")
    for each in without:
        if each not in properties:
            near = difflib.get_close_matches(str(each), properties, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown property {each!r}; there are {', '.join(properties)}{meant}")


def warn_of_missing_gradient(reason: str) -> None:
    """A floating result has no gradient, and nobody said so."""
    words = "was that meant? Then say without=['gradients']"
    warnings.warn(f"gradients were not checked: {reason}; {words}", UncheckedWarning, stacklevel=4)


def _described(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, Tensor) or hasattr(value, "tensor") else repr(value)
