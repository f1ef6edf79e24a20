"""Losses of boxes: the IoU family, and distances of coordinates.

Every loss compares each prediction with its own target: nothing is computed of pairs that are not asked for. Shapes
broadcast. Nothing is reduced, all is computed in float32 at least, and gradients flow into both sides. Every pair of
finite boxes has a finite loss and finite gradients, degenerate ones too; ``matchers.geometry.boxes`` does the geometry.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from losses.functional.numerics import check_floating, check_fraction, with_slope
from matchers.geometry.overlaps import ciou, diou, giou, iou
from ragged.interop.operands import takes_batches
from ragged.values.checks import check_broadcast, check_not_negative, check_one_of, check_same_device
from ragged.values.once import known_row
from ragged.values.precision import equally_wide, wide

MODES = ("linear", "square", "log")


@takes_batches(pred=1, target=1)
def iou_loss(pred: Tensor, target: Tensor, *, mode: str = "linear", eps: float = 1e-6) -> Tensor:
    """One minus the IoU: ``1 - IoU``, ``1 - IoU²`` (YOLOX, 2021) or ``-log IoU`` (Yu et al., UnitBox, 2016).

    Args:
        pred: ``(…, 4)``, xyxy.
        target: ``(…, 4)``, xyxy, in the same unit.
        mode: ``"linear"``, ``"square"`` or ``"log"``.
        eps: Lower bound of the IoU inside the logarithm; below it the gradient is 0.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    >>> iou_loss(*boxes), iou_loss(*boxes, mode="square"), iou_loss(*boxes, mode="log")
    (tensor([0.5000]), tensor([0.7500]), tensor([0.6931]))
    """
    check_one_of(mode, MODES, "mode")
    check_fraction(eps, "eps")
    _check_boxes(pred, target)
    overlap = iou(pred, target)
    if mode == "log":
        return -overlap.clamp(min=eps).log()
    if mode == "linear":
        return 1 - overlap
    return with_slope(lambda x: (1 - x.square(), -2 * x), lambda x: 1 - x**2, overlap)


@takes_batches(pred=1, target=1)
def giou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """``1 - GIoU``, in [0, 2], of xyxy boxes ``(…, 4)``: ``(…)`` (Rezatofighi et al., 2019).

    >>> giou_loss(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([2.0, 0.0, 3.0, 1.0]))
    tensor(1.3333)
    """
    _check_boxes(pred, target)
    return 1 - giou(pred, target)


@takes_batches(pred=1, target=1)
def diou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """``1 - DIoU``, in [0, 2], of xyxy boxes ``(…, 4)``: ``(…)`` (Zheng et al., 2020).

    >>> diou_loss(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([2.0, 0.0, 4.0, 2.0]))
    tensor(1.2000)
    """
    _check_boxes(pred, target)
    return 1 - diou(pred, target)


@takes_batches(pred=1, target=1)
def ciou_loss(pred: Tensor, target: Tensor, *, detach_trade_off: bool = True) -> Tensor:
    """``1 - CIoU`` of xyxy boxes ``(…, 4)``: ``(…)`` (Zheng et al., 2020).

    Args:
        pred, target: ``(…, 4)``, xyxy, in the same unit.
        detach_trade_off: Whether the weight of the aspect ratio is a constant for the gradient, as in the paper.

    >>> ciou_loss(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([2.0, 0.0, 4.0, 2.0]))
    tensor(1.2000)
    """
    _check_boxes(pred, target)
    return 1 - ciou(pred, target, detach_trade_off=detach_trade_off)


@takes_batches(pred=0, target=0)
def l1_loss(pred: Tensor, target: Tensor) -> Tensor:
    """``|x - t|`` of every element.

    Args:
        pred, target: Of shapes that broadcast; coordinates, in the same format and unit.

    Returns:
        Of the shape that both broadcast to.

    Raises:
        ValueError, TypeError: Shapes do not match, or a dtype is not floating.

    >>> l1_loss(torch.tensor([1.0, -2.0]), torch.zeros(2))
    tensor([1., 2.])
    """
    pred, target = _alike(pred, target)
    return (pred - target).abs()


@takes_batches(pred=0, target=0)
def smooth_l1_loss(pred: Tensor, target: Tensor, *, beta: float = 1.0) -> Tensor:
    """``d² / (2 beta)`` up to a distance ``d = |x - t|`` of beta, ``d - beta / 2`` beyond (Girshick, Fast R-CNN, 2015).

    Args:
        pred, target: Of shapes that broadcast; coordinates, in the same format and unit.
        beta: Where the parabola meets the line; 0 is the L1 loss.

    Returns:
        Of the shape that both broadcast to.

    Raises:
        ValueError, TypeError: Shapes do not match, a dtype is not floating, or a parameter is out of range.

    >>> smooth_l1_loss(torch.tensor([1.0, 3.0]), torch.zeros(2), beta=2.0)
    tensor([0.2500, 2.0000])
    """
    check_not_negative(beta, "beta")
    return functional.smooth_l1_loss(*_alike(pred, target), reduction="none", beta=beta)


@takes_batches(distances=1)
@torch.no_grad()
def centerness(distances: Tensor) -> Tensor:
    """The centerness of a point in a box, in [0, 1] (Tian et al., FCOS, 2019). A target: it has no gradient.

    ``sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b))``; 0 for a point outside.

    Args:
        distances: ``(…, 4)``, from the point to the left, top, right and bottom edge, in any unit.

    Returns:
        ``(…)``, float32 at least.

    Raises:
        ValueError, TypeError: Shapes do not match, or a dtype is not floating.

    >>> centerness(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 4.0, 2.0], [-1.0, 1.0, 3.0, 1.0]]))
    tensor([1.0000, 0.5000, 0.0000])
    """
    _check_last(distances, 4, "distances")
    bounds = torch.finfo(wide(distances).dtype)
    first, second = wide(distances).clamp(0, bounds.max).split(2, -1)
    # Each axis has a root of its own: their product may be too small for a float.
    shares = torch.minimum(first, second) / torch.maximum(first, second).clamp(min=bounds.tiny)
    return shares.sqrt().prod(-1)


@takes_batches(points=1, boxes=1)
@torch.no_grad()
def centerness_of_points(points: Tensor, boxes: Tensor) -> Tensor:
    """``centerness`` of points ``(…, 2)``, such as centres of anchors, in xyxy boxes ``(…, 4)``: ``(…)``.

    >>> centerness_of_points(torch.tensor([[1.0, 2.0], [9.0, 2.0]]), torch.tensor([[0.0, 0.0, 5.0, 4.0]]))
    tensor([0.5000, 0.0000])
    """
    _check_last(points, 2, "points")
    _check_last(boxes, 4, "boxes")
    check_same_device(boxes.device, points.device, name="boxes", reference="points")
    check_broadcast(points.shape[:-1], boxes.shape[:-1], "points without their coordinates", "boxes without theirs")
    points, boxes = wide(points), wide(boxes)
    apart = boxes.unflatten(-1, (2, 2)) - points.unsqueeze(-2)
    return centerness((apart * known_row((-1.0, 1.0), apart).unsqueeze(-1)).flatten(-2))


def _check_boxes(pred: Tensor, target: Tensor) -> None:
    for boxes, name in ((pred, "pred"), (target, "target")):
        _check_last(boxes, 4, name)
    _broadcast_shape(pred, target)


def _check_last(values: Tensor, size: int, name: str) -> None:
    check_floating(values, name)
    if values.dim() == 0 or values.shape[-1] != size:
        raise ValueError(f"{name} must have shape (…, {size}), got {tuple(values.shape)}")


def _alike(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one shape, and in one dtype, float32 at least."""
    check_floating(pred, "pred")
    check_floating(target, "target")
    check_same_device(target.device, pred.device, name="target", reference="pred")
    shape = _broadcast_shape(pred, target)
    pred, target = equally_wide(pred, target)
    return pred.expand(shape), target.expand(shape)


def _broadcast_shape(pred: Tensor, target: Tensor) -> torch.Size:
    if pred.shape == target.shape:  # the usual case; torch takes as long to see that as for the loss
        return pred.shape
    try:
        return torch.broadcast_shapes(pred.shape, target.shape)
    except RuntimeError:
        shapes = f"{tuple(pred.shape)} and {tuple(target.shape)}"
        raise ValueError(f"pred and target must have shapes that broadcast, got {shapes}") from None
