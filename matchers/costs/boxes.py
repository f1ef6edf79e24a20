"""Costs of boxes and points."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.costs.checks import check_radius, checked_boxes, checked_points
from matchers.geometry.boxes import Coordinates, coordinates, with_more_dims
from matchers.geometry.overlaps import giou, iou, pairwise
from matchers.geometry.places import inside, near_center
from ragged.interop.operands import takes_batches_of_pairs
from ragged.values.checks import check_number
from ragged.values.precision import wide


@takes_batches_of_pairs(rows={"gt_boxes": 1}, columns={"boxes": 1})
@torch.no_grad()
def l1_cost(gt_boxes: Tensor, boxes: Tensor) -> Tensor:
    """Sum of the absolute differences of four coordinates, in the format and unit that both have.

    >>> l1_cost(torch.zeros(1, 4), torch.ones(2, 4))
    tensor([[4., 4.]])
    """
    gt = wide(checked_boxes(gt_boxes, boxes)).movedim(-1, 0).unsqueeze(-1)
    boxes = wide(boxes).movedim(-1, 0).unsqueeze(-2)
    cost = (gt[0] - boxes[0]).abs_()
    for mine, theirs in zip(gt[1:], boxes[1:], strict=True):
        cost += (mine - theirs).abs_()
    return cost


@takes_batches_of_pairs(rows={"gt_boxes": 1}, columns={"boxes": 1})
@torch.no_grad()
def iou_cost(gt_boxes: Tensor, boxes: Tensor) -> Tensor:
    """``1 - IoU`` of xyxy boxes ``(…, G, 4)`` and ``(…, P, 4)``.

    >>> iou_cost(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([[0.5000]])
    """
    return 1 - pairwise(iou, checked_boxes(gt_boxes, boxes), boxes)


@takes_batches_of_pairs(rows={"gt_boxes": 1}, columns={"boxes": 1})
@torch.no_grad()
def giou_cost(gt_boxes: Tensor, boxes: Tensor) -> Tensor:
    """``1 - GIoU`` of xyxy boxes ``(…, G, 4)`` and ``(…, P, 4)``.

    >>> giou_cost(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([[0.5000]])
    """
    return 1 - pairwise(giou, checked_boxes(gt_boxes, boxes), boxes)


@takes_batches_of_pairs(rows={"gt_boxes": 1}, columns={"points": 1})
def points_in_boxes(points: Tensor, gt_boxes: Tensor, *, margin: float = 0.0) -> Tensor:
    """Whether points ``(…, P, 2)`` lie inside xyxy boxes ``(…, G, 4)``: bool ``(…, G, P)``.

    Args:
        points: x and y.
        gt_boxes: xyxy.
        margin: Distance to every side that a point must exceed, in the unit of the boxes.

    >>> points_in_boxes(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
    tensor([[ True, False]])
    """
    gt = checked_points(points, gt_boxes)
    check_number(margin, "margin", low=None)
    return inside(*_both(points, gt), margin=margin)


@takes_batches_of_pairs(rows={"gt_boxes": 1}, columns={"points": 1, "radius": 0})
def points_near_centers(points: Tensor, gt_boxes: Tensor, radius: Tensor) -> Tensor:
    """Whether points ``(…, P, 2)`` lie, in x and y, strictly within ``radius`` (…, P) of a box's centre.

    >>> points_near_centers(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([1.5]))
    tensor([[True]])
    """
    gt = checked_points(points, gt_boxes)
    check_radius(radius, points, gt)
    return near_center(*_both(points, gt), radius.unsqueeze(-2))


def _both(points: Tensor, gt_boxes: Tensor) -> tuple[Tensor, Coordinates]:
    """Points (2, …, 1, P) and boxes (…, G, 1), of as many dimensions."""
    stacked, boxes = points.unsqueeze(-3).movedim(-1, 0), coordinates(gt_boxes.unsqueeze(-2))
    missing = boxes.area.dim() + 1 - stacked.dim()
    corners = with_more_dims(boxes.corners, -missing)
    return with_more_dims(stacked, missing), Coordinates(corners, boxes.area)
