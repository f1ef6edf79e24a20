"""What was checked, what was not and why; and what a kit says of arguments that it cannot use."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any


class Report(tuple[str, ...]):
    """The names of the properties that were checked, in order: a tuple that knows what was left out.

    Attributes:
        not_checked: Why a property was not checked, by name: ``without=``, or what the property needs.

    >>> report = Report(["padding", "order"], {"classes": "there are no logits"})
    >>> report
    ('padding', 'order')
    >>> print(report.text())
    checked: padding, order
    not checked: classes (there are no logits)
    """

    not_checked: dict[str, str]

    def __new__(cls, names: Iterable[str], not_checked: Mapping[str, str] | None = None) -> Report:
        """Of the names, and the reasons by name."""
        made = super().__new__(cls, tuple(names))
        made.not_checked = dict(not_checked or {})
        return made

    def text(self) -> str:
        """A line of what was checked, and one for each property that was not."""
        lines = [f"checked: {', '.join(self)}"]
        return "\n".join([*lines, *(f"not checked: {name} ({why})" for name, why in self.not_checked.items())])


def check_without(without: Collection[str], known: Collection[str]) -> None:
    """Raise unless ``without`` is a collection of names of properties."""
    if isinstance(without, str):
        raise TypeError(
            f"without must be a collection of names, got the string {without!r}: write without=[{without!r}]"
        )
    unknown = [name for name in without if name not in known]
    if unknown:
        raise ValueError(f"unknown property {unknown[0]!r}; there are {', '.join(known)}")


def check_is_instance(given: Any, what: str, checker: str) -> None:
    """Raise ``TypeError`` if a class is given for what it makes, or something that cannot be called."""
    if inspect.isclass(given):
        name = given.__name__
        raise TypeError(f"{checker} takes a {what}, got the class {name}: give an instance, {name}(…)")
    if not callable(given):
        raise TypeError(f"{checker} takes a {what} that can be called, got {type(given).__name__}")
