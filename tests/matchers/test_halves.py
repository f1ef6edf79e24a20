"""Conversions of boxes by their halves, and the derivative that is the transposed map."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.testing import assert_close

from matchers import convert
from matchers.geometry.boxes import FORMATS
from matchers.geometry.halves import mapped_halves

FACTORS = [((0.5, 0.5), (-1.0, 1.0)), ((1.0, -0.5), (1.0, 0.5)), ((1.0, 0.0), (0.0, 1.0)), ((1.0, 0.5), (0.0, 1.0))]
every_map = pytest.mark.parametrize("factors", FACTORS, ids=str)


@every_map
@pytest.mark.parametrize("channels_first", [False, True])
def test_values_and_derivatives(factors: tuple[tuple[float, float], tuple[float, float]], channels_first: bool) -> None:
    boxes = torch.rand(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    boxes = boxes.mT.contiguous().mT if channels_first else boxes
    matrix = torch.tensor(factors, dtype=torch.float64)
    expected = torch.einsum("hk,...kc->...hc", matrix, boxes.unflatten(-1, (2, 2))).flatten(-2)
    assert_close(mapped_halves(boxes, factors), expected)
    assert_close(torch.func.vmap(lambda own: mapped_halves(own, factors))(boxes), expected)
    boxes.requires_grad_()
    assert_close(mapped_halves(boxes, factors), expected)
    assert torch.autograd.gradcheck(lambda own: mapped_halves(own, factors), boxes)
    assert torch.autograd.gradgradcheck(lambda own: mapped_halves(own, factors).square(), boxes)


@pytest.mark.parametrize(("source", "to"), list(itertools.permutations(FORMATS, 2)))
def test_gradients_of_conversions(source: str, to: str) -> None:
    boxes = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = torch.arange(12.0, dtype=torch.float64).view(3, 4)
    (found,) = torch.autograd.grad((convert(boxes, source, to) * weights).sum(), boxes)
    assert_close(found, torch.func.grad(lambda own: (convert(own, source, to) * weights).sum())(boxes.detach()))
    compiled = torch.compile(lambda own: convert(own, source, to), backend="aot_eager", fullgraph=True)
    assert_close(torch.autograd.grad((compiled(boxes) * weights).sum(), boxes)[0], found)
