"""TaskAligned against a loop over pairs, in all its flavours, and its rules one by one."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from reference import dense as reference

from matchers import Predictions, TaskAligned, read_targets

FLAVOURS: dict[str, TaskAligned] = {
    "tood": TaskAligned.tood(),
    "yolov8": TaskAligned.yolov8(),
    "yolov9": TaskAligned.yolov9(),
    "all inside": TaskAligned(topk=200, only_inside=True, quality="metric"),
    "one": TaskAligned(topk=1, beta=2.0, conflict="metric"),
    "overlap alone": TaskAligned(alpha=0.0, beta=1.0, overlap="ciou", quality="normalized_over_all"),
    "one-to-one": TaskAligned.yolov8(topk=7, topk2=1),
    "few of many": TaskAligned.yolov8(topk=9, topk2=3, min_side=40.0),
    "few by overlap": TaskAligned(topk=9, topk2=2, add_eps=True, min_side=20.0),
    "few by metric": TaskAligned(topk=9, topk2=3, conflict="metric", quality="metric"),
    "held by metric": TaskAligned(topk=9, conflict="overlap_inside", quality="metric"),
    "odd powers": TaskAligned(alpha=2.0, beta=3.5, only_inside=True, min_center_margin=2.0),
}


@pytest.mark.parametrize("scene", reference.SCENES)
@pytest.mark.parametrize("name", FLAVOURS)
def test_against_a_loop(scene: str, name: str) -> None:
    points, matcher = reference.grid(), FLAVOURS[name]
    made = reference.dense_scene([6, 0, 1, 16], points, seed=3, **reference.SCENES[scene])
    result = matcher(made.predictions, made.targets, points)
    assert scene == "all bad" or result.num_positives.sum() > 0
    images = reference.pictures(made, points)
    reference.compare(result, images, reference.task_aligned, unclear=0.03, **asdict(matcher))


@pytest.mark.parametrize("count", [1, 3, 10, 84])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [60], [5, 0, 30]])
@pytest.mark.parametrize("name", ["tood", "yolov8", "yolov9"])
def test_sizes(count: int, sizes: list[int], name: str) -> None:
    points, matcher = reference.grid(count=count), FLAVOURS[name]
    made = reference.dense_scene(sizes, points, seed=5, ignored=0.2)
    result = matcher(made.predictions, made.targets, points)
    images = reference.pictures(made, points)
    reference.compare(result, images, reference.task_aligned, unclear=0.03, **asdict(matcher))


@pytest.mark.parametrize("strides", [(4,), (4, 8, 16), (64,)])
def test_levels(strides: tuple[int, ...]) -> None:
    points, matcher = reference.grid(strides), TaskAligned()
    made = reference.dense_scene([7, 0], points, seed=6, layers=(2, 1))
    result = matcher(made.predictions, made.targets, points)
    assert result.target_index.shape == (2, 1, 2, len(points))
    reference.compare(result, reference.pictures(made, points), reference.task_aligned, unclear=0.03, **asdict(matcher))


def taken(*arguments: Any) -> list[int]:
    return reference.call(*arguments).target_index[0].tolist()


POINTS = [(4, 4), (12, 4), (4, 12), (12, 12)]
BOX = [0, 0, 16, 16]


def test_ties_go_to_the_first() -> None:
    assert taken(TaskAligned(topk=2), [BOX] * 4, [BOX], POINTS) == [0, 0, -1, -1]
    for name in ("tood", "yolov8", "yolov9"):
        assert taken(FLAVOURS[name], [BOX] * 4, [BOX] * 3, POINTS) == [0] * 4


def test_inside_first_or_afterwards() -> None:
    """A better prediction from outside takes a place in TOOD, and none in YOLOv8."""
    boxes, points = [BOX, [0, 0, 16, 12]], [(100, 100), (4, 4)]
    assert taken(TaskAligned(topk=1), boxes, [BOX], points) == [-1, -1]
    assert taken(TaskAligned(topk=1, only_inside=True), boxes, [BOX], points) == [-1, 0]
    assert taken(TaskAligned(topk=2), boxes, [BOX], points) == [-1, 0]


def test_without_overlap_nothing_is_taken() -> None:
    for matcher in FLAVOURS.values():
        if matcher.overlap == "iou":
            assert taken(matcher, [[40, 40, 50, 50]] * 4, [BOX], POINTS) == [-1] * 4


@pytest.mark.parametrize(("conflict", "expected"), [("overlap", 1), ("metric", 0)])
def test_conflicts(conflict: str, expected: int) -> None:
    """The first target has the better class, the second the better overlap."""
    gt = [[0, 0, 16, 14], BOX]
    result = taken(TaskAligned(conflict=conflict), [BOX], gt, [(4, 4)], [[8.0, -2.0]], [0, 1])
    assert result == [expected]


def test_qualities() -> None:
    boxes = [[0, 0, 16, 12], [0, 0, 16, 8], BOX]
    points = [(4, 4), (12, 4), (100, 100)]
    metrics = [0.5 * 0.75**2, 0.5 * 0.5**2]
    options = {"topk": 10, "beta": 2.0, "only_inside": True}

    def quality(kind: str) -> list[float]:
        return reference.call(TaskAligned(**options, quality=kind), boxes, [BOX], points).quality[0].tolist()

    assert quality("metric") == pytest.approx([*metrics, 0.0])
    assert quality("normalized") == pytest.approx([0.75, metrics[1] / metrics[0] * 0.75, 0.0])
    assert quality("normalized_over_all") == pytest.approx([1.0, metrics[1] / metrics[0], 0.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["tood", "yolov8", "yolov9"])
def test_an_unusable_box_gets_nothing(bad: float, name: str) -> None:
    result = reference.call(FLAVOURS[name], [[0, 0, bad, 16], [0, 0, 16, 15]], [BOX], POINTS[:2])
    assert result.target_index.tolist() == [[-1, 0]]
    assert result.num_invalid.tolist() == [1]
    assert result.quality.isfinite().all()


@pytest.mark.parametrize("name", ["tood", "yolov8", "yolov9"])
def test_an_unusable_logit_gets_nothing(name: str) -> None:
    result = reference.call(FLAVOURS[name], [BOX, [0, 0, 16, 15]], [BOX], POINTS[:2], [[math.nan, 0.0], [-3.0, 0.0]])
    assert result.target_index.tolist() == [[-1, 0]]
    assert result.num_invalid.tolist() == [1]


def test_an_infinite_logit_is_not_preferred() -> None:
    result = reference.call(TaskAligned(topk=1), [BOX, BOX], [BOX], POINTS[:2], [[math.inf, 0.0], [2.0, 0.0]])
    assert result.target_index.tolist() == [[-1, 0]]
    assert result.num_invalid.tolist() == [1]


@pytest.mark.parametrize("name", ["tood", "yolov8", "yolov9"])
def test_float64(name: str) -> None:
    points = reference.grid()
    made = reference.dense_scene([5, 0, 9], points, seed=9)
    expected = FLAVOURS[name](made.predictions, made.targets, points)
    double = made.cast(torch.float64)
    result = FLAVOURS[name](double.predictions, double.targets, points)
    assert torch.equal(result.target_index, expected.target_index)
    assert result.quality.dtype == torch.float32
    torch.testing.assert_close(result.quality, expected.quality, rtol=1e-4, atol=1e-5)


def test_presets() -> None:
    assert TaskAligned.tood() == TaskAligned(topk=13, alpha=1.0, beta=6.0, overlap="iou", min_center_margin=0.01)
    for preset in (TaskAligned.yolov8(), TaskAligned.yolov9()):
        assert (preset.topk, preset.alpha, preset.beta, preset.overlap) == (10, 0.5, 6.0, "ciou")
        assert preset.only_inside
    assert TaskAligned.yolov8().conflict == "overlap_inside" and TaskAligned.yolov8().add_eps
    assert TaskAligned.yolov8().min_side == 16 and TaskAligned.yolov8().topk2 is None
    assert TaskAligned.yolov9().conflict == "metric"
    assert TaskAligned.yolov9().quality == "normalized_over_all"


@pytest.mark.parametrize(("name", "expected"), [("tood", -1), ("yolov8", 0), ("yolov9", 0)])
def test_points_near_the_border(name: str, expected: int) -> None:
    """In TOOD a point has to be a hundredth of a pixel inside, in YOLOv9 just not on the border itself."""
    points = [(0, 8), (8, 16), (2.0**-7, 8), (8, 16 - 2.0**-7)]
    assert taken(FLAVOURS[name], [BOX] * 4, [BOX], points) == [-1, -1, expected, expected]


@pytest.mark.parametrize(("name", "expected"), [("yolov8", -1), ("yolov9", 0)])
def test_points_so_near_that_only_yolov9_takes_them(name: str, expected: int) -> None:
    assert taken(FLAVOURS[name], [BOX] * 2, [BOX], [(0, 8), (2.0**-31, 8)]) == [-1, expected]


def test_units_and_formats() -> None:
    reference.check_units_and_formats(TaskAligned(), reference.grid())


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="overlap must be 'iou' or 'ciou', got 'giou'"):
        TaskAligned(overlap="giou")
    with pytest.raises(ValueError, match="conflict must be one of 'overlap', 'metric', 'overlap_inside', got 'iou'"):
        TaskAligned(conflict="iou")
    with pytest.raises(ValueError, match="quality must be one of 'metric', 'normalized', 'normalized_over_all', got 1"):
        TaskAligned(quality=1)
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        TaskAligned(topk=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'gamma'"):
        TaskAligned(gamma=2.0)


def test_bad_arguments() -> None:
    points = reference.grid()
    made = reference.dense_scene([5, 0, 3], points, seed=9)
    logits, boxes = made.predictions.logits, made.predictions.boxes
    matcher = TaskAligned()
    with pytest.raises(ValueError, match=r"TaskAligned needs priors: grid points \(P, 4\): x, y, stride in x"):
        matcher(made.predictions, made.targets)
    with pytest.raises(ValueError, match=r"TaskAligned needs the same grid points \(P, 4\) for all images"):
        matcher(made.predictions, made.targets, points.expand(3, -1, -1))
    with pytest.raises(ValueError, match=r"priors must have shape \(84, 4\) or \(3, 84, 4\), got \(83, 4\)"):
        matcher(made.predictions, made.targets, points[1:])
    for scene in (made, made.take([1])):
        count = len(scene.targets.num_targets)
        with pytest.raises(ValueError, match="needs class logits, got predictions without them"):
            matcher(Predictions(boxes=boxes[:count]), scene.targets, points)
        with pytest.raises(ValueError, match="needs predicted boxes, got predictions without them"):
            matcher(Predictions(logits[:count]), scene.targets, points)
    image = {"boxes": torch.tensor([[0.1, 0.1, 0.2, 0.2]]), "labels": torch.tensor([0])}
    with pytest.raises(ValueError, match=r"boxes are fractions of the image, but pixels are needed: .*canvas_size"):
        matcher(Predictions(logits[:1], boxes[:1] / 64), read_targets([image], normalized=True), points)
