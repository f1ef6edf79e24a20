"""Areas and overlaps of boxes: the IoU family.

Every measure takes boxes ``(…, 4)`` whose leading dimensions broadcast, so that the same function serves paired calls
(``(N, 4)`` with ``(N, 4)``) and pairwise ones (``(G, 1, 4)`` with ``(P, 4)``). All are total: degenerate, inverted and
infinite boxes have finite values and gradients; a NaN coordinate makes a NaN, which is for the caller to see. Half
precision is computed, and returned, in float32: the area of a 640-pixel box does not fit float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from matchers.geometry import paired
from matchers.geometry.boxes import NO_AREA, NO_REST, NO_SIDE, Coordinates, aligned, check_boxes, coordinates, product
from ragged.interop.operands import takes_batches, takes_batches_of_pairs
from ragged.values.checks import check_broadcast, check_flag, check_is_callable, check_same_device

_Boxes = Tensor | Coordinates
_Plain = Callable[[Coordinates, Coordinates], tuple[Tensor, Tensor]]


@takes_batches(boxes=1)
def area(boxes: Tensor | Coordinates) -> Tensor:
    """Areas ``(…)`` of xyxy boxes ``(…, 4)``; 0 for an inverted box.

    >>> area(torch.tensor([[0.0, 0.0, 2.0, 3.0], [2.0, 0.0, 1.0, 9.0]]))
    tensor([6., 0.])
    """
    return coordinates(boxes).area


@takes_batches(first=1, second=1)
def iou(first: Tensor | Coordinates, second: Tensor | Coordinates) -> Tensor:
    """Intersection over union, in [0, 1], of xyxy boxes ``(…, 4)`` that broadcast; 0 where the union has no area.

    >>> iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]]))
    tensor([0.3333, 0.0000])
    """
    return _measured(paired.iou, _iou, first, second)[0]


@takes_batches(first=1, second=1)
def iof(first: Tensor | Coordinates, second: Tensor | Coordinates) -> Tensor:
    """Intersection over the area of ``first`` (the foreground), in [0, 1]; otherwise as ``iou``.

    >>> iof(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 9.0, 9.0]))
    tensor(0.5000)
    """
    a, b = _pair(first, second)
    return _ratio(product(_shared(a, b).clamp(min=0)), a.area)


@takes_batches(first=1, second=1)
def giou(first: Tensor | Coordinates, second: Tensor | Coordinates) -> Tensor:
    """Generalised IoU, in [-1, 1], of xyxy boxes that broadcast.

    ``IoU - (hull - union) / hull`` with the smallest box around both (Rezatofighi et al., 2019).

    >>> giou(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([2.0, 0.0, 3.0, 1.0]))
    tensor(-0.3333)
    """
    return _measured(paired.giou, _giou, first, second)[0]


def giou_and_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both of paired boxes ``(…, 4)``, computed together; the IoU is a constant.

    >>> giou_and_iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 3.0, 2.0]))
    (tensor(0.3333), tensor(0.3333))
    """
    return _measured(paired.giou, _giou, first, second)


@takes_batches(first=1, second=1)
def diou(first: Tensor | Coordinates, second: Tensor | Coordinates) -> Tensor:
    """Distance IoU, in [-1, 1], of xyxy boxes that broadcast.

    ``IoU - d² / c²``: distance of the centres over the diagonal of the hull (Zheng et al., 2020).

    >>> diou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([2.0, 0.0, 4.0, 2.0]))
    tensor(-0.2000)
    """
    return _measured(paired.diou, _diou, first, second)[0]


@takes_batches(first=1, second=1)
def ciou(first: Tensor | Coordinates, second: Tensor | Coordinates, *, detach_trade_off: bool = True) -> Tensor:
    """Complete IoU of xyxy boxes that broadcast.

    ``DIoU - alpha v`` with ``v = 4 / pi² (atan(w1 / h1) - atan(w2 / h2))²`` and ``alpha = v / (1 - IoU + v)``
    (Zheng et al., 2020).

    Args:
        first, second: ``(…, 4)``, xyxy.
        detach_trade_off: Whether alpha is a constant for the gradient, as in the paper.

    >>> ciou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([0.0, 0.0, 2.0, 2.0]))
    tensor(1.)
    """
    check_flag(detach_trade_off, "detach_trade_off")
    closed = partial(paired.ciou, detach_trade_off=detach_trade_off)
    return _measured(closed, partial(_ciou, detach_trade_off=detach_trade_off), first, second)[0]


