"""Functions that bring their derivative along: it is that of the operations of torch, and so is its own derivative."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from losses.coders.boxes import DeltaXYWHCoder, SSDCoder
from losses.coders.points import CenterLogSizeCoder
from losses.functional import elementwise, numerics
from losses.functional.boxes import iou_loss
from ragged.values import side_by_side
from ragged.values.side_by_side import cells_side_by_side

PRIORS = torch.tensor([[1.0, 2.0, 5.0, 4.0], [3.0, 3.0, 9.0, 11.0], [0.0, 0.0, 2.0, 2.0]], dtype=torch.float64)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


SCORES = torch.linspace(0.05, 0.9, 6, dtype=torch.float64)
VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "quality focal": lambda x: elementwise.quality_focal(x, SCORES, beta=2.0),
    "focal": lambda x: elementwise.focal(x, None, alpha=0.25, gamma=2.0),
    "focal of 1.5": lambda x: elementwise.focal(x, None, alpha=None, gamma=1.5),
    "background": lambda x: numerics.background_loss(x, 2.0, scale=0.75),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    function, logits = VALUES[name], drawn(6)
    assert gradcheck(function, logits) and gradgradcheck(function, logits)
    value = function(logits)
    with mock.patch.object(numerics, "has_closed_form", return_value=False):
        expected = function(logits)
    torch.testing.assert_close(value, expected)
    slopes = (torch.autograd.grad(each.sum(), logits)[0] for each in (value, expected))
    torch.testing.assert_close(*slopes)


def test_a_constant_power_is_constant_in_the_closed_form() -> None:
    logits = drawn(6)
    found = numerics.background_loss(logits, 2.0, detach=True)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(slope, logits.detach().sigmoid() ** 3)


def test_square_of_the_overlap() -> None:
    boxes = (PRIORS + 0.3).requires_grad_()
    assert gradcheck(lambda x: iou_loss(x, PRIORS, mode="square"), boxes)
    assert gradgradcheck(lambda x: iou_loss(x, PRIORS, mode="square"), boxes)


@pytest.mark.parametrize("coder", [DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2)), SSDCoder(), CenterLogSizeCoder()])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_decoding(coder: DeltaXYWHCoder, shape: tuple[int, ...]) -> None:
    deltas = drawn(*shape)
    assert gradcheck(lambda x: coder.decode(PRIORS, x), deltas)
    assert gradgradcheck(lambda x: coder.decode(PRIORS, x), deltas)


def test_a_ratio_that_is_clipped_has_no_gradient() -> None:
    deltas = torch.tensor([[0.0, 0.0, 90.0, -90.0]], requires_grad=True)
    boxes = DeltaXYWHCoder().decode(PRIORS[:1].float(), deltas)
    (gradient,) = torch.autograd.grad(boxes.square().sum(), deltas)
    assert gradient[0, :2].ne(0).all() and gradient[0, 2:].eq(0).all()


def test_maps_of_levels() -> None:
    maps = drawn(2, 3, 4, 2), drawn(2, 3, 1, 1), drawn(2, 3, 0, 2)
    assert gradcheck(lambda *own: cells_side_by_side(own), maps)
    assert gradgradcheck(lambda *own: cells_side_by_side(own), maps)
    expected = torch.cat([each.flatten(2) for each in maps], -1)
    assert torch.equal(cells_side_by_side(maps), expected)
    gradients = torch.autograd.grad(cells_side_by_side(maps).square().sum(), maps)
    assert all(each.is_contiguous() for each in gradients)
    with mock.patch.object(side_by_side, "can_have_own_derivative", return_value=False):
        assert torch.equal(cells_side_by_side(maps), expected)
