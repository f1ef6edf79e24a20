"""Positions of points and boxes: inside of others, near their centres, distances."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.geometry.boxes import Coordinates, aligned

# Points are given by x and y, stacked, (2, …). With ``up_to``, these two are of all points from there up to there, and
# true if any of them may pass: a difference of rounded numbers never shrinks as the first of them grows.


def inside(points: Tensor, boxes: Coordinates, *, margin: float = 0.0, up_to: Tensor | None = None) -> Tensor:
    """Whether points lie inside boxes by more than ``margin``; everything broadcasts."""
    farthest = points if up_to is None else up_to
    within = torch.minimum(farthest - boxes.low, boxes.high - points)
    return torch.minimum(within[0], within[1]) > margin


def enlarged(boxes: Coordinates, min_side: float) -> Coordinates:
    """Boxes whose sides are ``min_side`` at least, around the same centres; their areas are those of before."""
    grow = (min_side - boxes.sides).clamp_(min=0)
    low, high = torch.sub(boxes.low, grow, alpha=0.5), torch.add(boxes.high, grow, alpha=0.5)
    return Coordinates(torch.cat([low, high]), boxes.area)


def near_center(points: Tensor, boxes: Coordinates, radius: Tensor | float, *, up_to: Tensor | None = None) -> Tensor:
    """Whether points lie, in x and y, strictly within ``radius`` of the centres of boxes; everything broadcasts."""
    away = _from_center(points, boxes)
    away = away.abs() if up_to is None else torch.maximum(away, -_from_center(up_to, boxes))
    return torch.maximum(away[0], away[1]) < radius


def squared_center_distance(points: Tensor, boxes: Coordinates) -> Tensor:
    """Squares of the distances of points ``(2, …)`` from the centres of boxes; everything broadcasts."""
    across, down = _from_center(points, boxes).square_()
    return across.add_(down)


def _from_center(points: Tensor, boxes: Coordinates) -> Tensor:
    """How far points are from the centres of boxes, in x and y; the half is exact."""
    return torch.sub(points, boxes.low + boxes.high, alpha=0.5)


def center_size_l1(first: Coordinates, second: Coordinates) -> Tensor:
    """L1 distance of boxes as centre and size, from their corners; everything broadcasts."""
    first, second = aligned(first, second)
    low, high = first.low - second.low, first.high - second.high
    # Per axis, the centres differ by half the sum of the corners' differences, the sizes by their difference.
    centre, size = (low + high).abs_(), high.sub_(low).abs_()
    return size[0].add_(size[1]).add_(centre[0].add_(centre[1]), alpha=0.5)