@takes_batches_of_pairs(rows={"first": 1}, columns={"second": 1})
def pairwise(measure: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """``measure`` of every pair: boxes ``(*batch, N, 4)`` and ``(*batch, M, 4)`` give ``(*batch, N, M)``.

    >>> pairwise(iou, torch.rand(2, 3, 4), torch.rand(2, 5, 4)).shape
    torch.Size([2, 3, 5])
    """
    check_is_callable(measure, "measure")
    for boxes, name in ((first, "first"), (second, "second")):
        check_boxes(boxes, name)
        if boxes.dim() < 2:
            raise ValueError(f"{name} must have shape (*batch, N, 4), got {tuple(boxes.shape)}")
    check_broadcast(first.shape[:-2], second.shape[:-2], "the batch dimensions of first", "those of second")
    return measure(first.unsqueeze(-2), second.unsqueeze(-3))


def _measured(
    closed: Callable[[paired.Pair], paired.Slopes], plain: _Plain, first: _Boxes, second: _Boxes
) -> tuple[Tensor, Tensor]:
    """A measure and the IoU, which is a constant; with a closed form of the derivative where one is of use."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        check_boxes(first, "boxes")
        check_boxes(second, "boxes")
        if paired.has_closed_form(first, second):
            return paired.measured(first, second, closed, lambda first, second: plain(*_pair(first, second))[0])
    value, overlap = plain(*_pair(first, second))
    return value, overlap.detach()


def _iou(a: Coordinates, b: Coordinates) -> tuple[Tensor, Tensor]:
    overlap = _ratio(*_overlap(a, b, _shared(a, b)))
    return overlap, overlap


def _giou(a: Coordinates, b: Coordinates) -> tuple[Tensor, Tensor]:
    shared = _shared(a, b)
    intersection, union = _overlap(a, b, shared)
    # Never smaller than the union, which inverted boxes would make it.
    hull = torch.maximum(product(_hull(a, b, shared)), union)
    overlap = _ratio(intersection, union)
    return overlap - _ratio(hull - union, hull), overlap


def _diou(a: Coordinates, b: Coordinates) -> tuple[Tensor, Tensor]:
    shared = _shared(a, b)
    overlap = _ratio(*_overlap(a, b, shared))
    return torch.sub(overlap, _centre_distance(a, b, shared), alpha=0.25), overlap


def _ciou(a: Coordinates, b: Coordinates, *, detach_trade_off: bool) -> tuple[Tensor, Tensor]:
    value, overlap = _diou(a, b)
    v = (4 / math.pi**2) * (_aspect_angle(a) - _aspect_angle(b)) ** 2
    trade_off = v / (1 - overlap + v).clamp(min=NO_REST)
    if detach_trade_off:
        trade_off = trade_off.detach()
    return value - trade_off * v, overlap


def _pair(first: Tensor | Coordinates, second: Tensor | Coordinates) -> tuple[Coordinates, Coordinates]:
    """The coordinates of both, which must broadcast."""
    if isinstance(first, Tensor) and isinstance(second, Tensor) and _are_alike(first, second):
        return coordinates(torch.stack([first, second])).unbound()
    a, b = coordinates(first), coordinates(second)
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        check_same_device(second.device, first.device, name="the second boxes", reference="the first")
        check_broadcast(first.shape, second.shape, "boxes", "boxes")
    return aligned(a, b)


def _are_alike(first: Tensor, second: Tensor) -> bool:
    """Whether both can be computed in one tensor, of which no derivative has to be taken apart again."""
    if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
        return False
    return first.shape == second.shape and first.dtype == second.dtype and first.device == second.device


def _shared(a: Coordinates, b: Coordinates) -> Tensor:
    """Width and height of the intersection, (2, …); negative if there is a gap between the boxes."""
    return torch.minimum(a.high, b.high) - torch.maximum(a.low, b.low)


def _overlap(a: Coordinates, b: Coordinates, shared: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union."""
    intersection = product(shared.clamp(min=0))
    return intersection, a.area + b.area - intersection


def _hull(a: Coordinates, b: Coordinates, shared: Tensor) -> Tensor:
    """Width and height of the smallest box around both, (2, …): what they have, but for what they share."""
    return a.sides + b.sides - shared


def _centre_distance(a: Coordinates, b: Coordinates, shared: Tensor) -> Tensor:
    """Four times the square of the distance, in units of that of the hull's diagonal; a power of 2 is exact."""
    # Functions that round alike at every place in memory, so that equal targets tie: no lerp, no atan2.
    apart = _squared_length(a.low + a.high - b.low - b.high)
    # Only inverted boxes have centres farther apart than their hull is wide.
    return _ratio(apart, _squared_length(_hull(a, b, shared))).clamp(max=4)


def _squared_length(vector: Tensor) -> Tensor:
    across, down = (vector**2).unbind()
    return across + down


def _aspect_angle(a: Coordinates) -> Tensor:
    # The angle of a box without sides is that of a square, and its gradient is bounded.
    width, height = a.sides.clamp(min=NO_SIDE).unbind()
    return torch.atan(width / height)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    if whole.requires_grad:
        # The value is the same; but a share of nothing has no gradient, where 1 / NO_AREA would be a huge one.
        part = torch.where(whole > NO_AREA, part, part.detach())
    return part / whole.clamp(min=NO_AREA)
