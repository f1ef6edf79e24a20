"""Box losses and centerness, against plain floats and torch."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import generator
from reference import boxes as box_reference
from reference import loss_terms as reference
from torch import Tensor
from torch.nn import functional

from losses.functional.boxes import (
    centerness,
    centerness_of_points,
    ciou_loss,
    diou_loss,
    giou_loss,
    iou_loss,
    l1_loss,
    smooth_l1_loss,
)
from matchers.testing import make_boxes


def pairs(count: int = 60) -> tuple[Tensor, Tensor]:
    """Far, near and equal ones, some without area."""
    first = make_boxes(count, generator(0), degenerate=0.1).double()
    second = make_boxes(count, generator(1)).double()
    second[::3] = first[::3]
    second[1::3] = first[1::3] + torch.randn(len(first[1::3]), 4, generator=generator(2)).double()
    return first, second


@pytest.mark.parametrize(
    ("loss", "measure"),
    [
        (giou_loss, box_reference.giou),
        (diou_loss, box_reference.diou),
        (ciou_loss, box_reference.ciou),
        (iou_loss, box_reference.iou),
    ],
)
def test_one_minus_the_measure(loss: object, measure: object) -> None:
    assert callable(loss) and callable(measure)
    first, second = pairs()
    expected = 1 - box_reference.table(measure, first, second).diagonal()
    # The limit of what counts as an area, or a side, differs by a little.
    torch.testing.assert_close(loss(first, second), expected, rtol=1e-9, atol=1e-6 if loss is ciou_loss else 1e-9)
    for k in range(3):
        torch.testing.assert_close(loss(first[k], second), loss(first[k].expand_as(second), second))


def test_modes_of_iou() -> None:
    first, second = pairs()
    overlap = [box_reference.iou(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    squared, logarithm = [1 - o * o for o in overlap], [-math.log(max(o, 1e-6)) for o in overlap]
    torch.testing.assert_close(iou_loss(first, second, mode="square").tolist(), squared, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(iou_loss(first, second, mode="log").tolist(), logarithm, rtol=1e-9, atol=1e-9)
    apart = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[5.0, 5.0, 6.0, 6.0]])
    torch.testing.assert_close(iou_loss(*apart, mode="log", eps=1e-3).item(), -math.log(1e-3), rtol=1e-6, atol=0)


def test_trade_off_of_ciou() -> None:
    first, second = (each[1::3].clone().requires_grad_() for each in pairs())
    cut, whole = ciou_loss(first, second), ciou_loss(first, second, detach_trade_off=False)
    torch.testing.assert_close(cut, whole)
    gradients = [torch.autograd.grad(each.sum(), first, retain_graph=True)[0] for each in (cut, whole)]
    assert not torch.allclose(*gradients)


def test_every_loss_pulls_boxes_together() -> None:
    """In particular from afar, where the square of a GIoU would push."""
    target = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    for loss in (giou_loss, diou_loss, ciou_loss):
        for shift in (1.0, 8.0, 20.0, 100.0):
            box = (target + torch.tensor([shift, 0.0, shift, 0.0])).requires_grad_()
            (gradient,) = torch.autograd.grad(loss(box, target).sum(), box)
            assert gradient[0, 0] + gradient[0, 2] > 0, (loss, shift)


@pytest.mark.parametrize("beta", [0.0, 0.11, 1.0, 3.0])
def test_distances_agree_with_torch(beta: float) -> None:
    first, second = pairs()
    computed = smooth_l1_loss(first, second, beta=beta)
    torch.testing.assert_close(computed, functional.smooth_l1_loss(first, second, reduction="none", beta=beta))
    torch.testing.assert_close(l1_loss(first, second), functional.l1_loss(first, second, reduction="none"))
    if beta:
        expected = reference.of_elements(lambda x, t: reference.smooth_l1(x, t, beta=beta), first, second)
        torch.testing.assert_close(computed, expected)
    else:
        torch.testing.assert_close(computed, l1_loss(first, second))


def test_shapes_and_dtypes_meet() -> None:
    first, second = pairs()
    for loss in (l1_loss, smooth_l1_loss):
        computed = loss(first[0].half(), second)
        assert computed.shape == second.shape and computed.dtype == torch.float64
        torch.testing.assert_close(computed, loss(first[0].half().double().expand_as(second), second))
        assert loss(first.bfloat16(), second.half()).dtype == torch.float32


def test_centerness() -> None:
    distances = (torch.rand(50, 4, generator=generator(3), dtype=torch.float64) - 0.1) * 30
    expected = reference.of_rows(lambda row: reference.centerness(*row), distances)
    torch.testing.assert_close(centerness(distances), expected, rtol=1e-10, atol=1e-12)
    assert expected.eq(0).any() and expected.gt(0.5).any()
    assert centerness(distances.half()).dtype == torch.float32
    assert not centerness(distances.requires_grad_()).requires_grad
    assert centerness(torch.zeros(0, 4)).shape == (0,)


def test_centerness_at_the_extremes() -> None:
    inf, tiny = math.inf, 1e-30
    for row, value in (
        ([0, 0, 0, 0], 0),
        ([0, 1, 5, 1], 0),
        ([-5, -5, -5, -5], 0),
        ([1e38, 1e38, 1e38, 1e38], 1),
        ([inf, inf, inf, inf], 1),
        ([1, 1, inf, 1], 0),
        ([tiny, tiny, tiny, tiny], 1),
        ([tiny, tiny, 1, 1], 1e-30),
    ):
        assert centerness(torch.tensor(row, dtype=torch.float32)).item() == pytest.approx(value, rel=1e-5, abs=1e-18), (
            row
        )
    # The product of both shares is no float any more, its root is.
    assert centerness(torch.tensor([tiny, tiny, 1.0, 1.0])).item() == pytest.approx(1e-30, rel=1e-5, abs=0)
    assert centerness(torch.tensor([1.0, math.nan, 1.0, 1.0])).isnan()


def test_centerness_of_points() -> None:
    boxes = make_boxes(7, generator(4)).double()
    points = torch.rand(11, 2, generator=generator(5), dtype=torch.float64) * 40
    expected = [
        [reference.centerness(x - a, y - b, c - x, d - y) for a, b, c, d in boxes.tolist()] for x, y in points.tolist()
    ]
    computed = centerness_of_points(points.unsqueeze(1), boxes)
    torch.testing.assert_close(computed, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    assert centerness_of_points(points[0].half(), boxes[0].half()).dtype == torch.float32


def test_bad_input() -> None:
    boxes = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="mode must be one of 'linear', 'square', 'log', got 'cubic'"):
        iou_loss(boxes, boxes, mode="cubic")
    with pytest.raises(ValueError, match="eps must lie between 0 and 1, got 0"):
        iou_loss(boxes, boxes, mode="log", eps=0)
    for loss in (iou_loss, giou_loss, diou_loss, ciou_loss):
        with pytest.raises(ValueError, match=r"target must have shape \(…, 4\), got \(3, 5\)"):
            loss(boxes, torch.zeros(3, 5))
        with pytest.raises(
            ValueError, match=r"pred and target must have shapes that broadcast, got \(3, 4\) and \(2, 4\)"
        ):
            loss(boxes, torch.zeros(2, 4))
    for loss in (l1_loss, smooth_l1_loss):
        with pytest.raises(ValueError, match=r"that broadcast, got \(3, 4\) and \(3, 5\)"):
            loss(boxes, torch.zeros(3, 5))
        with pytest.raises(TypeError, match="target must have a floating dtype, got torch.int64"):
            loss(boxes, torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="beta must not be negative"):
        smooth_l1_loss(boxes, boxes, beta=-1)
    with pytest.raises(ValueError, match=r"distances must have shape \(…, 4\)"):
        centerness(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"points must have shape \(…, 2\), got \(3, 4\)"):
        centerness_of_points(boxes, boxes)
