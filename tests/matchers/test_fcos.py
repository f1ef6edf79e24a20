"""The rule of FCOS against a loop over points and targets, and its rules one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from reference import dense as reference

from matchers import FCOS, grid_points

OPTIONS: list[dict[str, Any]] = [
    {},
    {"center_radius": None},
    {"center_radius": 0.75, "regress_range": (2.0, 5.0)},
    {"regress_range": (3, 3)},
]
STRIDES = (8, 16, 32)


@pytest.mark.parametrize("scene", reference.SCENES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_a_loop(scene: str, options: dict[str, Any]) -> None:
    points = reference.grid(STRIDES)
    made = reference.dense_scene([6, 0, 1, 16], points, seed=3, **reference.SCENES[scene])
    result = FCOS(**options)(made.predictions, made.targets, points)
    assert result.num_positives.sum() > 0
    reference.compare(result, reference.pictures(made, points), reference.fcos, unclear=0.02, **options)
    alone = FCOS(**options)(None, made.targets, points)
    if not made.predictions.batch_shape[:-1]:
        assert torch.equal(alone.target_index, result.target_index)


@pytest.mark.parametrize("count", [1, 3, 9, 84])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [60], [5, 0, 30]])
def test_sizes(count: int, sizes: list[int]) -> None:
    points = reference.grid(STRIDES, count=count)
    made = reference.dense_scene(sizes, points, seed=5, ignored=0.2)
    reference.compare(
        FCOS()(made.predictions, made.targets, points), reference.pictures(made, points), reference.fcos, unclear=0.02
    )


@examples(30)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(0, 10_000), st.sampled_from(range(4)))
def test_any_scene(sizes: list[int], seed: int, which: int) -> None:
    points = reference.grid((4, 8, 32))
    made = reference.dense_scene(sizes, points, seed=seed, ignored=0.2)
    result = FCOS(**OPTIONS[which])(made.predictions, made.targets, points)
    reference.compare(result, reference.pictures(made, points), reference.fcos, unclear=0.02, **OPTIONS[which])


@pytest.mark.parametrize("layers", [(), (2,), (2, 3)])
def test_several_batch_dimensions(layers: tuple[int, ...]) -> None:
    points = reference.grid((8, 16))
    made = reference.dense_scene([6, 0, 9], points, seed=7, layers=layers)
    result = FCOS()(made.predictions, made.targets, points)
    assert result.target_index.shape == (*layers, 3, len(points))
    reference.compare(result, reference.pictures(made, points), reference.fcos, unclear=0.02)


def call(*arguments: Any, **options: Any) -> list[int]:
    found: list[int] = reference.call(FCOS(**options), *arguments).target_index[0].tolist()
    return found


def test_a_point_on_the_border_is_outside() -> None:
    points = [(4, 4), (8, 4), (0, 4)]
    assert call([[0, 0, 8, 8]] * 3, [[0, 0, 8, 8]], points) == [0, -1, -1]


def test_the_middle_of_a_target() -> None:
    """Strictly within 1.5 strides of the centre, which is at 32."""
    points = [(20, 32), (20.5, 32), (32, 43.5), (32, 44), (32, 32)]
    gt = [[0, 0, 64, 64]]
    assert call([[0, 0, 1, 1]] * 5, gt, points) == [-1, 0, 0, -1, 0]
    assert call([[0, 0, 1, 1]] * 5, gt, points, center_radius=None) == [0] * 5


def test_the_smallest_target_wins_and_then_the_first() -> None:
    points = [(8, 8)]
    gt = [[0, 0, 16, 16], [4, 4, 12, 12], [2, 2, 14, 14], [4, 4, 12, 12]]
    assert call([[0, 0, 1, 1]], gt, points) == [1]
    # Also if areas differ by less than float32 can tell from 1e8.
    assert call([[0, 0, 1, 1]], [[0, 0, 16, 16], [0, 0, 16, 15.9]], points) == [1]


def test_each_level_has_sizes_of_its_own() -> None:
    """Between 4 and 8 strides to the farthest side; all smaller ones on the first level, all larger ones on the last."""
    points = grid_points((256, 256), STRIDES)
    middle, matcher = 128.0, FCOS(center_radius=1.0)
    for half, wanted in ((6, {8}), (50, {8}), (90, {16}), (115, {16, 32}), (250, {32})):
        box = torch.tensor([[middle - half, middle - half, middle + half, middle + half]])
        found = matcher(None, [{"boxes": box, "labels": torch.tensor([0])}], points).is_positive[0]
        assert set(points[found, 2].tolist()) == wanted, half


def test_one_level_has_all_sizes() -> None:
    points = grid_points((64, 64), [8])
    for half in (5.0, 500.0):
        box = torch.tensor([[32 - half, 32 - half, 32 + half, 32 + half]])
        assert FCOS()(None, [{"boxes": box, "labels": torch.tensor([0])}], points).is_positive.any()


def test_no_point_at_all() -> None:
    targets = [{"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([0])}]
    assert FCOS()(None, targets, torch.zeros(0, 4)).target_index.shape == (1, 0)


def test_costs() -> None:
    points = torch.tensor([[4.0, 4.0, 8.0, 8.0], [40.0, 4.0, 8.0, 8.0]])
    targets = [{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}]
    assert FCOS().costs(None, targets, points)["area"].tolist() == [[[64.0, torch.inf]]]


def test_units_and_formats() -> None:
    made = reference.dense_scene([5, 0, 9], reference.grid(STRIDES), seed=9)
    expected = FCOS()(made.predictions, made.targets, reference.grid(STRIDES)).target_index
    other = made.in_format(predictions="cxcywh", targets="xywh", normalized=True)
    found = FCOS()(other.predictions, other.targets, reference.grid(STRIDES)).target_index
    assert (found == expected).float().mean() > 0.98  # points on the border of fractions are either


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"regress_range": (8.0, 4.0)}, ValueError, "must be a pair"),
        ({"regress_range": (1.0, 2.0, 3.0)}, ValueError, "must be a pair"),
        ({"regress_range": 4.0}, TypeError, "regress_range must be a list of 2 numbers, got float"),
        ({"center_radius": -1.0}, ValueError, "center_radius must be positive, got -1.0"),
    ],
)
def test_wrong_parameters(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FCOS(**options)
