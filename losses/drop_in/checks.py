"""What is asked of a criterion that takes the place of another loss."""

from __future__ import annotations

from typing import Any

from losses.core.criterion import Criterion


def check_mean(criterion: Any, kind: type[Criterion] | tuple[type[Criterion], ...], which: str) -> None:
    """Raise unless this is a criterion of some kind that gives one number for each term."""
    if not isinstance(criterion, kind):
        raise TypeError(f"criterion must be {which}, got {type(criterion).__name__}")
    if criterion.reduction not in ("mean", "sum"):
        raise ValueError(
            "criterion must give a number for each term: reduction must be 'mean' or 'sum', got "
            f"{criterion.reduction!r}"
        )
