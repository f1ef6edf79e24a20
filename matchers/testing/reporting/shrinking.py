"""The smallest part of something that still shows a problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

TRIES = 200
"""So many smaller things are tried, at most."""


class Shrinker:
    """Takes parts away as long as what remains fails.

    Args:
        fails: Whether a smaller thing still shows the problem.
        tries: After so many, what was found by then has to do.
    """

    def __init__(self, fails: Callable[[Any], bool], tries: int = TRIES) -> None:
        self.fails, self.tries = fails, tries

    def fewest(self, items: Sequence[T], least: int, build: Callable[[list[T]], Any]) -> list[T]:
        """As few of the items, in their order, as suffice: ``build`` makes of them what is to fail."""
        kept = list(items)
        size = max(len(kept) - least, 0)
        while size and self.tries > 0:
            start = 0
            while start < len(kept) and self.tries > 0:
                fewer = kept[:start] + kept[start + size :]
                if self._fails(fewer, least, build):
                    kept = fewer
                else:
                    start += size
            size //= 2
        return kept

    def _fails(self, items: list[T], least: int, build: Callable[[list[T]], Any]) -> bool:
        if len(items) < least:
            return False
        self.tries -= 1
        return self.fails(build(items))
