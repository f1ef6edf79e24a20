"""The smallest part of something that still shows a problem."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 3.0
"""How long a counterexample is made smaller, at most."""


class Shrinker:
    """Takes parts away as long as what remains fails.

    Args:
        fails: Whether a smaller thing still shows the problem.
        seconds: After so long, what was found by then has to do.
    """

    def __init__(self, fails: Callable[[Any], bool], seconds: float = SECONDS) -> None:
        self.fails, self.until = fails, time.monotonic() + seconds

    def fewest(self, items: Sequence[T], least: int, build: Callable[[list[T]], Any]) -> list[T]:
        """As few of the items, in their order, as suffice: ``build`` makes of them what is to fail."""
        kept = list(items)
        size = max(len(kept) - least, 0)
        while size and time.monotonic() < self.until:
            start = 0
            while start < len(kept) and time.monotonic() < self.until:
                fewer = kept[:start] + kept[start + size :]
                if len(fewer) >= least and len(fewer) < len(kept) and self.fails(build(fewer)):
                    kept = fewer
                else:
                    start += size
            size //= 2
        return kept
