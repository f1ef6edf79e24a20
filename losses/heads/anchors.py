"""Class scores and boxes that come with their anchors, or are of anchors that a criterion knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from losses.functional.numerics import check_shape
from losses.heads.levels import DensePredictions, Maps, flatten_levels, priors_per_cell
from matchers.geometry.boxes import check_boxes
from matchers.targets.targets import Targets
from ragged.values.checks import check_is_sequence
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


def in_unit_of_priors(targets: Targets, *, normalized: bool = False) -> Targets:
    """Targets as a matcher compares them with priors in pixels, or in fractions of the image.

    Raises:
        ValueError: The unit has to change, and there is no ``canvas_size``.
    """
    if targets.boxes is None or targets.normalized == normalized:
        return targets
    boxes = targets.boxes.create_with_sample_sizes_like_self(targets.boxes_as("xyxy", normalized=normalized))
    return replace(targets, boxes=boxes, box_format="xyxy", normalized=normalized)


def read_anchored(predictions: Any, known: Tensor | None, *, channels: int, name: str, who: str) -> DensePredictions:
    """Predictions of all levels side by side, as many in each cell as it has anchors.

    Args:
        predictions: ``(scores, boxes)`` or ``(scores, boxes, anchors)``; scores (B, A K, h, w) and boxes (B, 4 A, h, w)
            of each level, or (B, P, K) and (B, P, 4).
        known: Anchors that hold where none are given.
        channels: K.
        name: Of the scores, for messages.
        who: Reads them.

    Raises:
        TypeError, ValueError: Shapes, or numbers of anchors, that do not fit.
    """
    scores, boxes, anchors = with_anchors(predictions, known, who)
    check_boxes(anchors, "anchors")
    count = _num_per_cell(scores, anchors, name)
    return DensePredictions(
        logits=flatten_levels(scores, channels=channels, name=name, num_per_cell=count),
        deltas=flatten_levels(boxes, channels=4, name="boxes", num_per_cell=count),
        priors=anchors,
    )


def _num_per_cell(maps: Maps, anchors: Tensor, name: str) -> int:
    if isinstance(maps, Tensor):  # all levels together
        return 1
    check_is_sequence(maps, name, "maps, one for each level")
    cells = [each.shape[-2] * each.shape[-1] for each in maps if isinstance(each, Tensor) and each.dim() == 4]
    return priors_per_cell(anchors, sum(cells))
