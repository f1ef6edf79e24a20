"""Which keys of a dict a reader reads: what it does not read is an error, for it would be lost without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class KnownKeys:
    """What a reader does with each key.

    Args:
        read: Keys that it reads.
        ignored: Keys that it knows, and that hold nothing it could use.
        advice: Of other keys, what to do about them.

    >>> from ragged.values.keys import KnownKeys
    >>> KnownKeys(("boxes", "labels")).check({"boxes": 1, "label": 2}, "the dict")
    Traceback (most recent call last):
        ...
    KeyError: "nobody reads 'label' of the dict: did you mean 'labels'? Keys that are read: boxes, labels"
    """

    read: tuple[str, ...]
    ignored: frozenset[str] = frozenset()
    advice: Mapping[str, str] = field(default_factory=dict)

    def and_read(self, *names: str) -> KnownKeys:
        """The same, where keys of these names are read too."""
        return replace(self, read=(*self.read, *names)) if names else self

    def check(self, source: Mapping[Any, Any], where: str) -> None:
        """Raise ``KeyError`` if a key is neither read nor ignored, and holds something.

        Args:
            source: The dict; None and empty lists hold nothing.
            where: Names it in the message.
        """
        for key, value in source.items():
            nothing = value is None or (isinstance(value, (list, tuple, Mapping)) and not value)
            if key not in self.read and key not in self.ignored and not nothing:
                raise KeyError(self._refusal(key, where))

    def _refusal(self, key: Any, where: str) -> str:
        near = get_close_matches(str(key), self.read, n=2)
        advice = "leave it out if nothing is to be learned from it"
        if key in self.advice:
            advice = self.advice[key]
        elif near:
            advice = f"did you mean {' or '.join(map(repr, near))}?"
        end = "" if advice.endswith("?") else "."
        return f"nobody reads {key!r} of {where}: {advice}{end} Keys that are read: {', '.join(self.read)}"
