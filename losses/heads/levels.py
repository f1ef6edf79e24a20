"""The maps of a dense head, level by level, as one tensor of predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder
from losses.functional.numerics import check_broadcasts, check_floating, check_shape
from matchers.geometry.maps import Stride, stride_pairs
from matchers.geometry.priors import known_points
from matchers.pairs.predictions import Predictions
from ragged.interop.registration import register_dataclass
from ragged.values.checks import (
    check_is_sequence,
    check_is_tensor,
    check_positive,
    check_same_device,
    check_weights,
    checked_sizes,
)
from ragged.values.precision import wide
from ragged.values.side_by_side import cells_side_by_side

# What a head with one class more than its criterion may have got wrong.
_ONE_TOO_MANY = "is one of them a background class that num_classes does not count?"

Maps = Sequence[Tensor] | Tensor
"""Of each level (B, A * K, h, w), with A predictions of K channels in a cell; or a tensor (B, P, K), all together."""


@dataclass(frozen=True, eq=False)
class DensePredictions:
    """The predictions of a dense head for B images, at P priors of all levels together.

    Args:
        logits: (B, P, C).
        deltas: (B, P, 4), boxes encoded by the head's coder.
        priors: (P, 4) or (B, P, 4), grid points or anchors.
        confidence: (B, P), logits of objectness or centerness, if the head has them.
        level_sizes: Number of priors of each level; None if unknown.
        class_mask: Which classes count, see ``with_class_mask``; None for all.

    >>> scores, distances = torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4, 4)
    >>> read = RTMDetCriterion(num_classes=3, strides=(8,)).read(([scores], [distances]))
    >>> read.logits.shape, read.priors.shape, read.level_sizes
    (torch.Size([1, 16, 3]), torch.Size([16, 4]), (16,))
    """

    logits: Tensor
    deltas: Tensor
    priors: Tensor
    confidence: Tensor | None = None
    level_sizes: tuple[int, ...] | None = None
    class_mask: Tensor | None = None

    def __post_init__(self) -> None:
        parts = [("class scores", self.logits), ("boxes", self.deltas)]
        if self.confidence is not None:
            parts.append(("confidences", self.confidence))
        for name, value in [*parts, ("priors", self.priors)]:
            check_floating(value, name)
        check_same_predictions(parts)
        check_same_device(self.priors.device, self.logits.device, name="priors", reference="class scores")
        shape = tuple(self.logits.shape[:2])
        if tuple(self.priors.shape[:-1]) not in (shape, shape[1:]):
            raise ValueError(f"priors must be for (B, P) = {shape}, or for {shape[1:]}, got {tuple(self.priors.shape)}")
        if self.level_sizes is not None and sum(checked_sizes(self.level_sizes, "level_sizes")) != shape[1]:
            raise ValueError(f"level_sizes must add up to the {shape[1]} predictions, got {self.level_sizes}")

    def with_class_mask(self, mask: Tensor) -> DensePredictions:
        """The same predictions, of which some classes do not count in some images.

        Args:
            mask: (B, C), or what broadcasts to (B, P, C), as booleans or weights.

        Raises:
            TypeError, ValueError: It is no tensor, does not broadcast, or a weight is negative or not finite.
        """
        check_is_tensor(mask, "valid_label_mask")
        if mask.dim() == 2:
            check_shape(mask, (self.logits.shape[0], self.logits.shape[-1]), "valid_label_mask", "(B, C)")
            mask = mask.unsqueeze(1)
        check_broadcasts(mask, self.logits.shape, "valid_label_mask", "the class scores (B, P, C)")
        check_same_device(mask.device, self.logits.device, name="valid_label_mask", reference="class scores")
        if mask.dtype != torch.bool:
            check_weights(mask, "valid_label_mask")
        return replace(self, class_mask=mask)

    def decoded(self, coder: BoxCoder) -> Predictions:
        """The predictions for a matcher: logits, and boxes as the coder decodes them, xyxy in pixels."""
        boxes = coder.decode(self.priors, wide(self.deltas))
        return Predictions(self.logits, boxes, box_format="xyxy", normalized=False)

    def need_confidence(self, who: str) -> Tensor:
        """The confidence (B, P), or a ``ValueError`` that says who needs it."""
        if self.confidence is None:
            raise ValueError(f"{who} needs a confidence (B, P), got predictions without it")
        return self.confidence


def flatten_levels(maps: Maps, *, channels: int, name: str, num_per_cell: int | Sequence[int] = 1) -> Tensor:
    """Predictions (B, P, K) of all levels, in the order of ``grid_points`` and ``anchors``.

    Args:
        maps: Maps (B, A * K, h, w) of each level; or a tensor (B, P, K), which is only checked.
        channels: K.
        name: Of the maps, for messages.
        num_per_cell: A: one number for all levels, or one for each.

    Raises:
        TypeError: A map is not a floating tensor.
        ValueError: A map has another number of channels or images, or there is no level.

    >>> flatten_levels([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)], channels=3, name="class scores").shape
    torch.Size([2, 20, 3])
    """
    if isinstance(maps, Tensor):
        check_floating(maps, name)
        if maps.dim() != 3 or maps.shape[-1] != channels:
            raise ValueError(f"{name} of all levels must have shape (B, P, {channels}), got {tuple(maps.shape)}")
        return maps
    if not isinstance(maps, Sequence) or not maps:
        raise ValueError(f"{name} must be a sequence of maps, one for each level, got {type(maps).__name__}")
    check_positive(channels, "channels")
    per_cell = list(checked_sizes(num_per_cell, "num_per_cell", lowest=1))
    per_cell = per_cell * len(maps) if isinstance(num_per_cell, (int, np.integer)) else per_cell
    if len(per_cell) != len(maps):
        raise ValueError(f"{name} must have {len(per_cell)} levels, got {len(maps)}")
    for level, (each, count) in enumerate(zip(maps, per_cell, strict=True)):
        _check_map(each, count * channels, f"{name} of level {level}", maps[0])
    if set(per_cell) == {1}:
        # Channels stay first in memory: nothing is copied but once, side by side.
        return cells_side_by_side(maps).mT
    cells = [
        each.flatten(2).unflatten(1, (count, channels)).permute(0, 3, 1, 2).flatten(1, 2)
        for each, count in zip(maps, per_cell, strict=True)
    ]
    return torch.cat(cells, 1)


def stacked_as_maps(first: Tensor, second: Tensor) -> Tensor:
    """Both ``(B, P, K)`` as ``(2, B, P, K)``, channels first in memory, as they are if they come from maps."""
    return torch.stack([first.mT, second.mT]).mT


def read_dense(
    predictions: Any,
    *,
    num_classes: int,
    strides: Sequence[Stride],
    priors: Callable[[Sequence[Tensor]], Tensor],
    confidence: str | None = None,
) -> DensePredictions:
    """The maps of a dense head, all levels side by side.

    Args:
        predictions: Class scores, boxes and, if there is one, a confidence, each a list with a map for each level; or
            ``DensePredictions``, which are only checked.
        num_classes: C.
        strides: Of the levels.
        priors: Makes the priors (P, 4) of maps of class scores: grid points, or anchors, as many for each cell.
        confidence: What the head calls its confidence.

    Raises:
        TypeError, ValueError: Numbers of levels, classes or priors, or shapes, that do not fit.
    """
    if isinstance(predictions, DensePredictions):
        if confidence is None and predictions.confidence is not None:
            raise ValueError("predictions have a confidence, which this criterion does not read; leave it out")
        return checked_classes(predictions, num_classes)
    names = ["class scores", "boxes"] + ([] if confidence is None else [confidence])
    scores, boxes, *others = level_maps(predictions, names, strides)
    own = priors(scores)
    cells = [each.shape[-2] * each.shape[-1] for each in scores]
    count = priors_per_cell(own, sum(cells))
    flat = [flatten_levels(each, channels=1, name=names[2], num_per_cell=count).squeeze(-1) for each in others]
    return DensePredictions(
        logits=flatten_levels(scores, channels=num_classes, name="class scores", num_per_cell=count),
        deltas=flatten_levels(boxes, channels=4, name="boxes", num_per_cell=count),
        priors=own,
        confidence=flat[0] if flat else None,
        level_sizes=tuple(count * each for each in cells),
    )


def points_of(maps: Sequence[Tensor], strides: Sequence[Stride]) -> Tensor:
    """Grid points (P, 4) in the upper left corners of the cells of these maps."""
    return known_points(image_size_of(maps, strides), strides, offset=0.0, device=maps[0].device)


def priors_per_cell(priors: Tensor, num_cells: int) -> int:
    """A, how many priors (P, 4) each cell has."""
    count, rest = divmod(len(priors), max(num_cells, 1))
    if rest or not count:
        raise ValueError(f"anchors must be as many for each of the {num_cells} cells, got {len(priors)} in all")
    return count


def checked_classes(predictions: DensePredictions, num_classes: int) -> DensePredictions:
    """Predictions that were read already; a ``ValueError`` unless they have so many classes."""
    shape = (*predictions.logits.shape[:2], num_classes)
    check_shape(predictions.logits, shape, "class scores", f"num_classes = {num_classes}")
    return predictions


def level_maps(predictions: Any, names: Sequence[str], strides: Sequence[Stride]) -> list[Sequence[Tensor]]:
    """The output of a head, as a list of maps for each of ``names``.

    Raises:
        TypeError: It is no sequence of sequences of tensors.
        ValueError: Numbers of levels differ from that of the strides, or maps of a level differ in size.
    """
    wanted = f"({', '.join(names)}), each a list with a map for each level"
    if not isinstance(predictions, Sequence) or len(predictions) != len(names):
        got = f"{len(predictions)} entries" if isinstance(predictions, Sequence) else type(predictions).__name__
        raise TypeError(f"predictions must be {wanted}; got {got}")
    for name, maps in zip(names, predictions, strict=True):
        strange = [each for each in maps if not isinstance(each, Tensor)] if isinstance(maps, Sequence) else [maps]
        if strange:
            where = "for" if strange[0] is maps else "in"
            raise TypeError(f"predictions must be {wanted}; got {type(strange[0]).__name__} {where} {name}")
        if len(maps) != len(strides):
            raise ValueError(f"{name} must have a map for each of the strides {tuple(strides)}, got {len(maps)}")
        for level, (each, first) in enumerate(zip(maps, predictions[0], strict=True)):
            if each.shape[-2:] != first.shape[-2:]:
                raise ValueError(
                    f"{name} of level {level} must have (h, w) = {tuple(first.shape[-2:])} like {names[0]}, "
                    f"got {tuple(each.shape[-2:])}; predictions are {wanted}, (B, channels, h, w)"
                )
    return list(predictions)


def image_size_of(maps: Sequence[Tensor], strides: Sequence[Stride]) -> tuple[int, int]:
    """Height and width of the smallest image with feature maps of these sizes, in pixels.

    Args:
        maps: Of each level, (…, h, w).
        strides: Of each level.

    Raises:
        ValueError: There is no such image, or the numbers of maps and strides differ.

    >>> image_size_of([torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 2, 4)], [8, 16])
    (25, 57)
    """
    check_is_sequence(maps, "maps", "tensors, one for each level")
    pairs = stride_pairs(strides)
    if len(maps) != len(pairs):
        raise ValueError(f"there are {len(strides)} strides {tuple(strides)}, but maps of {len(maps)} levels")
    for level, each in enumerate(maps):
        check_is_tensor(each, f"the map of level {level}")
        if each.dim() < 2:
            raise ValueError(f"the map of level {level} must have shape (…, h, w), got {tuple(each.shape)}")
    if not pairs:
        raise ValueError("an image needs maps of one level at least, got none")
    sides = []
    for axis in (0, 1):
        counts = [each.shape[axis - 2] for each in maps]
        steps = [pair[axis] for pair in pairs]
        # ceil(side / step) == count, for all levels at once.
        low = max((count - 1) * step + 1 for count, step in zip(counts, steps, strict=True))
        high = min(count * step for count, step in zip(counts, steps, strict=True))
        if low > high:
            got = [tuple(each.shape[-2:]) for each in maps]
            raise ValueError(
                f"no image has feature maps (h, w) of {got} at strides {tuple(strides)}; "
                "strides are those of the maps, in their order"
            )
        sides.append(low)
    return sides[0], sides[1]


def check_same_predictions(tensors: Sequence[tuple[str, Tensor]]) -> None:
    """Raise ``ValueError`` unless tensors (B, P, …), given with their names, agree in (B, P) and device."""
    first_name, first = tensors[0]
    for name, tensor in tensors[1:]:
        if tensor.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"{name} are for (B, P) = {tuple(tensor.shape[:2])}, {first_name} for {tuple(first.shape[:2])}"
            )
        check_same_device(tensor.device, first.device, name=name, reference=first_name)


def _check_map(each: Tensor, channels: int, name: str, first: Tensor) -> None:
    check_floating(each, name)
    if each.dim() != 4 or each.shape[1] != channels:
        advice = f"; {_ONE_TOO_MANY}" if each.dim() == 4 and each.shape[1] == channels + 1 else ""
        raise ValueError(f"{name} must have shape (B, {channels}, h, w), got {tuple(each.shape)}{advice}")
    check_same_device(each.device, first.device, name=name, reference="that of level 0")
    if each.shape[0] != first.shape[0]:
        raise ValueError(f"{name} is of {each.shape[0]} images, that of level 0 of {first.shape[0]}")


register_dataclass(DensePredictions, constants=("level_sizes",))
