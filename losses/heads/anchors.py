"""Class scores and boxes that come with their anchors, or are of anchors that a criterion knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from losses.functional.numerics import check_shape
from matchers.geometry.boxes import check_boxes


def check_anchors(anchors: Tensor | None, name: str = "anchors", of: str = "boxes of all cells") -> None:
    """Raise unless these are boxes (P, 4), or None."""
    if anchors is not None:
        check_boxes(anchors, name)
        check_shape(anchors, (len(anchors), 4), name, of)


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
