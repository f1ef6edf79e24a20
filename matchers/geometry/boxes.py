"""Boxes: their formats and units.

Half precision is computed, and returned, in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.geometry.bounds import bounded_corners, can_be_written
from matchers.geometry.halves import mapped_halves
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_broadcast, check_is_tensor, check_one_of, check_same_device
from ragged.values.precision import wide


class Coordinates:
    """Corners and areas of boxes, coordinates first: for repeated comparison of pairs.

    Args:
        corners: ``(4, …)``: x1, y1, x2, y2. Both axes are computed at once: of ``low``, x1 and y1, and of ``high``, x2
            and y2, ``(2, …)`` each.
        area: ``(…)``; computed if it is not given.
    """

    __slots__ = ("_area", "_sides", "corners", "high", "low")

    def __init__(self, corners: Tensor, area: Tensor | None = None) -> None:
        self.corners = corners
        self.low, self.high = corners.split_with_sizes((2, 2))  # once: each view has its own derivative
        self._sides: Tensor | None = None
        self._area = area

    @classmethod
    def of_stacked(cls, stacked: Tensor) -> Coordinates:
        """From corners and areas in one tensor, ``(5, …)``."""
        return cls(stacked[:4], stacked[4])

    def stacked(self) -> Tensor:
        """Corners and areas in one tensor, ``(5, …)``."""
        return torch.cat([self.corners, self.area.unsqueeze(0)])

    def unbound(self) -> tuple[Coordinates, Coordinates]:
        """Split ``(2, …)`` into two ``Coordinates``."""
        first, second = (Coordinates(self.corners[:, at], self.area[at]) for at in (0, 1))
        return first, second

    @property
    def area(self) -> Tensor:
        """``(…)``; 0 of inverted boxes, unless it was given."""
        if self._area is None:
            self._area = product(self.sides.clamp(min=0))
        return self._area

    @property
    def sides(self) -> Tensor:
        """Width and height."""
        if self._sides is None:
            self._sides = self.high - self.low
        return self._sides

    @property
    def x1(self) -> Tensor:
        """The left side."""
        return self.corners[0]

    @property
    def y1(self) -> Tensor:
        """The upper side."""
        return self.corners[1]

    @property
    def x2(self) -> Tensor:
        """The right side."""
        return self.corners[2]

    @property
    def y2(self) -> Tensor:
        """The lower side."""
        return self.corners[3]


# An area, in any unit, below which a box or a union is a point or a line. The square of 1e-7 of an image is 1e-14.
NO_AREA = 1e-16
# A side below which the aspect ratio of a box means nothing.
NO_SIDE = 1e-7
# A part of 1 below which the trade-off of the complete IoU is not divided by it.
NO_REST = 1e-7


# Of both halves of a box, what the halves of the other format are.
_CONVERSIONS = {
    ("xyxy", "cxcywh"): ((0.5, 0.5), (-1.0, 1.0)),
    ("xyxy", "xywh"): ((1.0, 0.0), (-1.0, 1.0)),
    ("cxcywh", "xyxy"): ((1.0, -0.5), (1.0, 0.5)),
    ("cxcywh", "xywh"): ((1.0, -0.5), (0.0, 1.0)),
    ("xywh", "xyxy"): ((1.0, 0.0), (1.0, 1.0)),
    ("xywh", "cxcywh"): ((1.0, 0.5), (0.0, 1.0)),
}
FORMATS = ("xyxy", "cxcywh", "xywh")
"""Corners; centre and size; upper left corner and size."""


@takes_batches(boxes=1)
def convert(boxes: Tensor, source: str, to: str) -> Tensor:
    """Convert boxes ``(…, 4)`` between the formats ``"xyxy"``, ``"cxcywh"`` and ``"xywh"``.

    Raises:
        ValueError: An unknown format, or a last dimension other than 4.

    >>> convert(torch.tensor([1.0, 2.0, 5.0, 4.0]), "xyxy", "cxcywh")
    tensor([3., 3., 4., 2.])
    """
    check_format(source)
    check_format(to)
    check_boxes(boxes, "boxes")
    if source == to:
        return boxes
    return mapped_halves(boxes, _CONVERSIONS[source, to])


@takes_batches(boxes=1)
def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """``convert(boxes, "xyxy", "cxcywh")``.

    >>> xyxy_to_cxcywh(torch.tensor([1.0, 2.0, 5.0, 4.0]))
    tensor([3., 3., 4., 2.])
    """
    return convert(boxes, "xyxy", "cxcywh")


@takes_batches(boxes=1)
def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """``convert(boxes, "cxcywh", "xyxy")``.

    >>> cxcywh_to_xyxy(torch.tensor([3.0, 3.0, 4.0, 2.0]))
    tensor([1., 2., 5., 4.])
    """
    return convert(boxes, "cxcywh", "xyxy")


@takes_batches(boxes=1)
def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """``convert(boxes, "xyxy", "xywh")``.

    >>> xyxy_to_xywh(torch.tensor([1.0, 2.0, 5.0, 4.0]))
    tensor([1., 2., 4., 2.])
    """
    return convert(boxes, "xyxy", "xywh")


@takes_batches(boxes=1)
def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """``convert(boxes, "xywh", "xyxy")``.

    >>> xywh_to_xyxy(torch.tensor([1.0, 2.0, 4.0, 2.0]))
    tensor([1., 2., 5., 4.])
    """
    return convert(boxes, "xywh", "xyxy")


@takes_batches(boxes=1)
def xywh_to_cxcywh(boxes: Tensor) -> Tensor:
    """``convert(boxes, "xywh", "cxcywh")``.

    >>> xywh_to_cxcywh(torch.tensor([1.0, 2.0, 4.0, 2.0]))
    tensor([3., 3., 4., 2.])
    """
    return convert(boxes, "xywh", "cxcywh")


@takes_batches(boxes=1)
def cxcywh_to_xywh(boxes: Tensor) -> Tensor:
    """``convert(boxes, "cxcywh", "xywh")``.

    >>> cxcywh_to_xywh(torch.tensor([3.0, 3.0, 4.0, 2.0]))
    tensor([1., 2., 4., 2.])
    """
    return convert(boxes, "cxcywh", "xywh")


@takes_batches(boxes=1)
def normalize(boxes: Tensor, canvas_size: Tensor) -> Tensor:
    """Pixels to fractions of the image; any format.

    Args:
        boxes: ``(*batch, N, 4)`` in pixels.
        canvas_size: ``(*batch, 2)``, height and width of each image in pixels.

    >>> normalize(torch.tensor([[10.0, 10.0, 20.0, 40.0]]), torch.tensor([50.0, 100.0]))
    tensor([[0.1000, 0.2000, 0.2000, 0.8000]])
    """
    return boxes / _width_height_twice(boxes, canvas_size)


@takes_batches(boxes=1)
def denormalize(boxes: Tensor, canvas_size: Tensor) -> Tensor:
    """Fractions of the image to pixels; any format. The inverse of ``normalize``.

    >>> denormalize(torch.tensor([[0.1, 0.2, 0.2, 0.8]]), torch.tensor([50.0, 100.0]))
    tensor([[10., 10., 20., 40.]])
    """
    return boxes * _width_height_twice(boxes, canvas_size)


def check_format(name: str) -> None:
    """Raise ``ValueError`` unless ``name`` is a known box format."""
    check_one_of(name, FORMATS, "box format")


def check_boxes(boxes: Tensor, name: str) -> None:
    """Raise unless ``boxes`` is a floating tensor ``(…, 4)``."""
    check_is_tensor(boxes, name)
    if boxes.dim() == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} must have shape (…, 4), got {tuple(boxes.shape)}")
    if not boxes.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {boxes.dtype}; convert with .float()")


def coordinates(boxes: Tensor | Coordinates) -> Coordinates:
    """Corners and areas ``(…)`` of xyxy boxes ``(…, 4)``, contiguous, bounded and in float32 at least.

    >>> coordinates(torch.tensor([[0.0, 1.0, 2.0, 3.0]])).area
    tensor([4.])
    """
    if isinstance(boxes, Coordinates):
        return boxes
    return Coordinates(corners_of(boxes))


def corners_of(boxes: Tensor) -> Tensor:
    """The corners ``(4, …)`` of ``coordinates``."""
    check_boxes(boxes, "boxes")
    return bounded_corners(wide(boxes))


def stacked_coordinates(boxes: Tensor) -> Tensor:
    """``coordinates(boxes).stacked()``."""
    if not can_be_written(boxes):
        return coordinates(boxes).stacked()
    stacked = bounded_corners(wide(boxes), rows=5)
    torch.mul(*Coordinates(stacked[:4]).sides.clamp_(min=0), out=stacked[4])
    return stacked


def aligned(first: Coordinates, second: Coordinates) -> tuple[Coordinates, Coordinates]:
    """Both with as many dimensions, so that they broadcast though coordinates come first."""
    missing = second.area.dim() - first.area.dim()
    return (_with_more_dims(first, missing), second) if missing > 0 else (first, _with_more_dims(second, -missing))


def _with_more_dims(boxes: Coordinates, count: int) -> Coordinates:
    return Coordinates(with_more_dims(boxes.corners, count), boxes.area) if count else boxes


def with_more_dims(stacked: Tensor, count: int) -> Tensor:
    """Coordinates ``(K, …)`` with so many dimensions of size 1 behind the first."""
    return stacked.reshape(len(stacked), *(1,) * count, *stacked.shape[1:]) if count > 0 else stacked


def product(sides: Tensor) -> Tensor:
    """Width times height, of both ``(2, …)``."""
    width, height = sides.unbind()
    return width * height


def _width_height_twice(boxes: Tensor, canvas_size: Tensor) -> Tensor:
    check_boxes(boxes, "boxes")
    if not isinstance(canvas_size, Tensor) or canvas_size.dim() == 0 or canvas_size.shape[-1] != 2:
        got = tuple(canvas_size.shape) if isinstance(canvas_size, Tensor) else type(canvas_size).__name__
        raise ValueError(f"canvas_size must be a tensor of shape (*batch, 2), height and width, got {got}")
    check_is_tensor(canvas_size, "canvas_size")
    check_same_device(canvas_size.device, boxes.device, name="canvas_size", reference="boxes")
    if boxes.dim() > 1:
        check_broadcast(
            boxes.shape[:-2], canvas_size.shape[:-1], "the batch dimensions of boxes", "those of canvas_size"
        )
    size = canvas_size.to(boxes.dtype).flip(-1)
    return torch.cat([size, size], -1).unsqueeze(-2)


def in_unit(boxes: Tensor, is_normalized: bool, normalized: bool | None, canvas_size: Tensor | None) -> Tensor:
    """Boxes ``(*batch, N, 4)`` of any format in pixels or fractions, as asked for (None: as they are)."""
    if normalized is None or normalized == is_normalized:
        return boxes
    if canvas_size is None:
        have, need = ("fractions of the image", "pixels") if is_normalized else ("pixels", "fractions of the image")
        raise ValueError(f"boxes are {have}, but {need} are needed: give the targets a canvas_size (height, width)")
    return normalize(boxes, canvas_size) if normalized else denormalize(boxes, canvas_size)
