"""Boxes: every format, and the IoU family against plain floats, for all the boxes that a network can come up with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import boxes as reference
from torch import Tensor

import matchers
from matchers.geometry.boxes import FORMATS, convert, coordinates, denormalize, normalize
from matchers.geometry.overlaps import pairwise
from matchers.testing import make_boxes

MEASURES = ("iou", "iof", "giou", "diou", "ciou")
NASTY = torch.tensor(
    [
        [0, 0, 4, 4],
        [0, 0, 4, 4],
        [4, 0, 8, 4],  # touches
        [1, 1, 2, 2],  # inside
        [100, 100, 104, 104],  # far away
        [2, 2, 2, 2],  # point
        [2, 2, 2, 6],  # line
        [3, 3, 3, 3],
        [8, 8, 2, 2],  # inside out
        [8, 2, 2, 8],
        [-4, -4, 4, 4],
        [0, 0, 1e20, 1e20],
        [-1e38, -1e38, 1e38, 1e38],
        [0, 0, 1e-20, 1e-20],
        [-math.inf, 0, math.inf, 4],
        [math.inf, math.inf, math.inf, math.inf],
        [-math.inf, -math.inf, -math.inf, -math.inf],
        [math.inf, 0, -math.inf, 4],
    ]
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(count: int, seed: int, **kinds: Any) -> Tensor:
    return make_boxes(count, generator(seed), **kinds)


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("to", FORMATS)
def test_conversion(source: str, to: str) -> None:
    given = boxes(20, 0, steps=8, degenerate=0.2).double().reshape(4, 5, 4)
    expected = [reference.convert(box, source, to) for box in given.reshape(-1, 4).tolist()]
    converted = convert(given, source, to)
    torch.testing.assert_close(converted.reshape(-1, 4), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(convert(converted, to, source), given)
    if source != to:
        named = getattr(matchers, f"{source}_to_{to}")
        assert torch.equal(named(given), converted)
    assert torch.equal(convert(given[0, 0], source, to), converted[0, 0])
    assert convert(torch.zeros(2, 0, 4), source, to).shape == (2, 0, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_conversion_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert convert(torch.ones(3, 4, dtype=dtype), "xyxy", "cxcywh").dtype == dtype


def test_units() -> None:
    canvas = torch.tensor([[10.0, 20.0], [5.0, 4.0]])  # height, width
    given = torch.rand(3, 2, 6, 4, generator=generator(0))
    pixels = denormalize(given, canvas)
    expected = given.clone()
    for image, (height, width) in enumerate(canvas.tolist()):
        expected[:, image, :, 0::2] *= width
        expected[:, image, :, 1::2] *= height
    torch.testing.assert_close(pixels, expected)
    torch.testing.assert_close(normalize(pixels, canvas), given)
    for source, to in itertools.product(FORMATS, FORMATS):
        torch.testing.assert_close(
            denormalize(convert(given, source, to), canvas), convert(pixels, source, to), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    "kinds",
    [{}, {"steps": 4}, {"steps": 2, "degenerate": 0.5}, {"degenerate": 0.3}],
    ids=["any", "ties", "flat", "thin"],
)
def test_measures_agree_with_plain_floats(name: str, kinds: dict[str, Any]) -> None:
    first, second = boxes(23, 1, **kinds).double(), boxes(17, 2, **kinds).double()
    second[:5] = first[:5]  # equal ones
    measure = getattr(matchers, name)
    computed = pairwise(measure, first, second)
    torch.testing.assert_close(
        computed,
        reference.table(getattr(reference, name), first, second),
        rtol=1e-9,
        atol=1e-9 if name != "ciou" else 1e-6,
    )
    paired = measure(first[:17], second)
    torch.testing.assert_close(paired, computed[:17].diagonal(), rtol=0, atol=0)
    assert torch.equal(measure(first[0], second), computed[0])
    assert torch.equal(measure(coordinates(first.unsqueeze(1)), coordinates(second)), computed)
    single = pairwise(measure, first.float(), second.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), computed, rtol=1e-4, atol=1e-5)


def test_area() -> None:
    given = torch.cat([boxes(20, 3, degenerate=0.3), torch.tensor([[5.0, 5.0, 1.0, 1.0], [5.0, 1.0, 1.0, 5.0]])])
    expected = torch.tensor([reference.area(box) for box in given.tolist()])
    torch.testing.assert_close(matchers.area(given), expected)
    assert matchers.area(given[-2:]).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["area", *MEASURES])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    measure = getattr(matchers, name)
    arguments = [boxes(9, seed).mul(10).to(dtype) for seed in range(1 if name == "area" else 2)]
    computed = measure(*arguments)
    assert computed.dtype == torch.float32
    assert torch.equal(computed, measure(*(part.float() for part in arguments)))


RANGES = {"iou": (0, 1), "iof": (0, 1), "giou": (-1, 1), "diou": (-1, 1), "ciou": (-2, 1)}


def in_range(values: Tensor, name: str) -> bool:
    low, high = RANGES[name]
    return bool(((values >= low - 1e-5) & (values <= high + 1e-5)).all())


DTYPES = (torch.float16, torch.float32, torch.float64)
EVERY_CASE = [(name, dtype) for name in MEASURES for dtype in DTYPES]


@pytest.mark.parametrize(
    ("name", "dtype"),
    EVERY_CASE,
)
def test_gradients_are_finite_for_all_boxes(name: str, dtype: torch.dtype) -> None:
    first, second = (NASTY.to(dtype, copy=True).requires_grad_() for _ in range(2))
    values = pairwise(getattr(matchers, name), first, second)
    assert in_range(values, name)
    for gradient in torch.autograd.grad(values.sum(), (first, second)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("name", "dtype"),
    EVERY_CASE,
)
def test_values_are_finite_for_all_boxes(name: str, dtype: torch.dtype) -> None:
    values = pairwise(getattr(matchers, name), NASTY.to(dtype), NASTY.to(dtype))
    assert in_range(values, name)


@pytest.mark.parametrize("name", MEASURES)
def test_asking_for_a_gradient_does_not_change_the_values(name: str) -> None:
    measure = getattr(matchers, name)
    values = pairwise(measure, NASTY.clone().requires_grad_(), NASTY)
    torch.testing.assert_close(pairwise(measure, NASTY, NASTY), values.detach())


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("place", range(4))
def test_nan_stays_visible(name: str, place: int) -> None:
    measure = getattr(matchers, name)
    broken = torch.tensor([0.0, 0.0, 4.0, 4.0])
    broken[place] = math.nan
    whole = torch.tensor([[0.0, 0.0, 4.0, 4.0], [50.0, 50.0, 60.0, 60.0], [2.0, 2.0, 2.0, 2.0]])
    assert measure(broken, whole).isnan().all()
    assert measure(whole[:2], broken).isnan().all()
    assert matchers.area(broken).isnan()


@pytest.mark.parametrize("name", MEASURES)
def test_gradients(name: str) -> None:
    first, second = boxes(7, 5).double() / 10, boxes(7, 6).double() / 10
    second[:3] = first[:3] + 0.3 * torch.rand(3, 4, generator=generator(1)).double()  # overlapping
    measure = getattr(matchers, name)
    if name == "ciou":  # a constant trade-off is not the derivative of the value
        measure = lambda a, b: matchers.ciou(a, b, detach_trade_off=False)  # noqa: E731
    assert torch.autograd.gradcheck(measure, (first.requires_grad_(), second.requires_grad_()))
    assert torch.autograd.gradcheck(lambda a: measure(a, second.detach()), (first,))


def test_trade_off_of_ciou_is_a_constant_by_default() -> None:
    first, second = torch.tensor([0.0, 0.0, 4.0, 2.0], requires_grad=True), torch.tensor([0.0, 0.0, 3.0, 4.0])
    (paper,) = torch.autograd.grad(matchers.ciou(first, second), first)
    (full,) = torch.autograd.grad(matchers.ciou(first, second, detach_trade_off=False), first)
    assert not torch.allclose(paper, full)
    v = (4 / math.pi**2) * (torch.atan2(first[2] - first[0], first[3] - first[1]) - math.atan2(3, 4)) ** 2
    alpha = (v / (1 - matchers.iou(first, second) + v)).detach()
    (expected,) = torch.autograd.grad(matchers.diou(first, second) - alpha * v, first)
    torch.testing.assert_close(paper, expected)


@pytest.mark.parametrize("name", ["iou", "giou", "diou", "ciou"])
def test_a_better_overlap_is_always_within_reach(name: str) -> None:
    """Of boxes that overlap in part, the gradient moves the edges towards each other."""
    first = torch.tensor([0.0, 0.0, 4.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(getattr(matchers, name)(first, torch.tensor([1.0, 1.0, 6.0, 6.0])), first)
    assert (gradient[:2] > 0).all() and (gradient[2:] > 0).all()


@given(
    st.integers(0, 10_000),
    st.sampled_from([None, 2, 4]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_symmetry_and_invariance(seed: int, steps: int | None, degenerate: float, scale: float) -> None:
    first, second = (boxes(6, seed + k, steps=steps, degenerate=degenerate).double() for k in range(2))
    for name in ("iou", "giou", "diou", "ciou"):
        measure = getattr(matchers, name)
        values = pairwise(measure, first, second)
        torch.testing.assert_close(pairwise(measure, second, first).T, values)
        own = measure(first, first)
        has_area = matchers.area(first) > 0
        torch.testing.assert_close(own[has_area], torch.ones_like(own[has_area]))
        if not degenerate:  # the limit of what has an area is in the unit of the boxes
            torch.testing.assert_close(
                pairwise(measure, (first + 3) * scale, (second + 3) * scale), values, rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("name", ["iou", "giou"])
def test_asking_for_a_gradient_does_not_change_the_value(name: str) -> None:
    tiny = torch.tensor([0.0, 0.0, 8e-7, 8e-7])
    measure: Callable[..., Tensor] = getattr(matchers, name)
    torch.testing.assert_close(measure(tiny.clone().requires_grad_(), tiny).detach(), measure(tiny, tiny))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"box format must be one of 'xyxy', 'cxcywh', 'xywh', got 'yxyx'"):
        convert(torch.zeros(1, 4), "yxyx", "xyxy")
    with pytest.raises(ValueError, match="box format must be one of"):
        convert(torch.zeros(1, 4), "xyxy", "")
    with pytest.raises(ValueError, match=r"boxes must have shape \(…, 4\), got \(4, 5\)"):
        matchers.iou(torch.zeros(4, 5), torch.zeros(4))
    with pytest.raises(ValueError, match=r"got \(\)"):
        matchers.area(torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"floating dtype, got torch.int64; convert with .float"):
        matchers.giou(torch.zeros(4), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(TypeError, match="boxes must be a torch.Tensor, got list"):
        matchers.area([0, 0, 1, 1])
    with pytest.raises(
        ValueError, match=r"canvas_size must be a tensor of shape \(\*batch, 2\), height and width, got \(3,\)"
    ):
        normalize(torch.zeros(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match="height and width, got tuple"):
        denormalize(torch.zeros(2, 4), (3, 4))
