"""DynamicSoftLabel against a loop over pairs, and its rules one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference import dense as reference
from torch import Tensor

from matchers import DynamicSoftLabel, Predictions, read_targets

OPTIONS: list[dict[str, Any]] = [{}, {"topk": 3, "soft_center_radius": 1.0}, {"iou_weight": 0.5, "topk": 200}]


@pytest.mark.parametrize("scene", reference.SCENES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_against_a_loop(scene: str, options: dict[str, Any], offset: float) -> None:
    points = reference.grid(offset=offset)
    made = reference.dense_scene([6, 0, 1, 16], points, seed=3, **reference.SCENES[scene])
    result = DynamicSoftLabel(**options)(made.predictions, made.targets, points)
    assert result.num_positives.sum() > 0
    images = reference.pictures(made, points)
    reference.compare(result, images, reference.dynamic_soft_label, unclear=0.03, **options)


@pytest.mark.parametrize("count", [1, 3, 13, 84])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [60], [5, 0, 30]])
def test_sizes(count: int, sizes: list[int]) -> None:
    points = reference.grid(count=count)
    made = reference.dense_scene(sizes, points, seed=5, ignored=0.2)
    result = DynamicSoftLabel()(made.predictions, made.targets, points)
    reference.compare(result, reference.pictures(made, points), reference.dynamic_soft_label, unclear=0.03)


@pytest.mark.parametrize("strides", [(4,), (4, 8, 16), (64,)])
def test_levels(strides: tuple[int, ...]) -> None:
    points = reference.grid(strides)
    made = reference.dense_scene([7, 0], points, seed=6, layers=(2, 1))
    result = DynamicSoftLabel()(made.predictions, made.targets, points)
    assert result.target_index.shape == (2, 1, 2, len(points))
    reference.compare(result, reference.pictures(made, points), reference.dynamic_soft_label, unclear=0.03)


def test_distances_are_in_strides_along_x() -> None:
    points = reference.grid()
    points[:, 3] *= 4
    made = reference.dense_scene([6, 0, 9], points, seed=3)
    result = DynamicSoftLabel(soft_center_radius=0.5)(made.predictions, made.targets, points)
    images = reference.pictures(made, points)
    reference.compare(result, images, reference.dynamic_soft_label, unclear=0.03, soft_center_radius=0.5)


def call(*arguments: Any, **options: Any) -> tuple[list[int], Tensor]:
    result = reference.call(DynamicSoftLabel(**options), *arguments)
    return result.target_index[0].tolist(), result.num_invalid


def test_no_point_inside_any_target() -> None:
    assert call([[7, 7, 9, 9]] * 2, [[7, 7, 9, 9]], [(4, 4), (12, 12)])[0] == [-1, -1]
    assert call([[0, 0, 4, 4]] * 2, [[0, 0, 4, 4]], [(4, 4), (0, 2)])[0] == [-1, -1]  # on the edge is not inside


def test_a_target_may_take_a_point_inside_another() -> None:
    """Nothing but the cost keeps a target from it."""
    points = [(4, 4), (12, 12)]
    gt = [[0, 0, 8, 8], [9, 9, 11, 11]]
    assert call([[0, 0, 8, 8], [9, 9, 11, 11]], gt, points)[0] == [0, -1]
    both = call([[9, 9, 11, 11], [0, 0, 8, 8]], [[0, 0, 16, 16], [9, 9, 11, 11]], points)[0]
    assert both == [1, 0]


def test_at_least_one_and_at_most_the_sum_of_overlaps() -> None:
    points = [(4, 4), (12, 4), (4, 12), (12, 12)]
    gt = [[0, 0, 16, 16]]
    assert call([[0, 0, 1, 1]] * 4, gt, points)[0] == [0, -1, -1, -1]
    assert call([[0, 0, 16, 12]] * 4, gt, points)[0] == [0, 0, 0, -1]
    assert call([[0, 0, 16, 16]] * 4, gt, points)[0] == [0] * 4
    assert call([[0, 0, 16, 16]] * 4, gt, points, topk=2)[0] == [0, 0, -1, -1]


def test_twins_go_to_the_first() -> None:
    points = [(4, 4), (12, 4), (4, 12), (12, 12)]
    assert call([[0, 0, 16, 16]] * 4, [[0, 0, 16, 16]] * 3, points)[0] == [0] * 4


def test_the_overlap_is_the_soft_label() -> None:
    """A probability that is as high as the overlap costs less than one that is higher, or lower."""
    points, gt, boxes = [(4, 4), (4, 4), (4, 4)], [[0, 0, 10, 10]], [[0, 0, 10, 5]] * 3
    assert call(boxes, gt, points, [[4.0, -9.0], [0.0, -9.0], [-4.0, -9.0]])[0] == [-1, 0, -1]


def test_very_far_targets_have_finite_costs() -> None:
    points, gt = [(4, 4), (1e4, 4)], [[0, 0, 8, 8], [1e4 - 4, 0, 1e4 + 4, 8]]
    taken, invalid = call(gt, gt, points)
    assert taken == [0, 1]
    assert invalid.tolist() == [0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_unusable_box_is_the_last_resort(bad: float) -> None:
    taken, invalid = call([[0, 0, bad, 8], [0, 0, 1, 1]], [[0, 0, 16, 8]], [(4, 4), (12, 4)])
    assert taken == [-1, 0]
    assert invalid.tolist() == [1]


@pytest.mark.parametrize(
    "logits", [[math.nan, 0.0], [0.0, math.nan], [math.inf, 0.0], [0.0, math.inf], [-math.inf, 0.0]]
)
def test_an_unusable_logit_is_the_last_resort(logits: list[float]) -> None:
    boxes = [[0, 0, 16, 3], [0, 0, 1, 1]]
    taken, invalid = call(boxes, [[0, 0, 16, 8]], [(4, 4), (12, 4)], [logits, [-9.0, 9.0]])
    assert taken == [-1, 0]
    assert invalid.tolist() == [1]


def test_large_logits() -> None:
    """A finite cost is better than one that is not, however large it is."""
    boxes, gt, points = [[0, 0, 16, 3], [0, 0, 16, 3]], [[0, 0, 16, 8]], [(4, 4), (12, 4)]
    for large in (1e3, 1e10, 1e30):
        taken, invalid = call(boxes, gt, points, [[math.nan, 0.0], [0.0, large]])
        assert taken == [-1, 0]
        assert invalid.tolist() == [1]


def test_units_and_formats() -> None:
    reference.check_units_and_formats(DynamicSoftLabel(), reference.grid(offset=0.0))


def test_bad_arguments() -> None:
    points = reference.grid()
    made = reference.dense_scene([5, 0, 3], points, seed=9)
    logits, boxes = made.predictions.logits, made.predictions.boxes
    matcher = DynamicSoftLabel()
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        DynamicSoftLabel(topk=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'candidate_topk'"):
        DynamicSoftLabel(candidate_topk=10)
    with pytest.raises(ValueError, match=r"DynamicSoftLabel needs priors: grid points \(P, 4\): x, y, stride in x"):
        matcher(made.predictions, made.targets)
    with pytest.raises(ValueError, match=r"DynamicSoftLabel needs the same grid points \(P, 4\) for all images"):
        matcher(made.predictions, made.targets, points.expand(3, -1, -1))
    with pytest.raises(ValueError, match=r"priors must have shape \(84, 4\) or \(3, 84, 4\), got \(83, 4\)"):
        matcher(made.predictions, made.targets, points[1:])
    with pytest.raises(ValueError, match="DynamicSoftLabel needs class logits, got predictions without them"):
        matcher(Predictions(boxes=boxes), made.targets, points)
    with pytest.raises(ValueError, match="needs predicted boxes, got predictions without them"):
        matcher(Predictions(logits), made.targets, points)
    image = {"boxes": torch.tensor([[0.1, 0.1, 0.2, 0.2]]), "labels": torch.tensor([0])}
    with pytest.raises(ValueError, match=r"boxes are fractions of the image, but pixels are needed: .*canvas_size"):
        matcher(Predictions(logits[:1], boxes[:1] / 64), read_targets([image], normalized=True), points)
