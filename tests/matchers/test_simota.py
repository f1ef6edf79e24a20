"""SimOTA against a loop over pairs, and its rules one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference import dense as reference
from torch import Tensor

from matchers import Predictions, SimOTA, read_targets

OPTIONS: list[dict[str, Any]] = [
    {},
    {"candidate_topk": 3, "center_radius": 1.0},
    {"iou_weight": 0.5, "cls_weight": 2.0, "candidate_topk": 200},
]


@pytest.mark.parametrize("scene", reference.SCENES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", [3, 4])
def test_against_a_loop(scene: str, options: dict[str, Any], seed: int) -> None:
    points = reference.grid()
    made = reference.dense_scene([6, 0, 1, 16], points, seed=seed, **reference.SCENES[scene])
    result = SimOTA(**options)(made.predictions, made.targets, points)
    assert result.num_positives.sum() > 0
    reference.compare(result, reference.pictures(made, points), reference.simota, unclear=0.03, **options)


@pytest.mark.parametrize("count", [1, 3, 9, 84])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [60], [5, 0, 30]])
def test_sizes(count: int, sizes: list[int]) -> None:
    points = reference.grid(count=count)
    made = reference.dense_scene(sizes, points, seed=5, ignored=0.2)
    result = SimOTA()(made.predictions, made.targets, points)
    reference.compare(result, reference.pictures(made, points), reference.simota, unclear=0.03)


@pytest.mark.parametrize("strides", [(4,), (4, 8, 16), (64,)])
def test_levels(strides: tuple[int, ...]) -> None:
    points = reference.grid(strides)
    made = reference.dense_scene([7, 0], points, seed=6, layers=(2, 1))
    result = SimOTA()(made.predictions, made.targets, points)
    assert result.target_index.shape == (2, 1, 2, len(points))
    reference.compare(result, reference.pictures(made, points), reference.simota, unclear=0.03)


def call(*arguments: Any, **options: Any) -> tuple[list[int], Tensor]:
    result = reference.call(SimOTA(**options), *arguments)
    return result.target_index[0].tolist(), result.num_invalid


def test_a_target_without_candidates_gets_nothing() -> None:
    far = [[200, 200, 204, 204]]
    assert call([[200, 200, 204, 204]], far, [(4, 4)])[0] == [-1]
    # A small target between the points, and a radius that reaches none of them.
    points = [(4, 4), (12, 4), (4, 12), (12, 12)]
    assert call([[7, 7, 9, 9]] * 4, [[7, 7, 9, 9]], points, center_radius=0.4)[0] == [-1] * 4
    assert call([[7, 7, 9, 9]] * 4, [[7, 7, 9, 9]], points, center_radius=0.6)[0] == [0] * 4


def test_at_least_one_and_at_most_the_sum_of_overlaps() -> None:
    points = [(4, 4), (12, 4), (4, 12), (12, 12)]
    gt = [[0, 0, 16, 16]]
    assert call([[0, 0, 1, 1]] * 4, gt, points)[0] == [0, -1, -1, -1]
    assert call([[0, 0, 16, 8]] * 4, gt, points)[0] == [0, 0, -1, -1]
    assert call([[0, 0, 16, 12]] * 4, gt, points)[0] == [0, 0, 0, -1]  # three exactly
    assert call([[0, 0, 16, 16]] * 4, gt, points)[0] == [0] * 4
    assert call([[0, 0, 16, 16]] * 4, gt, points, candidate_topk=2)[0] == [0, 0, -1, -1]


def test_a_sum_that_is_whole_but_for_rounding() -> None:
    """Ten overlaps of 0.3 or 0.7 do not add up to a whole number in float32."""
    for parts in ([0.3] * 10, [0.7] * 10, [0.1] * 10, [0.9, 0.6, 0.5], [0.2, 0.3, 0.5, 0.9, 0.1, 0.7, 0.3]):
        boxes = [[0, 0, 16, 16 * part] for part in parts]
        points = [(7 + 0.1 * i, 8) for i in range(len(parts))]
        taken = sum(g == 0 for g in call(boxes, [[0, 0, 16, 16]], points)[0])
        assert taken == round(sum(parts))


def test_twins_go_to_the_first() -> None:
    points = [(4, 4), (12, 4), (4, 12), (12, 12)]
    gt = [[0, 0, 16, 16]] * 3
    assert call([[0, 0, 16, 16]] * 4, gt, points)[0] == [0] * 4


def test_a_shared_prediction_goes_to_its_cheapest_target() -> None:
    points = [(4, 4), (12, 4)]
    gt, boxes = [[0, 0, 16, 8], [0, 0, 16, 8]], [[0, 0, 16, 8]] * 2
    logits = [[4.0, -4.0], [-4.0, 4.0]]
    assert call(boxes, gt, points, logits, [0, 1])[0] == [0, 1]
    assert call(boxes, gt, points, logits, [1, 0])[0] == [1, 0]


def test_a_point_in_the_box_and_near_the_centre_comes_first() -> None:
    gt = [[0, 0, 80, 16]]
    boxes = [[0, 0, 80, 16], [30, 0, 50, 16]]
    assert call(boxes, gt, [(4, 8), (40, 8)])[0] == [-1, 0]
    assert call(boxes, gt, [(4, 8), (40, 8)], center_radius=5)[0] == [0, -1]


def test_a_confident_prediction_costs_little() -> None:
    """In float32, 1 - sqrt(sigmoid(x)) vanishes around x = 16.7."""
    good, poor = [0, 0, 16, 8], [0, 0, 6, 8]
    for step in range(400):
        confident = 16.0 + step / 400
        taken, _ = call([good, poor], [[0, 0, 16, 8]], [(4, 4), (12, 4)], [[confident, -4.0], [0.0, 0.0]])
        assert taken == [0, -1], confident


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_unusable_box_is_the_last_resort(bad: float) -> None:
    points, gt = [(4, 4), (12, 4)], [[0, 0, 16, 8]]
    taken, invalid = call([[0, 0, bad, 8], [0, 0, 1, 1]], gt, points)
    assert taken == [-1, 0]
    assert invalid.tolist() == [1]


def test_an_unusable_logit_is_the_last_resort() -> None:
    points, gt, boxes = [(4, 4), (12, 4)], [[0, 0, 16, 8]], [[0, 0, 16, 3], [0, 0, 1, 1]]
    for logits in ([[math.nan, 0.0], [-9.0, 9.0]], [[0.0, math.nan], [-9.0, 9.0]]):
        taken, invalid = call(boxes, gt, points, logits)
        assert taken == [-1, 0]
        assert invalid.tolist() == [1]


def test_an_infinite_logit_is_not_preferred() -> None:
    points, gt, boxes = [(4, 4), (12, 4)], [[0, 0, 16, 8]], [[0, 0, 16, 3], [0, 0, 16, 3]]
    taken, invalid = call(boxes, gt, points, [[math.inf, 0.0], [2.0, 0.0]])
    assert taken == [-1, 0]
    assert invalid.tolist() == [1]


def test_units_and_formats() -> None:
    reference.check_units_and_formats(SimOTA(), reference.grid())


def test_bad_arguments() -> None:
    points = reference.grid()
    made = reference.dense_scene([5, 0, 3], points, seed=9)
    logits, boxes = made.predictions.logits, made.predictions.boxes
    matcher = SimOTA()
    with pytest.raises(ValueError, match="candidate_topk must be at least 1, got 0"):
        SimOTA(candidate_topk=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'topk'"):
        SimOTA(topk=10)
    with pytest.raises(ValueError, match=r"SimOTA needs priors: grid points \(P, 4\): x, y, stride in x, stride in y"):
        matcher(made.predictions, made.targets)
    with pytest.raises(
        ValueError, match=r"SimOTA needs the same grid points \(P, 4\) for all images, got \(3, 84, 4\)"
    ):
        matcher(made.predictions, made.targets, points.expand(3, -1, -1))
    with pytest.raises(ValueError, match=r"priors must have shape \(…, 4\), got \(84, 2\)"):
        matcher(made.predictions, made.targets, points[:, :2])
    with pytest.raises(ValueError, match=r"priors must have shape \(84, 4\) or \(3, 84, 4\), got \(83, 4\)"):
        matcher(made.predictions, made.targets, points[1:])
    with pytest.raises(ValueError, match="SimOTA needs class logits, got predictions without them"):
        matcher(Predictions(boxes=boxes), made.targets, points)
    with pytest.raises(ValueError, match="needs predicted boxes, got predictions without them"):
        matcher(Predictions(logits), made.targets, points)
    with pytest.raises(ValueError, match="needs predicted boxes, got predictions without them"):
        matcher(Predictions(logits[:1]), made.take([1]).targets, points)
    with pytest.raises(ValueError, match=r"label \d at position \d of sample \d is out of range for 1 classes"):
        matcher(Predictions(logits[..., :1], boxes), made.targets, points)
    image = {"boxes": torch.tensor([[0.1, 0.1, 0.2, 0.2]]), "labels": torch.tensor([0])}
    with pytest.raises(ValueError, match=r"boxes are fractions of the image, but pixels are needed: .*canvas_size"):
        matcher(Predictions(logits[:1], boxes[:1] / 64), read_targets([image], normalized=True), points)
