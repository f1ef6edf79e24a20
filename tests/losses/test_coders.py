"""Box coders against plain floats: both directions, their inverses, and everything that a network can come up with."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from reference import coders as reference
from torch import Tensor

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, SSDCoder, clip_to_canvas
from losses.coders.dfine_bins import bbox2distance, distance2bbox, weighting_function
from losses.coders.distribution import DistributionCoder, Vec2Box, integral
from losses.coders.points import CenterLogSizeCoder, DistanceCoder
from matchers.geometry.boxes import convert
from ragged.testing import assert_no_host_sync

MEANS, STDS = (0.1, -0.2, 0.05, 0.3), (0.1, 0.15, 0.2, 0.25)


def xyxy(*shape: int, seed: int = 0) -> Tensor:
    """Boxes on a canvas of 64 pixels with sides of 2 to 30, float64."""
    values = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return convert(torch.cat([values[..., :2] * 64, 2 + 28 * values[..., 2:]], -1), "cxcywh", "xyxy")


def cxcywh(*shape: int, seed: int = 0) -> Tensor:
    return convert(xyxy(*shape, seed=seed) / 64, "xyxy", "cxcywh")


def points(*shape: int, seed: int = 0) -> Tensor:
    values = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([values[..., :2] * 64, 4 + 12 * values[..., 2:]], -1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """A coder, its inputs, and what it is to compute."""

    def __init__(
        self, coder: Any, priors: Callable[..., Tensor], boxes: Callable[..., Tensor], *functions: Any
    ) -> None:
        self.coder, self.priors, self.boxes = coder, priors, boxes
        self.encode, self.decode = functions


CASES = {
    "delta": Case(DeltaXYWHCoder(), xyxy, xyxy, reference.delta_encode, reference.delta_decode),
    "delta with means": Case(
        DeltaXYWHCoder(means=MEANS, stds=STDS, wh_ratio_clip=0.3),
        xyxy,
        xyxy,
        lambda prior, box: reference.delta_encode(prior, box, MEANS, STDS),
        lambda prior, delta: reference.delta_decode(prior, delta, MEANS, STDS, 0.3),
    ),
    "delta without limit": Case(
        DeltaXYWHCoder(wh_ratio_clip=None),
        xyxy,
        xyxy,
        reference.delta_encode,
        lambda prior, delta: reference.delta_decode(prior, delta, ratio_clip=None),
    ),
    "ssd": Case(
        SSDCoder(),
        cxcywh,
        cxcywh,
        lambda prior, box: reference.ssd_encode(prior, box, 0.1, 0.2),
        lambda prior, delta: reference.ssd_decode(prior, delta, 0.1, 0.2),
    ),
    "distance": Case(
        DistanceCoder(),
        lambda *s, seed=0: points(*s, seed=seed)[..., :2],
        xyxy,
        reference.distance_encode,
        reference.distance_decode,
    ),
    "distance in strides": Case(
        DistanceCoder(scale_by_stride=True),
        points,
        xyxy,
        lambda point, box: reference.distance_encode(point, box, True),
        lambda point, delta: reference.distance_decode(point, delta, True),
    ),
    "yolox": Case(CenterLogSizeCoder(), points, xyxy, reference.yolox_encode, reference.yolox_decode),
}
INVERTIBLE = [name for name in CASES if name != "delta with means"]  # that one cuts sizes off
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((7,), (7,)),
    ((1,), (1,)),
    ((0,), (0,)),
    ((7,), (3, 7)),
    ((2, 1, 5), (3, 5)),
    ((6, 1), (4,)),
]


def table(function: Callable[[Any, Any], list[float]], first: Tensor, second: Tensor) -> Tensor:
    """One row after the other."""
    shape = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    rows = zip(
        first.expand(*shape, -1).reshape(-1, first.shape[-1]).tolist(),
        second.expand(*shape, -1).reshape(-1, 4).tolist(),
        strict=True,
    )
    return torch.tensor([function(a, b) for a, b in rows], dtype=torch.float64).reshape(*shape, 4)


@pytest.mark.parametrize(("own", "other"), SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_coders_agree_with_plain_floats(name: str, own: tuple[int, ...], other: tuple[int, ...]) -> None:
    case = CASES[name]
    priors, boxes, deltas = case.priors(*own), case.boxes(*other, seed=1), 2 * normal(*other, 4, seed=2)
    for computed, expected in (
        (case.coder.encode(priors, boxes), table(case.encode, priors, boxes)),
        (case.coder.decode(priors, deltas), table(case.decode, priors, deltas)),
    ):
        torch.testing.assert_close(computed, expected, rtol=1e-10, atol=1e-10)
        assert computed.dtype == torch.float64
    single = case.coder.encode(priors.float(), boxes.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), table(case.encode, priors, boxes), rtol=1e-4, atol=1e-4)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(INVERTIBLE), scale=st.sampled_from([1e-2, 1.0, 1e2]))
@examples(50)
def test_encoding_and_decoding_are_inverse(seed: int, name: str, scale: float) -> None:
    case = CASES[name]
    priors, boxes = scale * case.priors(3, 5, seed=seed), scale * case.boxes(3, 5, seed=seed + 1)
    coder, deltas = case.coder, normal(3, 5, 4, seed=seed + 2)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
        own, given_boxes, given_deltas = priors.to(dtype), boxes.to(dtype), deltas.to(dtype)
        torch.testing.assert_close(
            coder.decode(own, coder.encode(own, given_boxes)), given_boxes, rtol=tolerance, atol=tolerance * scale
        )
        torch.testing.assert_close(
            coder.encode(own, coder.decode(own, given_deltas)), given_deltas, rtol=tolerance, atol=10 * tolerance
        )


def test_sizes_are_bounded_by_parts_of_the_prior() -> None:
    """What is decoded at 16 / 1000 by default, what is encoded at a millionth, which no box of an image reaches."""
    prior, tiny = torch.tensor([0.0, 0.0, 10.0, 10.0]), torch.tensor([5.0, 5.0, 5.001, 5.0])
    largest, smallest = 10 / 0.016, 10 * 0.016
    decoded = DeltaXYWHCoder().decode(prior, torch.tensor([0.0, 0.0, 99.0, -99.0]))
    torch.testing.assert_close(decoded[2:] - decoded[:2], torch.tensor([largest, smallest]))
    encoded = DeltaXYWHCoder().encode(prior, tiny)
    torch.testing.assert_close(encoded[2:], torch.tensor([1e-4, 1e-6]).log(), rtol=1e-3, atol=0)


def test_distances_stay_below_the_limit() -> None:
    given_points, boxes = points(20), xyxy(20, seed=1)
    for strides in (False, True):
        computed = DistanceCoder(scale_by_stride=strides, max_distance=2.5).encode(given_points, boxes)
        expected = table(lambda p, b, s=strides: reference.distance_encode(p, b, s, 2.5), given_points, boxes)
        torch.testing.assert_close(computed, expected)
        assert computed.min() == 0 and computed.max() == 2.5
    # A point with strides serves a coder that does not need them.
    assert torch.equal(DistanceCoder().encode(given_points, boxes), DistanceCoder().encode(given_points[:, :2], boxes))


@pytest.mark.parametrize("name", CASES)
def test_decoded_boxes_end_at_the_border(name: str) -> None:
    case = CASES[name]
    priors, deltas = case.priors(9), 3 * normal(2, 9, 4, seed=1)
    unit = 64 if name == "ssd" else 1
    sizes = [(40.0 / unit, 30.0 / unit), (20.0 / unit, 50.0 / unit)]
    boxes = case.coder.decode(priors, deltas)
    if name == "ssd":
        boxes = convert(boxes, "cxcywh", "xyxy")
    expected = torch.stack(
        [
            torch.tensor([reference.clip(box, size) for box in image.tolist()], dtype=torch.float64)
            for image, size in zip(boxes, sizes, strict=True)
        ]
    )
    if name == "ssd":
        expected = convert(expected, "xyxy", "cxcywh")
    computed = case.coder.decode(priors, deltas, canvas_size=torch.tensor(sizes))
    torch.testing.assert_close(computed, expected, rtol=1e-6, atol=1e-6)
    for image, size in enumerate(sizes):
        alone = case.coder.decode(priors, deltas[image], canvas_size=size)
        torch.testing.assert_close(alone, computed[image], rtol=1e-6, atol=1e-6)
        alone = case.coder.decode(priors[3], deltas[image, 3], canvas_size=torch.tensor(size))
        torch.testing.assert_close(alone, computed[image, 3])


EXTREMES = torch.tensor([0.0, 1.0, -1.0, 50.0, -50.0, 1e4, -1e4])
# Points, lines, inside out, tiny and huge.
FLAT = torch.tensor(
    [[5, 5, 5, 5], [5, 5, 9, 5], [5, 5, 5, 9], [9, 9, 5, 5], [0, 0, 1e-20, 1e-20], [-1e4, -1e4, 1e4, 1e4], [0, 0, 0, 0]]
)


def finite_with_gradients(function: Callable[..., Tensor], *given_tensors: Tensor) -> bool:
    leaves = [each.clone().requires_grad_() for each in given_tensors]
    value = function(*leaves)
    gradients = torch.autograd.grad(value.sum(), leaves)
    return all(bool(each.isfinite().all()) for each in (value, *gradients))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_extremes_are_finite(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    priors = case.priors(1).to(dtype)
    deltas = torch.tensor(list(itertools.product(EXTREMES.tolist(), repeat=2))).repeat(1, 2).to(dtype)
    if dtype == torch.float16:  # the value is finite in float32, which a gradient in float16 need not be
        assert case.coder.decode(priors, deltas).isfinite().all()
        assert finite_with_gradients(
            lambda given: case.coder.decode(priors, given), deltas[(deltas.abs() != 50).all(-1)]
        )
    else:
        assert finite_with_gradients(case.coder.decode, priors, deltas)
    boxes = FLAT if name != "ssd" else convert(FLAT, "xyxy", "cxcywh")
    assert finite_with_gradients(case.coder.encode, priors, boxes.to(dtype))
    if dtype in (torch.float32, torch.float64):
        nothing = torch.zeros_like(priors)
        assert finite_with_gradients(case.coder.encode, nothing, boxes.to(dtype))
        assert finite_with_gradients(case.coder.decode, nothing, deltas)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    priors, boxes, deltas = case.priors(5).to(dtype), case.boxes(5, seed=1).to(dtype), normal(5, 4).to(dtype)
    for function, values in ((case.coder.encode, boxes), (case.coder.decode, deltas)):
        expected = function(priors.float(), values.float())
        assert torch.equal(function(priors, values), expected) and expected.dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(function(priors.float(), values.float()), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_box_is_all_that_its_nan_reaches(name: str) -> None:
    case = CASES[name]
    priors, boxes, deltas = case.priors(4), case.boxes(4, seed=1), normal(4, 4)
    for function, values in ((case.coder.encode, boxes), (case.coder.decode, deltas)):
        whole = function(priors, values)
        broken = values.clone()
        broken[2] = math.nan
        broken.requires_grad_()
        computed = function(priors, broken)
        assert computed[2].isnan().all()
        kept = torch.tensor([0, 1, 3])
        assert torch.equal(computed[kept], whole[kept])
        (gradient,) = torch.autograd.grad(computed[kept].sum(), broken)
        assert gradient[kept].isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    case = CASES[name]
    leaves = [each.requires_grad_() for each in (case.priors(3), case.boxes(3, seed=1), 0.3 * normal(3, 4))]
    for function, values in ((case.coder.encode, leaves[1]), (case.coder.decode, leaves[2])):
        assert torch.autograd.gradcheck(function, (leaves[0], values))
        assert torch.autograd.gradgradcheck(function, (leaves[0], values))


# Made here: compilers of torch 2.10 and older make no module in a graph.
VEC2BOX = Vec2Box(image_size=(8, 8), strides=(8,))


def everything(priors: Tensor, boxes: Tensor, deltas: Tensor, logits: Tensor) -> list[Tensor]:
    """All coders at once."""
    canvas = torch.stack([boxes[0, 2] + 1, boxes[0, 3] + 1])
    results = [integral(logits)]
    for coder in (DeltaXYWHCoder(means=MEANS, stds=STDS), SSDCoder()):
        results += [coder.encode(priors, boxes), coder.decode(priors, deltas, canvas_size=canvas)]
    for other in (DistanceCoder(scale_by_stride=True, max_distance=4), CenterLogSizeCoder()):
        results += [other.encode(priors, boxes), other.decode(priors, deltas, canvas_size=(30, 40))]
    bins, values = DistributionCoder(reg_max=5), weighting_function(4, deltas[0, 0].abs() + 0.1, boxes[0, 0] + 1)
    results += [bins.encode(priors, boxes), bins.decode(priors, logits)]
    results += [distance2bbox(priors, integral(logits, values), reg_scale=4.0), values]
    results += tuple(bbox2distance(priors, boxes, reg_max=4, reg_scale=4.0, up=values[3]))[1:]
    maps = deltas[0].reshape(1, 4, 1, 1), logits[0].T.reshape(1, 5, 4, 1, 1)
    return [*results, *VEC2BOX([(maps[0], maps[1], maps[0])])]


def arguments() -> tuple[Tensor, ...]:
    return points(3).float(), xyxy(3).float(), normal(3, 4).float(), normal(3, 4, 5).float()


def test_coders_never_wait() -> None:
    assert_no_host_sync(everything, *arguments())


@pytest.mark.graphs
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_coders_compile(backend: str) -> None:
    given_tensors = [each.requires_grad_() for each in arguments()]
    expected = everything(*given_tensors)
    computed = torch.compile(everything, fullgraph=True, backend=backend)(*given_tensors)
    torch.testing.assert_close(computed, expected)
    gradients = [
        torch.autograd.grad(sum(each.sum() for each in results), given_tensors)  # type: ignore[arg-type]
        for results in (computed, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


# --- distributions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("bins", [1, 2, 16])
def test_integral(shape: tuple[int, ...], bins: int) -> None:
    logits, values = 3 * normal(*shape, bins), normal(bins, seed=1)
    for given_values in (None, values):
        own = None if given_values is None else given_values.tolist()
        rows = [reference.mean_of_bins(each, own) for each in logits.reshape(-1, bins).tolist()]
        expected = torch.tensor(rows, dtype=torch.float64).reshape(shape)
        torch.testing.assert_close(integral(logits, given_values), expected)


def test_integral_of_extreme_logits() -> None:
    logits = torch.tensor(list(itertools.product([0.0, 1e4, -1e4], repeat=3)))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert finite_with_gradients(integral, logits.to(dtype))
        assert integral(logits.to(dtype)).dtype == torch.promote_types(dtype, torch.float32)
    assert integral(torch.tensor([1e4, -1e4, -1e4, 1e4])) == 1.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(integral(normal(9, 4, 16).float()), integral_without_autocast())


def integral_without_autocast() -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return integral(normal(9, 4, 16).float())


def test_gradients_of_integrals() -> None:
    logits, values = normal(2, 5).requires_grad_(), normal(5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(integral, (logits, values))
    assert torch.autograd.gradgradcheck(integral, (logits, values))


def test_distribution_coder() -> None:
    coder, given_points = DistributionCoder(reg_max=4, margin=0.25), points(6)
    logits, boxes = normal(2, 6, 4, 4), xyxy(2, 6, seed=1)
    distances = [[reference.mean_of_bins(side) for side in box] for box in logits.reshape(-1, 4, 4).tolist()]
    expected = table(
        lambda p, d: reference.distance_decode(p, d, True),
        given_points,
        torch.tensor(distances, dtype=torch.float64).reshape(2, 6, 4),
    )
    torch.testing.assert_close(coder.decode(given_points, logits), expected)
    clipped = coder.decode(given_points, logits, canvas_size=(20, 30))
    torch.testing.assert_close(clipped, clip_to_canvas(expected, (20, 30)))
    targets = coder.encode(given_points, boxes)
    torch.testing.assert_close(
        targets, table(lambda p, b: reference.distance_encode(p, b, True, 2.75), given_points, boxes)
    )
    # Weights on the two bins around a target have it for their mean.
    inside = torch.zeros(2, 6, 4, 4, dtype=torch.float64)
    left = targets.long().unsqueeze(-1)
    share = (targets - targets.floor()).unsqueeze(-1)
    inside.scatter_(-1, left, 1 - share).scatter_(-1, left + 1, share)
    torch.testing.assert_close(integral(inside.log()), targets)


# --- D-FINE --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reg_max", [4, 6, 16, 32])
@pytest.mark.parametrize(("up", "reg_scale"), [(0.5, 4.0), (0.25, 8.0), (1.0, 1.0), (-0.5, 4.0)])
def test_bins(reg_max: int, up: float, reg_scale: float) -> None:
    expected = torch.tensor(reference.bins(reg_max, abs(up), reg_scale), dtype=torch.float64)
    values = weighting_function(reg_max, up, reg_scale, dtype=torch.float64)
    torch.testing.assert_close(values, expected)
    assert values.shape == (reg_max + 1,)
    assert (values.diff() > 0).all() and values[reg_max // 2] == 0
    for form in (torch.tensor([up]), torch.tensor(up)):
        learnt = weighting_function(reg_max, form, torch.tensor([reg_scale]))
        torch.testing.assert_close(learnt, expected.float())
    assert weighting_function(reg_max, torch.tensor([up]).half(), reg_scale).dtype == torch.float32


def test_gradients_of_bins() -> None:
    up, scale = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (0.5, 4.0))
    assert torch.autograd.gradcheck(lambda a, b: weighting_function(8, a, b), (up, scale))
    assert torch.autograd.gradgradcheck(lambda a, b: weighting_function(8, a, b), (up, scale))


def test_distances_of_dfine() -> None:
    references, distances = cxcywh(2, 5), 2 * normal(3, 1, 5, 4)
    expected = table(lambda p, d: reference.distance2bbox(p, d, 4.0), references, distances)
    torch.testing.assert_close(distance2bbox(references, distances, reg_scale=4.0), expected)
    learnt = torch.tensor([4.0], dtype=torch.float64)
    torch.testing.assert_close(distance2bbox(references, distances, reg_scale=learnt), expected)
    assert torch.equal(distance2bbox(references, torch.zeros(4).double(), reg_scale=4.0), references)
    leaves = references.clone().requires_grad_(), distances.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, d: distance2bbox(p, d, reg_scale=4.0), leaves)
    assert torch.autograd.gradgradcheck(lambda p, d: distance2bbox(p, d, reg_scale=4.0), leaves)
    assert finite_with_gradients(
        lambda p, d: distance2bbox(p, d, reg_scale=4.0), cxcywh(7).half(), EXTREMES.half().unsqueeze(-1).expand(7, 4)
    )


@pytest.mark.parametrize("shape", [(), (1,), (0,), (40,), (2, 0), (2, 3, 8)])
@pytest.mark.parametrize(("reg_max", "up", "reg_scale"), [(32, 0.5, 4.0), (4, 0.25, 2.0)])
def test_targets_of_dfine(shape: tuple[int, ...], reg_max: int, up: float, reg_scale: float) -> None:
    references, boxes = cxcywh(*shape), cxcywh(*shape, seed=1)
    # Some close to their reference, as they are after a few layers.
    boxes = torch.where(torch.arange(boxes.numel() // 4).reshape(*shape, 1) % 2 == 0, boxes, references * 1.03)
    left, right_weight, left_weight = bbox2distance(references, boxes, reg_max=reg_max, reg_scale=reg_scale, up=up)
    rows = zip(references.reshape(-1, 4).tolist(), boxes.reshape(-1, 4).tolist(), strict=True)
    expected = [reference.bbox2distance(a, b, reg_max, up, reg_scale) for a, b in rows]
    table_of = torch.tensor(expected, dtype=torch.float64).reshape(*shape, 4, 3)
    assert left.dtype == torch.int64 and torch.equal(left, table_of[..., 0].long())
    torch.testing.assert_close(right_weight, table_of[..., 1])
    torch.testing.assert_close(left_weight, table_of[..., 2])


def test_targets_of_dfine_are_the_inverse_of_distances() -> None:
    references = cxcywh(50)
    values = weighting_function(32, 0.5, 4.0, dtype=torch.float64)
    distances = normal(50, 4).clamp(-1.9, 3.9)
    boxes = distance2bbox(references, distances, reg_scale=4.0)
    left, right_weight, left_weight = bbox2distance(references, boxes, reg_max=32, reg_scale=4.0, up=0.5)
    torch.testing.assert_close(left_weight * values[left] + right_weight * values[left + 1], distances)


def test_extreme_targets_of_dfine() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        boxes = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.2, 0.2], [1e4, -1e4, 1e4, 1e4]], dtype=dtype)
        sized = boxes.clone().requires_grad_()
        targets = bbox2distance(boxes.unsqueeze(1), sized, reg_max=32, reg_scale=4.0, up=0.5)
        assert targets.left.min() >= 0 and targets.left.max() <= 31
        for weight in targets[1:]:
            assert ((weight >= 0) & (weight <= 1)).all() and not weight.requires_grad
        torch.testing.assert_close(targets.weight_left + targets.weight_right, torch.ones_like(targets.weight_left))
    broken = torch.full((1, 4), math.nan)
    left, weight, _ = bbox2distance(torch.rand(2, 4), broken, reg_max=32, reg_scale=4.0, up=0.5)
    assert left.min() >= 0 and left.max() <= 31 and weight.isnan().all()  # a gather stays in range
    half = torch.full((4,), 0.5)
    flat = bbox2distance(half, half, reg_max=32, reg_scale=4.0, up=0.0)
    assert flat.weight_right.isfinite().all()
    # Exactly the value of a bin: all weight is on that one, and it is the left one.
    exact = bbox2distance(half, half, reg_max=32, reg_scale=4.0, up=0.5)
    assert exact.left.tolist() == [16] * 4 and exact.weight_left.tolist() == [1] * 4


# --- YOLOv9 --------------------------------------------------------------------------------------------------------


def levels(sizes: Sequence[tuple[int, int]], batch: tuple[int, ...], classes: int = 3, bins: int = 5) -> list[Any]:
    return [
        (
            normal(*batch, classes, *size, seed=3 * k),
            normal(*batch, bins, 4, *size, seed=3 * k + 1),
            normal(*batch, 4, *size, seed=3 * k + 2),
        )
        for k, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("batch", [(1,), (3,), (0,), (2, 2), ()])
@pytest.mark.parametrize(
    ("image_size", "strides", "sizes"),
    [((32, 24), (8, 16), [(4, 3), (2, 2)]), ((16, 16), (16,), [(1, 1)]), ((8, 12), ((4, 2), 8), [(2, 6), (1, 2)])],
)
def test_vec2box(
    batch: tuple[int, ...], image_size: tuple[int, int], strides: Any, sizes: list[tuple[int, int]]
) -> None:
    maps = levels(sizes, batch)
    decode = Vec2Box(image_size=image_size, strides=strides)
    logits, distribution, boxes = decode(maps)
    count = sum(rows * columns for rows, columns in sizes)
    assert logits.shape == (*batch, count, 3) and distribution.shape == (*batch, count, 4, 5)
    flat = [level[2].reshape(-1, 4, *size).tolist() for level, size in zip(maps, sizes, strict=True)]
    expected = [
        reference.vec2box([level[image] for level in flat], sizes, strides) for image in range(math.prod(batch))
    ]
    torch.testing.assert_close(boxes, torch.tensor(expected, dtype=torch.float64).reshape(*batch, count, 4))
    start = 0
    for (class_map, distribution_map, _), (rows, columns) in zip(maps, sizes, strict=True):
        for row, column in itertools.product(range(rows), range(columns)):
            place = start + row * columns + column
            assert torch.equal(logits[..., place, :], class_map[..., row, column])
            assert torch.equal(distribution[..., place, :, :].mT, distribution_map[..., row, column])
        start += rows * columns
    own = decode([level[:2] for level in maps])
    expected_boxes = DistanceCoder(scale_by_stride=True).decode(decode.points(logits), integral(distribution))
    assert torch.equal(own.boxes, expected_boxes) and torch.equal(own.logits, logits)


def test_vec2box_in_half_precision() -> None:
    maps = [tuple(each.half() for each in level) for level in levels([(80, 80)], (1,))]
    logits, distribution, boxes = Vec2Box(image_size=(640, 640), strides=(8,))(maps)
    assert (logits.dtype, distribution.dtype, boxes.dtype) == (torch.float16, torch.float16, torch.float32)
    torch.testing.assert_close(boxes[0, -1, :2], 636 - 8 * maps[0][2][0, :2, -1, -1].float())


# --- errors --------------------------------------------------------------------------------------------------------

BOX = torch.zeros(3, 4)
DECODE = Vec2Box(image_size=(16, 16), strides=(8, 16))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DeltaXYWHCoder(means=(0.0, 0.0)), ValueError, "means must have 4 entries (of dx, dy, dw, dh), got 2"),
        (lambda: DeltaXYWHCoder(stds=(1.0, 0.0, 1.0, 1.0)), ValueError, "stds must be positive, got 0.0"),
        (lambda: DeltaXYWHCoder(wh_ratio_clip=62.5), ValueError, "wh_ratio_clip must lie between 0 and 1, got 62.5"),
        (lambda: SSDCoder(scale_wh=-1), ValueError, "scale_xy and scale_wh must be positive, got -1"),
        (lambda: DistanceCoder(max_distance=0), ValueError, "max_distance must be positive, got 0"),
        (lambda: DeltaXYWHCoder().encode([1], BOX), TypeError, "priors must be a torch.Tensor, got list"),
        (lambda: DeltaXYWHCoder().encode(BOX, BOX[:, :3]), ValueError, "boxes must have shape (…, 4), got (3, 3)"),
        (lambda: SSDCoder().decode(BOX, BOX.long()), TypeError, "deltas must have a floating dtype, got torch.int64"),
        (
            lambda: SSDCoder().decode(BOX, BOX[:2]),
            ValueError,
            "priors and deltas must have shapes that broadcast, got (3, 4) and (2, 4)",
        ),
        (
            lambda: SSDCoder().encode(BOX, BOX.to("meta")),
            ValueError,
            "boxes must be on the device of priors (cpu), got meta",
        ),
        (
            lambda: DistanceCoder().encode(BOX[:, :2], BOX[:2]),
            ValueError,
            "priors and boxes must have shapes that broadcast, got (3, 4) and (2, 4)",
        ),
        (lambda: DistanceCoder().encode(BOX[:, :3], BOX), ValueError, "priors must have shape (…, 4), got (3, 3)"),
        (lambda: SSDCoder().encode(BOX[:, :2], BOX), ValueError, "priors must have shape (…, 4), got (3, 2)"),
        (
            lambda: DistanceCoder(scale_by_stride=True).decode(BOX[:, :2], BOX),
            ValueError,
            "distances in strides need grid points (…, 4), x, y and strides, got (3, 2)",
        ),
        (
            lambda: DistanceCoder().decode(BOX, BOX, canvas_size=torch.zeros(3)),
            ValueError,
            "canvas_size must have shape (*batch, 2), height and width, got (3,)",
        ),
        (
            lambda: DistanceCoder().decode(BOX, BOX.expand(4, 3, 4), canvas_size=torch.ones(3, 2)),
            ValueError,
            "boxes and canvas_size (*batch, 1, 2) must have shapes that broadcast, got (4, 3, 4) and (3, 1, 4)",
        ),
        (
            lambda: DistanceCoder().decode(BOX, BOX, canvas_size=64),
            ValueError,
            "canvas_size must be a tensor (*batch, 2) or a pair (height, width), got 64",
        ),
        (lambda: DistributionCoder(reg_max=1), ValueError, "reg_max must be at least 2, got 1"),
        (lambda: DistributionCoder(reg_max=4.0), TypeError, "reg_max must be an integer, got float"),
        (lambda: DistributionCoder(margin=1), ValueError, "margin must lie in [0, 1), got 1"),
        (
            lambda: DistributionCoder(reg_max=8).decode(BOX, torch.zeros(3, 4, 7)),
            ValueError,
            "logits must have shape (…, 4, 8), got (3, 4, 7)",
        ),
        (lambda: integral(torch.zeros(3, 0)), ValueError, "logits must have shape (…, R) with R ≥ 1, got (3, 0)"),
        (
            lambda: integral(torch.zeros(3, 4), torch.zeros(5)),
            ValueError,
            "values must have shape (4,), as logits has bins, got (5,)",
        ),
        (lambda: weighting_function(7, 0.5, 4.0), ValueError, "reg_max must be even and at least 4, got 7"),
        (lambda: weighting_function(2, 0.5, 4.0), ValueError, "reg_max must be even and at least 4, got 2"),
        (lambda: weighting_function(8, torch.ones(2), 4.0), ValueError, "up must have one element, got shape (2,)"),
        (lambda: distance2bbox(BOX, BOX[:2], reg_scale=4.0), ValueError, "priors and distance must have"),
        (lambda: Vec2Box(image_size=(8, 8), strides=(0,)), ValueError, "strides must be positive, got 0"),
        (lambda: DECODE(levels([(2, 2)], (1,))), ValueError, "levels must be 2, one for each stride, got 1"),
        (
            lambda: DECODE(levels([(2, 2), (2, 2)], (1,))),
            ValueError,
            "the class map of level 1 must end with (h, w) = (1, 1), for images of (16, 16) and stride 16, "
            "got (1, 3, 2, 2)",
        ),
        (
            lambda: DECODE([each[:1] for each in levels([(2, 2), (1, 1)], (1,))]),
            ValueError,
            "level 0 must have class, distribution and distance maps, or on all levels the first two, got 1 maps",
        ),
        (
            lambda: DECODE([(each[0], each[1].transpose(-3, -4)) for each in levels([(2, 2), (1, 1)], (1,))]),
            ValueError,
            "the distribution map of level 0 must have 4 sides in dim -3, got (1, 4, 5, 2, 2)",
        ),
        (
            lambda: DECODE([levels([(2, 2)], (1,))[0], levels([(2, 2), (1, 1)], (1,), classes=4)[1]]),
            ValueError,
            "the class map of level 1 must be (1, 3, h, w) as that of level 0, got (1, 4, 1, 1)",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("coder", [DeltaXYWHCoder, SSDCoder, DistanceCoder, CenterLogSizeCoder, DistributionCoder])
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_every_coder_has_what_criteria_need(coder: type, name: str) -> None:
    needed, own = (inspect.signature(getattr(owner, name)).parameters for owner in (BoxCoder, coder))
    assert len(needed) == 3
    required = [each for each, parameter in own.items() if parameter.default is inspect.Parameter.empty]
    assert len(required) == len(needed) and required[:2] == list(needed)[:2]
