"""The class of the background among those of a softmax, and the labels of targets, which are never that."""

from __future__ import annotations

from matchers.targets.targets import Targets
from ragged.values.checks import check_values, sample_name

POSITIONS = ("first", "last", "none")
"""Of the background among the C classes. ``"first"``: labels of targets start at 1. ``"none"``: it is no class."""


def background_label(position: str, num_classes: int) -> int:
    """The label of the background, which is one of C classes; -1 if it is none.

    >>> from losses.core.background import background_label
    >>> background_label("last", 21)
    20
    """
    return {"first": 0, "last": num_classes - 1, "none": -1}[position]


def check_target_labels(targets: Targets, position: str, num_classes: int, who: str) -> None:
    """Raise ``ValueError``, naming the sample, unless each label is one of C classes, and not the background."""
    targets.check_labels(num_classes)
    background = background_label(position, num_classes)
    if targets.is_multi_hot:
        if background >= 0:
            raise ValueError(f"multi-hot labels need bg_class_position='none', got {position!r}")
        return
    labels = targets.labels.tensor
    check_values(
        labels != background,
        lambda at: (
            f"label {background} at position {at[-1]} of {sample_name(at[:-1])} is that of the background, the "
            f"{position} of {num_classes} classes; see bg_class_position"
        ),
        summary=f"{who}: the label of a target is that of the background",
        counts=targets.matchable,
    )
