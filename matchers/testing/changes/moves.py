"""Boxes, points and canvas exchanged, mirrored, shifted and scaled together; boxes in other formats and units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matchers.geometry.boxes import convert, denormalize, normalize
from matchers.targets.targets import Targets

FORMATS = ("xyxy", "cxcywh", "xywh")


@dataclass(frozen=True)
class Move:
    """What happens to x, and with ``swap`` to x and y: mirrored, shifted by pixels, scaled, in this order.

    All numbers are powers of two, so that nothing is rounded in float32 and ties stay what they are.
    """

    swap: bool = False
    mirror: bool = False
    shift: float = 0.0
    scale: float = 1.0

    def canvas(self, size: Tensor) -> Tensor:
        """Height and width ``(…, 2)``."""
        return (size.flip(-1) if self.swap else size) * self.scale

    def boxes(self, xyxy: Tensor, size: Tensor) -> Tensor:
        """xyxy boxes ``(…, 4)`` in pixels of images of height and width ``(…, 2)``, which broadcast."""
        x1, y1, x2, y2 = xyxy.unbind(-1)
        width = size[..., 1].to(xyxy)
        if self.mirror:
            x1, x2 = width - x2, width - x1
        x1, x2 = x1 + self.shift, x2 + self.shift
        sides = (y1, x1, y2, x2) if self.swap else (x1, y1, x2, y2)
        return torch.stack(sides, -1) * self.scale

    def priors(self, priors: Tensor, size: Tensor) -> Tensor:
        """Boxes, or points with whatever stands behind x and y; strides are exchanged and scaled, too."""
        if are_boxes(priors):
            return torch.cat([self.boxes(priors[..., :4], size), priors[..., 4:]], -1)
        x, y = priors[..., 0], priors[..., 1]
        x = (size[..., 1].to(x) - x if self.mirror else x) + self.shift
        rest = list(priors[..., 2:].unbind(-1))
        if self.swap:
            x, y = y, x
            rest[:2] = rest[:2][::-1]
        return torch.stack([x, y, *rest], -1) * self.scale


MOVES: Mapping[str, tuple[Move, str]] = {
    "axes": (Move(swap=True), "x and y of boxes, priors and canvas exchanged"),
    "mirror": (Move(mirror=True), "boxes and priors mirrored left to right"),
    "shift": (Move(shift=8.0), "boxes and priors 8 pixels to the right"),
    "scale": (Move(scale=2.0), "boxes, priors and canvas twice as large"),
}
"""By the names of the properties, and in words."""


def are_boxes(priors: Tensor) -> bool:
    """Whether priors are xyxy boxes, not points."""
    return priors.shape[-1] >= 4 and bool((priors[..., 2:4] > priors[..., :2]).all())


def canvas_of(targets: Targets, otherwise: float) -> Tensor:
    """``(B, 2)``, heights and widths."""
    if targets.canvas_size is not None:
        return targets.canvas_size.to(torch.float32)
    return torch.full((*targets.batch_shape, 2), otherwise)


def moved_boxes(boxes: Tensor, move: Move, box_format: str, normalized: bool, canvas: Tensor) -> Tensor:
    """Boxes ``(B, N, 4)`` of that format and unit after the move; so is what comes back."""
    corners = convert(denormalize(boxes, canvas.to(boxes)) if normalized else boxes, box_format, "xyxy")
    found = convert(move.boxes(corners, canvas.unsqueeze(-2)), "xyxy", box_format)
    return normalize(found, move.canvas(canvas).to(boxes)) if normalized else found


def moved_targets(targets: Targets, move: Move, canvas: Tensor) -> Targets:
    """Targets after the move, which know the size of their images."""
    boxes = targets.boxes.apply(
        lambda tensor: moved_boxes(tensor, move, targets.box_format, targets.normalized, canvas)
    )
    return replace(targets, boxes=boxes, canvas_size=move.canvas(canvas))


def boxes_in(boxes: Tensor, source: tuple[str, bool], to: tuple[str, bool], canvas: Tensor) -> Tensor:
    """Boxes ``(B, N, 4)`` of one format and unit (whether normalised) in another."""
    if source[1] and not to[1]:
        boxes = denormalize(boxes, canvas.to(boxes))
    boxes = convert(boxes, source[0], to[0])
    return normalize(boxes, canvas.to(boxes)) if to[1] and not source[1] else boxes


def targets_in(targets: Targets, box_format: str, normalized: bool, canvas: Tensor) -> Targets:
    """The same targets in another format and unit."""
    source, to = (targets.box_format, targets.normalized), (box_format, normalized)
    boxes = targets.boxes.apply(lambda tensor: boxes_in(tensor, source, to, canvas))
    return replace(targets, boxes=boxes, box_format=box_format, normalized=normalized, canvas_size=canvas)


def corner_box(targets: Targets, canvas: Tensor) -> Tensor:
    """``(B, 4)`` in format and unit of the targets: a box of an eighth of a pixel, in the last corner of each image."""
    high = canvas.flip(-1) - 0.125
    own = (targets.box_format, targets.normalized)
    return boxes_in(torch.cat([high - 0.125, high], -1).unsqueeze(-2), ("xyxy", False), own, canvas).squeeze(-2)


def cover_box(targets: Targets, canvas: Tensor) -> Tensor:
    """``(B, 4)`` in format and unit of the targets: a box that covers each image, and an eighth around it."""
    high = canvas.flip(-1)
    own = (targets.box_format, targets.normalized)
    return boxes_in(torch.cat([-high / 8, 9 * high / 8], -1).unsqueeze(-2), ("xyxy", False), own, canvas).squeeze(-2)
