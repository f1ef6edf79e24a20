"""Class scores and boxes that come with their anchors, or are of anchors that a criterion knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from losses.functional.numerics import check_shape
from matchers.geometry.boxes import check_boxes
from ragged.values.keys import KnownKeys


def check_anchors(anchors: Tensor | None, name: str = "anchors", of: str = "boxes of all cells") -> None:
    """Raise unless these are boxes (P, 4), or None."""
    if anchors is not None:
        check_boxes(anchors, name)
        check_shape(anchors, (len(anchors), 4), name, of)


def entries_of(outputs: Any, keys: KnownKeys, *, needed: int) -> Any:
    """The entries of a head that gives a dict, in the order of its keys; what is no dict is given back.

    Args:
        outputs: Of the head.
        keys: Those that are read.
        needed: How many of them, the first ones, there must be.

    Raises:
        KeyError: A key is missing, or nobody reads it.
    """
    if not isinstance(outputs, Mapping):
        return outputs
    keys.check(outputs, "the outputs of the head")
    missing = [key for key in keys.read[:needed] if outputs.get(key) is None]
    if missing:
        raise KeyError(f"the outputs of the head must have {missing[0]!r}, got {list(outputs)}")
    return [outputs[key] for key in keys.read if outputs.get(key) is not None]


def with_anchors(predictions: Any, known: Tensor | None, who: str) -> tuple[Any, Any, Tensor]:
    """Class scores, boxes and anchors, of ``(scores, boxes)`` or ``(scores, boxes, anchors)``.

    Args:
        predictions: What a head gives.
        known: Anchors that hold where none are given.
        who: Needs them.

    Raises:
        TypeError: It is no sequence of two or three.
        ValueError: There are no anchors.
    """
    if not isinstance(predictions, Sequence) or len(predictions) not in (2, 3):
        got = f"{len(predictions)} entries" if isinstance(predictions, Sequence) else type(predictions).__name__
        raise TypeError(f"predictions must be (class scores, boxes) or (class scores, boxes, anchors); got {got}")
    scores, boxes, *given = predictions
    anchors = given[0] if given else known
    if anchors is None:
        raise ValueError(f"{who} needs anchors: give them to it, or with the predictions")
    return scores, boxes, anchors
