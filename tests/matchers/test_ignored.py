"""Ignored targets: they are never matched, and what lies in them without a target does not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from reference import dense as reference
from torch import Tensor

from matchers import (
    ATSS,
    FCOS,
    Assignment,
    DynamicSoftLabel,
    Hungarian,
    MaxIoU,
    Predictions,
    Problem,
    SimOTA,
    Targets,
    TaskAligned,
    detr_costs,
)
from matchers.pairs.ignored import (
    in_ignored_region,
    mark_ignored,
    point_in_region,
    predicted_box_in_region,
    prior_box_in_region,
)
from matchers.testing import Scene, scenes

POINTS, ANCHORS, LEVELS = reference.grid(), reference.anchors(), reference.level_sizes()
Call = Callable[[Scene], Assignment]


def with_points(matcher: Any) -> Call:
    return lambda scene: matcher(scene.predictions, scene.targets, POINTS)


CALLS: dict[str, tuple[Call, Any, dict[str, Any]]] = {
    "max_iou": (lambda scene: MaxIoU()(None, scene.targets, ANCHORS), reference.max_iou, {}),
    "atss": (lambda scene: ATSS()(None, scene.targets, ANCHORS, level_sizes=LEVELS), reference.atss, {}),
    "fcos": (with_points(FCOS()), reference.fcos, {}),
    "simota": (with_points(SimOTA()), reference.simota, {}),
    "dynamic_soft_label": (with_points(DynamicSoftLabel()), reference.dynamic_soft_label, {}),
    "task_aligned": (with_points(TaskAligned()), reference.task_aligned, asdict(TaskAligned())),
    "yolov9": (with_points(TaskAligned.yolov9()), reference.task_aligned, asdict(TaskAligned.yolov9())),
}


def flags(scene: Scene, *rows: list[bool]) -> Scene:
    boxes = scene.targets.boxes
    ignore = torch.zeros(boxes.mask.shape, dtype=torch.bool)
    for row, values in zip(ignore, rows, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.bool)
    targets = replace(scene.targets, ignore=scene.targets.labels.create_with_sample_sizes_like_self(ignore))
    return replace(scene, targets=targets)


def images_of(name: str, scene: Scene) -> list[reference.Picture]:
    if name in ("max_iou", "atss"):
        return reference.pictures(scene, ANCHORS, LEVELS if name == "atss" else None)
    return reference.pictures(scene, POINTS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("part", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("options", [{}, {"steps": 8}, {"odd": True, "filler": "nan", "slack": 3}], ids=str)
def test_against_a_loop(name: str, part: float, options: dict[str, Any]) -> None:
    call, loop, arguments = CALLS[name]
    scene = reference.dense_scene([6, 0, 1, 16], POINTS, 3, ignored=part, **options)
    result = call(scene)
    assert part < 0.5 or result.is_ignored.any()
    reference.compare(result, images_of(name, scene), loop, unclear=0.03, **arguments)


@pytest.mark.parametrize("name", CALLS)
def test_in_the_middle_of_others(name: str) -> None:
    """The others are matched as if it was not there, and keep their indices."""
    call = CALLS[name][0]
    scene = reference.dense_scene([5, 4], POINTS, 4)
    ignoring = flags(scene, [False, True, False, True, False], [True, False, False, True])
    result = call(ignoring)
    for image, kept in enumerate([[0, 2, 4], [1, 2]]):
        boxes, labels = scene.targets.boxes.tensor[image, kept], scene.targets.labels.tensor[image, kept]
        predictions = scene.take([image]).predictions
        alone = call(Scene(predictions, Targets.of([{"boxes": boxes, "labels": labels}])))
        own = result.target_index[image]
        positive = alone.target_index[0] >= 0
        assert torch.equal(own >= 0, positive)
        assert torch.equal(own[positive], torch.tensor(kept)[alone.target_index[0][positive]])
        assert torch.equal(result.quality[image], alone.quality[0])
        # What is not positive stays as it is, or no longer counts.
        assert ((own == alone.target_index[0]) | (own == -2))[~positive].all()
    assert result.num_targets.tolist() == [5, 4]


@pytest.mark.parametrize("name", CALLS)
def test_a_region_over_everything(name: str) -> None:
    """Only what has no target does not count; without the flag, it is background."""
    call = CALLS[name][0]
    scene = reference.dense_scene([3, 1], POINTS, 5)
    gt = scene.targets.boxes.tensor.clone()
    gt[0, 1], gt[1, 0] = (big := torch.tensor([-50.0, -50, 150, 150])), big
    changed = replace(scene.targets, boxes=scene.targets.boxes.create_with_sample_sizes_like_self(gt))
    scene = flags(replace(scene, targets=changed), [False, True, False], [True])
    result = call(scene)
    assert (result.target_index[0] != -1).all()
    assert result.is_positive[0].any() and not (result.target_index[0] == 1).any()
    assert (result.target_index[1] == -2).all()
    assert (result.quality[1] == 0).all()


@pytest.mark.parametrize("name", CALLS)
def test_flags_that_are_all_false(name: str) -> None:
    call = CALLS[name][0]
    scene = reference.dense_scene([5, 0, 4], POINTS, 6)
    result, expected = call(flags(scene, [False] * 5, [], [False] * 4)), call(scene)
    assert torch.equal(result.target_index, expected.target_index)
    assert torch.equal(result.quality, expected.quality)


@pytest.mark.parametrize("name", CALLS)
def test_an_ignored_target_counts_no_invalid_costs(name: str) -> None:
    scene = reference.dense_scene([3], POINTS, 7, bad=1.0)
    assert CALLS[name][0](flags(scene, [True] * 3)).num_invalid.tolist() == [0]


def test_how_much_of_a_prior_must_be_inside() -> None:
    priors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [100, 0, 100, 10]])
    image = {"boxes": torch.tensor([[5.0, 0, 26, 10]]), "labels": torch.tensor([0]), "ignore": torch.tensor([True])}
    for matcher in (MaxIoU, ATSS):
        for threshold, expected in [
            (0.3, [-2, -2, -1]),
            (0.5, [-2, -2, -1]),
            (0.55, [-1, -2, -1]),
            (0.7, [-1, -1, -1]),
        ]:
            assert matcher(ignore_iof=threshold)(None, [image], priors).target_index.tolist() == [expected]


def test_how_much_of_a_prediction_must_be_inside() -> None:
    """Half of it is enough."""
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 9], [0, 0, 8, 7]]])
    image = {"boxes": torch.tensor([[0.0, 0, 8, 4]]), "labels": torch.tensor([0]), "ignore": torch.tensor([True])}
    predictions = Predictions(torch.zeros(1, 3, 1), boxes)
    for matcher in (MaxIoU(), Hungarian(detr_costs())):
        assert matcher(predictions, [image]).target_index.tolist() == [[-2, -1, -2]]


def test_parts_of_several_regions_are_not_added_up() -> None:
    priors = torch.tensor([[0.0, 0, 10, 10]])
    image = {
        "boxes": torch.tensor([[0.0, 0, 4, 10], [4.0, 0, 8, 10]]),
        "labels": torch.tensor([0, 0]),
        "ignore": torch.tensor([True, True]),
    }
    assert MaxIoU()(None, [image], priors).target_index.tolist() == [[-1]]


# --- the functions ---------------------------------------------------------------------------------------------------


def naive(scene: Scene, boxes: Tensor | None, threshold: float) -> list[list[bool]]:
    rows = []
    for image in scene.images():
        regions = image.gt_boxes[image.ignore].tolist()
        own = (image.boxes if boxes is None else boxes).tolist()
        rows.append([any(reference.part_inside(box, region) >= threshold for region in regions) for box in own])
    return rows


@examples(40)
@given(
    scenes(max_images=3, max_targets=12, min_predictions=1, max_predictions=30, bad=False),
    st.sampled_from([0.25, 0.5, 1.0]),
)
def test_regions(scene: Scene, threshold: float) -> None:
    count = scene.predictions.num_predictions
    priors = reference.anchors((4, 8), count=count)
    problem = Problem.of(scene.predictions, scene.targets, priors)
    points = (priors[:, :2] + priors[:, 2:]) / 2
    tests = {
        "predicted": (predicted_box_in_region(threshold), naive(scene, None, threshold)),
        "prior": (prior_box_in_region(threshold), naive(scene, priors, threshold)),
    }
    for test, expected in tests.values():
        found = in_ignored_region(problem, test)
        assert (found is None) == (scene.targets.ignore is None)
        if found is not None:
            differing = found != torch.tensor(expected)
            assert differing.float().mean() <= 0.02  # a part that is the threshold but for rounding
    within = [
        [
            any(reference.is_inside(*point, region) for region in image.gt_boxes[image.ignore].tolist())
            for point in points.tolist()
        ]
        for image in scene.images()
    ]
    for given_points in (points, points.expand(problem.num_samples, -1, -1)):
        found = in_ignored_region(problem, point_in_region(given_points))
        if found is not None:
            assert found.tolist() == within


def test_an_unusable_prediction_lies_nowhere() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [float("nan"), 0, 4, 4], [0.0, 0, float("inf"), 4]]])
    image = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0]), "ignore": torch.tensor([True])}
    problem = Problem.of(Predictions(boxes=boxes), [image])
    found = in_ignored_region(problem, predicted_box_in_region(0.5))
    assert found.tolist() == [[True, False, False]]


def test_marking() -> None:
    index = torch.tensor([[3, -1, -2, -1]])
    assert mark_ignored(index, None) is index
    region = torch.tensor([[True, True, True, False]])
    assert mark_ignored(index, region).tolist() == [[3, -2, -2, -1]]
