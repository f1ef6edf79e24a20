"""Coders of boxes relative to points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from losses.coders.boxes import NO_SIDE, CanvasSize, clip_to_canvas, from_relative, inputs, relative_to
from matchers.geometry.boxes import convert
from ragged.interop.operands import method_takes_batches
from ragged.values.checks import check_all_positive, check_flag
from ragged.values.once import known_row, of_constant


@dataclass(frozen=True, kw_only=True)
class DistanceCoder:
    """Distances from a point to the left, upper, right and lower side of a box.

    ``l = px - x1``, ``t = py - y1``, ``r = x2 - px``, ``b = y2 - py``. Boxes are xyxy, in the unit of the points, and
    so are the distances, unless ``scale_by_stride``.

    Args:
        scale_by_stride: Whether distances are in strides of the point's level; then ``priors`` must be ``grid_points``
            (…, 4).
        max_distance: If given, encoded distances are clamped to ``0 … max_distance``, in the unit of the distances;
            ``decode`` does not clamp.

    Source: Tian et al., FCOS, 2019, equation 1.

    >>> from losses.coders.points import DistanceCoder
    >>> point, box = torch.tensor([8.0, 8.0, 4.0, 4.0]), torch.tensor([0.0, 4.0, 10.0, 16.0])
    >>> DistanceCoder().encode(point, box), DistanceCoder(scale_by_stride=True).encode(point, box)
    (tensor([8., 4., 2., 8.]), tensor([2.0000, 1.0000, 0.5000, 2.0000]))
    """

    scale_by_stride: bool = False
    max_distance: float | None = None

    def __post_init__(self) -> None:
        check_flag(self.scale_by_stride, "scale_by_stride")
        if self.max_distance is not None:
            check_all_positive((self.max_distance,), "max_distance")

    @method_takes_batches(priors=1, boxes=1)
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Distances (…, 4), in the order ltrb, of xyxy ``boxes`` (…, 4).

        Args:
            priors: Points (…, 2) or ``grid_points`` (…, 4): x, y and, in the latter, the strides.
            boxes: As above. A point outside its box has a negative distance, unless ``max_distance`` is given.
        """
        priors, boxes = inputs(priors, boxes, "boxes", points=True)
        sides = boxes.unflatten(-1, (2, 2)) - priors[..., :2].unsqueeze(-2)
        distances = sides / _steps(priors) if self.scale_by_stride else sides * _directions(boxes)
        distances = distances.flatten(-2)
        return distances if self.max_distance is None else distances.clamp(0, self.max_distance)

    @method_takes_batches(priors=1, deltas=1)
    def decode(self, priors: Tensor, deltas: Tensor, *, canvas_size: CanvasSize | None = None) -> Tensor:
        """Boxes (…, 4), xyxy, from distances ``deltas`` (…, 4), ltrb, cut off at the border of ``canvas_size``."""
        priors, distances = inputs(priors, deltas, "deltas", points=True)
        corners, point = distances.unflatten(-1, (2, 2)), priors[..., :2].unsqueeze(-2)
        step = _steps(priors) if self.scale_by_stride else _directions(corners)
        return clip_to_canvas(torch.addcmul(point, corners, step).flatten(-2), canvas_size)


@dataclass(frozen=True, kw_only=True)
class CenterLogSizeCoder:
    """The coder of YOLOX: centre offsets from the point in strides, and the log of the size in strides.

    ``dx = (x - px) / sx``, ``dy = (y - py) / sy``, ``dw = log(w / sx)``, ``dh = log(h / sy)``. Priors are
    ``grid_points``, in pixels; YOLOX uses ``grid_points(…, offset=0)``. Boxes are xyxy, in pixels.

    Source: Ge et al., YOLOX, 2021.

    >>> from losses.coders.points import CenterLogSizeCoder
    >>> CenterLogSizeCoder().decode(torch.tensor([16.0, 8.0, 8.0, 8.0]), torch.tensor([0.5, 0.5, 0.0, 0.0]))
    tensor([16.,  8., 24., 16.])
    """

    @method_takes_batches(priors=1, boxes=1)
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Deltas (…, 4) of xyxy ``boxes`` (…, 4) relative to grid points ``priors`` (…, 4)."""
        priors, boxes = inputs(priors, boxes, "boxes")
        return relative_to(priors, convert(boxes, "xyxy", "cxcywh"))

    @method_takes_batches(priors=1, deltas=1)
    def decode(self, priors: Tensor, deltas: Tensor, *, canvas_size: CanvasSize | None = None) -> Tensor:
        """Boxes (…, 4), xyxy, from ``deltas`` relative to grid points, cut off at the border of ``canvas_size``."""
        priors, deltas = inputs(priors, deltas, "deltas")
        return clip_to_canvas(convert(from_relative(priors, deltas, None), "cxcywh", "xyxy"), canvas_size)


def _directions(like: Tensor) -> Tensor:
    """Of the left and upper, and of the right and lower sides, (2, 1)."""
    return known_row((-1.0, 1.0), like).unsqueeze(-1)


def _steps(priors: Tensor) -> Tensor:
    """The strides, by the directions of the sides, (…, 2, 2)."""
    if priors.shape[-1] != 4:
        raise ValueError(f"distances in strides need grid points (…, 4), x, y and strides, got {tuple(priors.shape)}")
    return of_constant(priors, "steps", lambda: _made_steps(priors))


def _made_steps(priors: Tensor) -> Tensor:
    return priors[..., None, 2:].clamp(min=NO_SIDE) * _directions(priors)
