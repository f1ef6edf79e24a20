"""Where points and boxes lie: inside of others, near their centres, how far away."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.geometry.boxes import Coordinates, aligned

# With ``up_to``, these two are of all points from x, y up to there, and true if any of them may pass: a difference of
# rounded numbers never shrinks as the first of them grows.


def inside(
    x: Tensor, y: Tensor, boxes: Coordinates, *, margin: float = 0.0, up_to: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Whether points lie inside boxes by more than ``margin``; everything broadcasts."""
    right, bottom = up_to or (x, y)
    across, down = torch.minimum(right - boxes.x1, boxes.x2 - x), torch.minimum(bottom - boxes.y1, boxes.y2 - y)
    return torch.minimum(across, down) > margin


def enlarged(boxes: Coordinates, min_side: float) -> Coordinates:
    """Boxes whose sides are ``min_side`` at least, around the same centres; their areas are those of before."""
    grow = (min_side - boxes.sides).clamp_(min=0)
    low, high = torch.sub(boxes.low, grow, alpha=0.5), torch.add(boxes.high, grow, alpha=0.5)
    return Coordinates(torch.cat([low, high]), boxes.area)


def near_center(
    x: Tensor, y: Tensor, boxes: Coordinates, radius: Tensor | float, *, up_to: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Whether points lie, in x and y, strictly within ``radius`` of the centres of boxes; everything broadcasts."""
    right, bottom = up_to or (x, y)
    middle, half = (boxes.x1 + boxes.x2) / 2, (boxes.y1 + boxes.y2) / 2
    across, down = torch.maximum(x - middle, middle - right), torch.maximum(y - half, half - bottom)
    return torch.maximum(across, down) < radius


def squared_center_distance(x: Tensor, y: Tensor, boxes: Coordinates) -> Tensor:
    """Squares of the distances of points from the centres of boxes; everything broadcasts."""
    across, down = x - (boxes.x1 + boxes.x2) / 2, y - (boxes.y1 + boxes.y2) / 2
    return across.square_().add_(down.square_())


def center_size_l1(first: Coordinates, second: Coordinates) -> Tensor:
    """L1 distance of boxes as centre and size, from their corners; everything broadcasts."""
    first, second = aligned(first, second)
    low, high = first.low - second.low, first.high - second.high
    # Per axis, the centres differ by half the sum of the corners' differences, the sizes by their difference.
    centre, size = (low + high).abs_(), high.sub_(low).abs_()
    return (centre[0] + centre[1]).mul_(0.5).add_(size[0]).add_(size[1])
