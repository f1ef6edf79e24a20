"""Overlaps of paired boxes whose derivative is a closed form, against the same measures by operations of torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from matchers.geometry import paired
from matchers.geometry.overlaps import ciou, diou, giou, giou_and_iou, iou

Measure = Callable[[Tensor, Tensor], Tensor]

MEASURES: dict[str, Measure] = {
    "iou": iou,
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
    "ciou with its trade-off": partial(ciou, detach_trade_off=False),
}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def boxes(kind: str, count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(kind))
    first, second = torch.rand(2, count, 4, generator=generator, dtype=torch.float64) * 10
    if kind != "inverted":
        first, second = (torch.cat([each[:, :2].minimum(each[:, 2:]), each[:, :2].maximum(each[:, 2:])], -1)
                         for each in (first, second))  # fmt: skip
    if kind == "tied":
        first, second = first.round(), second.round()
        first[: count // 3] = second[: count // 3]
    if kind == "degenerate":
        first[: count // 3] = 0
        second[count // 4 : count // 2, 2:] = second[count // 4 : count // 2, :2]
        first[-5:, 0] = -torch.inf
        second[-9:, 3] = torch.inf
    return first, second


def by_operations(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> Measure:
    def call(first: Tensor, second: Tensor) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(paired, "has_closed_form", lambda *given: False)
            return measure(first, second)

    return call


@every_measure
@pytest.mark.parametrize("kind", ["valid", "inverted", "tied", "degenerate"])
def test_values_and_gradients(measure: Measure, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = boxes(kind)
    first.requires_grad_()
    found, expected = measure(first, second), by_operations(measure, monkeypatch)(first, second)
    assert type(found.grad_fn) is not type(expected.grad_fn)  # another way to the same
    assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(-1, 2, len(first), dtype=torch.float64)
    slopes = [torch.autograd.grad((each * weights).sum(), first)[0] for each in (found, expected)]
    assert_close(*slopes, rtol=1e-9, atol=1e-12)


# The trade-off of ``ciou`` is a constant: its derivative is none of its values.
@pytest.mark.parametrize("measure", [each for each in MEASURES.values() if each is not ciou])
def test_derivatives_of_both_orders(measure: Measure) -> None:
    first, second = boxes("valid", 6)
    first.requires_grad_()
    assert torch.autograd.gradcheck(measure, (first, second))
    assert torch.autograd.gradgradcheck(measure, (first, second))


@every_measure
def test_second_derivatives(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = boxes("valid", 6)
    first.requires_grad_()
    curvatures = []
    for each in (measure, by_operations(measure, monkeypatch)):
        (slope,) = torch.autograd.grad(each(first, second).sum(), first, create_graph=True)
        curvatures.append(torch.autograd.grad(slope.square().sum(), first)[0])
    assert_close(*curvatures, rtol=1e-9, atol=1e-12)


@every_measure
def test_several_gradients_at_once(measure: Measure) -> None:
    first, second = boxes("valid", 5)
    first.requires_grad_()
    (found,) = torch.autograd.grad(
        measure(first, second), first, torch.eye(5, dtype=torch.float64), is_grads_batched=True
    )
    (slope,) = torch.autograd.grad(measure(first, second).sum(), first)
    assert_close(found.sum(0), slope)
    assert_close(found.diagonal().mT, slope)


@every_measure
def test_transforms_and_graphs(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (each.float() for each in boxes("valid", 5))
    expected = torch.func.grad(lambda own: measure(own, second).sum())(first)
    assert_close(torch.func.vmap(torch.func.grad(measure))(first, second), expected)
    first.requires_grad_()
    for call in (measure, torch.compile(measure, backend="aot_eager", fullgraph=True)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = call(first, second)
        assert value.dtype == torch.float32
        assert_close(torch.autograd.grad(value.sum(), first)[0], expected)
    half = first.detach().half().requires_grad_()
    (slope,) = torch.autograd.grad(measure(half, second).sum(), half)
    assert slope.dtype == torch.float16
    assert_close(slope.float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3, 4), (3, 0, 4)], ids=str)
def test_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    first = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    second = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    value, overlap = giou_and_iou(first, second)
    assert value.shape == overlap.shape == shape[:-1]
    assert not overlap.requires_grad
    assert_close(overlap, iou(first, second).detach())
    (slope,) = torch.autograd.grad(value.sum(), first)
    assert slope.shape == shape
