"""Grid points, anchors and default boxes: against loops, for any image size, without a host synchronisation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import priors as reference
from torch import Tensor

from matchers.geometry.boxes import convert
from matchers.geometry.default_boxes import ssd_default_boxes
from matchers.geometry.maps import feature_sizes, level_sizes
from matchers.geometry.priors import anchors, grid_points
from ragged.testing import assert_no_host_sync

sizes = st.tuples(st.integers(0, 25), st.integers(0, 25))
strides = st.lists(st.one_of(st.integers(1, 20), st.tuples(st.integers(1, 20), st.integers(1, 20))), max_size=3)
SSD300 = [(n, n) for n in (38, 19, 10, 5, 3, 1)]
SSD300_RATIOS = [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]


def table(rows: list[list[float]], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype).reshape(-1, 4)


@given(sizes, strides, st.sampled_from([0.0, 0.5, 0.25]))
def test_grid_points_are_those_of_the_loops(size: tuple[int, int], strides: list, offset: float) -> None:
    expected = table(reference.grid_points(size, strides, offset), torch.float32)
    assert torch.equal(grid_points(size, strides, offset=offset), expected)
    assert [rows * columns for rows, columns in feature_sizes(size, strides)] == level_sizes(size, strides)
    assert level_sizes(size, strides) == [len(reference.cells(size, stride)) for stride in strides]


@given(sizes, strides, st.sampled_from([0.0, 0.5]), st.data())
def test_anchors_are_those_of_the_loops(
    size: tuple[int, int], strides: list, offset: float, data: st.DataObject
) -> None:
    positive = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), max_size=3)
    ratios, scales = data.draw(positive), data.draw(positive)
    bases = data.draw(st.one_of(st.none(), st.just([(8, 16.5), 7, 3.5][: len(strides)])))
    expected = table(reference.anchors(size, strides, bases or strides, ratios, scales, offset))
    made = anchors(size, strides, base_sizes=bases, ratios=ratios, scales=scales, offset=offset)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), expected, rtol=1e-6, atol=1e-5)
    exact = anchors(size, strides, base_sizes=bases, ratios=ratios, scales=scales, offset=offset, dtype=torch.float64)
    torch.testing.assert_close(exact, expected, rtol=1e-14, atol=1e-12)
    assert len(made) == sum(level_sizes(size, strides, num_per_cell=len(ratios) * len(scales)))


def test_anchors_whose_sides_are_exact_in_float32_are_exact() -> None:
    arguments = ((100, 77), [8, (16, 32)])
    expected = reference.anchors(*arguments, arguments[1], [0.25, 1.0, 4.0], [1.0, 2.0, 8.0], 0.5)
    made = anchors(*arguments, ratios=[0.25, 1.0, 4.0], scales=[1.0, 2.0, 8.0])
    assert torch.equal(made, table(expected, torch.float32))


def test_x_goes_with_columns_and_the_second_stride() -> None:
    points = grid_points((20, 30), [(10, 15)])
    assert points.tolist() == [[7.5, 5, 15, 10], [22.5, 5, 15, 10], [7.5, 15, 15, 10], [22.5, 15, 15, 10]]
    tall = anchors((8, 8), [8], ratios=[4.0])
    assert (tall[:, 3] - tall[:, 1]).item() == 16 and (tall[:, 2] - tall[:, 0]).item() == 4


def test_given_feature_sizes_take_the_place_of_those_made_from_strides() -> None:
    explicit = grid_points((17, 17), [8], feature_sizes=[(2, 1)])
    assert explicit.tolist() == [[4, 4, 8, 8], [4, 12, 8, 8]]
    assert level_sizes((17, 17), [8], feature_sizes=[(2, 1)], num_per_cell=3) == [6]
    assert len(anchors((17, 17), [8], feature_sizes=[(2, 1)], scales=[1, 2])) == 4
    assert feature_sizes((17, 17), [8]) == [(3, 3)]
    assert feature_sizes(torch.Size([17, 16]), [8]) == [(3, 2)]


def test_half_precision_is_rounded_once() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(
            grid_points((1000, 1000), [8], dtype=dtype), grid_points((1000, 1000), [8], dtype=torch.float64).to(dtype)
        )
        torch.testing.assert_close(
            anchors((1000, 1000), [32], ratios=[0.5, 2.0], dtype=dtype),
            anchors((1000, 1000), [32], ratios=[0.5, 2.0], dtype=torch.float32).to(dtype),
            rtol=0,
            atol=0,
        )


# --- SSD -----------------------------------------------------------------------------------------------------------


def test_ssd300_has_8732_boxes_of_the_paper() -> None:
    boxes = ssd_default_boxes(SSD300, (300, 300), aspect_ratios=SSD300_RATIOS, dtype=torch.float64)
    assert boxes.shape == (8732, 4)
    # Equation 4 for six levels between 0.2 and 0.9, and the step after the last.
    scales = [0.2, 0.34, 0.48, 0.62, 0.76, 0.9, 1.04]
    expected = table(reference.ssd_default_boxes(SSD300, scales, SSD300_RATIOS))
    torch.testing.assert_close(boxes, expected, rtol=1e-9, atol=1e-12)
    same = ssd_default_boxes(SSD300, (300, 300), sizes=[300 * s for s in scales], aspect_ratios=SSD300_RATIOS)
    torch.testing.assert_close(same.double(), expected, rtol=1e-5, atol=1e-6)


@given(st.lists(sizes, max_size=3), st.lists(st.sampled_from([2.0, 3.0, 1.5]), max_size=2))
def test_default_boxes_are_those_of_the_loops(maps: list[tuple[int, int]], ratios: list[float]) -> None:
    scales = [0.1, 0.3, 0.6, 1.1][: len(maps) + 1]
    expected = table(reference.ssd_default_boxes(maps, scales, [ratios] * len(maps)))
    arguments = {"sizes": [64 * s for s in scales], "aspect_ratios": ratios, "dtype": torch.float64}
    torch.testing.assert_close(ssd_default_boxes(maps, (64, 64), **arguments), expected, rtol=1e-12, atol=1e-12)
    corners = ssd_default_boxes(maps, (64, 64), box_format="xyxy", clip=True, **arguments)
    torch.testing.assert_close(corners, convert(expected, "cxcywh", "xyxy").clamp(0, 1), rtol=1e-12, atol=1e-12)


def test_default_boxes_of_a_wide_image_are_square_in_pixels() -> None:
    boxes = ssd_default_boxes([(2, 4)], (100, 200), sizes=[50, 50], aspect_ratios=(), dtype=torch.float64)
    assert len(boxes) == 16
    torch.testing.assert_close(boxes[0], torch.tensor([0.125, 0.25, 0.25, 0.5], dtype=torch.float64))
    default = ssd_default_boxes([(2, 4)], (100, 200), aspect_ratios=(), dtype=torch.float64)
    torch.testing.assert_close(default[0, 2:] * torch.tensor([200.0, 100.0]), torch.full((2,), 20.0).double())


def test_strides_move_the_centres() -> None:
    boxes = ssd_default_boxes([(38, 38)], (300, 300), strides=[8], aspect_ratios=(), dtype=torch.float64)
    torch.testing.assert_close(boxes[-1, :2] * 300, torch.tensor([300.0, 300.0]).double())
    paper = ssd_default_boxes([(38, 38)], (300, 300), aspect_ratios=(), dtype=torch.float64)
    torch.testing.assert_close(paper[-1, :2], torch.full((2,), 37.5 / 38).double())


# --- in graphs, on devices -----------------------------------------------------------------------------------------


def everything(anchor: Tensor) -> tuple[Tensor, ...]:
    device = anchor.device
    return (
        grid_points((65, 30), [8, (16, 32)], device=device),
        anchors((65, 30), [8, 16], ratios=[0.5, 1.0], scales=[1.0, 1.26], device=device),
        ssd_default_boxes([(3, 5), (1, 1)], (30, 50), clip=True, device=device),
    )


def test_nothing_waits_for_the_device() -> None:
    assert_no_host_sync(everything, torch.zeros(1))


@pytest.mark.graphs
def test_compiled_graphs_give_the_same() -> None:
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    for made, expected in zip(compiled(torch.zeros(1)), everything(torch.zeros(1)), strict=True):
        assert torch.equal(made, expected)


@pytest.mark.graphs
def test_image_size_may_vary_in_a_compiled_graph() -> None:
    compiled = torch.compile(
        lambda image: grid_points(tuple(image.shape[-2:]), [8, 16]), fullgraph=True, backend="eager", dynamic=True
    )
    for size in [(33, 64), (70, 9)]:
        assert torch.equal(compiled(torch.zeros(1, 3, *size)), grid_points(size, [8, 16]))


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: grid_points(8, [8]), ValueError, r"image_size must be \(height, width\), got 8"),
        (lambda: grid_points((8, 8, 3), [8]), ValueError, r"image_size must be \(height, width\), got \(8, 8, 3\)"),
        (lambda: grid_points((8, -1), [8]), ValueError, "image_size must not be negative, got -1"),
        (lambda: grid_points((8, 8.5), [8]), TypeError, "image_size must be an integer, got float"),
        (lambda: grid_points((8, 8), [0]), ValueError, "strides must be positive, got 0"),
        (lambda: grid_points((8, 8), [8.0]), TypeError, "strides must be an integer, got float"),
        (lambda: grid_points((8, 8), [(8, 8, 8)]), ValueError, r"strides must be \(height, width\), got \(8, 8, 8\)"),
        (
            lambda: grid_points((8, 8), [8], dtype=torch.int64),
            TypeError,
            "dtype must be a floating dtype, got torch.int64",
        ),
        (
            lambda: grid_points((8, 8), [8, 16], feature_sizes=[(1, 1)]),
            ValueError,
            "feature_sizes must have one entry for each of the 2 levels, got 1",
        ),
        (
            lambda: anchors((8, 8), [8, 16], base_sizes=[32]),
            ValueError,
            "base_sizes must have one entry for each of the 2 levels, got 1",
        ),
        (lambda: anchors((8, 8), [8], base_sizes=[-1.0]), ValueError, "base_sizes must be positive, got -1.0"),
        (lambda: anchors((8, 8), [8], ratios=[1.0, 0.0]), ValueError, "ratios must be positive, got 0.0"),
        (lambda: anchors((8, 8), [8], scales=[float("nan")]), ValueError, "scales must be finite, got nan"),
        (lambda: level_sizes((8, 8), [8], num_per_cell=-1), ValueError, "num_per_cell must not be negative, got -1"),
        (lambda: ssd_default_boxes([(1, 1)], (0, 9)), ValueError, r"image_size must be at least 1, got \(0, 9\)"),
        (
            lambda: ssd_default_boxes([(1, 1)], (9, 9), sizes=[3.0]),
            ValueError,
            "sizes must have 2 entries, one more than there are levels, got 1",
        ),
        (
            lambda: ssd_default_boxes([(1, 1)], (9, 9), aspect_ratios=[(2,), (2,)]),
            ValueError,
            "aspect_ratios must have one entry for each of the 1 levels, got 2",
        ),
        (
            lambda: ssd_default_boxes([(1, 1)] * 2, (9, 9), aspect_ratios=[2, (2,)]),
            TypeError,
            "aspect_ratios must be numbers, or a sequence of them for each level",
        ),
        (lambda: ssd_default_boxes([(1, 1)], (9, 9), aspect_ratios=[0]), ValueError, "aspect_ratios must be positive"),
        (lambda: ssd_default_boxes([(1, 1)], (9, 9), box_format="yxyx"), ValueError, "box format must be one of"),
    ],
)
def test_bad_arguments_say_what_was_expected(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
