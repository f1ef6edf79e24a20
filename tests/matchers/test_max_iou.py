"""MaxIoU against a loop over priors and targets, and its rules one by one."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from reference import dense as reference

from matchers import MaxIoU, Predictions, Targets
from matchers.testing import scenes

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "ssd": {"pos_iou_thr": 0.4, "neg_iou_thr": 0.4},
    "between": {"pos_iou_thr": 0.6, "neg_iou_thr": 0.3, "min_pos_iou": 0.25},
    "range": {"pos_iou_thr": 0.5, "neg_iou_thr": (0.05, 0.35)},
    "all": {"pos_iou_thr": 0.7, "gt_max_assign_all": True},
    "own best": {"pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "gt_max_assign_all": True, "keep_best_target": True},
    "own best, first": {"pos_iou_thr": 0.7, "keep_best_target": True},
    "thresholds only": {"match_low_quality": False},
    "never background": {"neg_iou_thr": 0.0},
    "everything": {"pos_iou_thr": 0.0, "neg_iou_thr": 0.0},
    "whole numbers": {"pos_iou_thr": 1, "neg_iou_thr": 1},
}


def target(*boxes: Any, ignore: list[bool] | None = None) -> list[dict[str, torch.Tensor]]:
    image = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.zeros(len(boxes), dtype=torch.int64),
    }
    if ignore is not None:
        image["ignore"] = torch.tensor(ignore)
    return [image]


@pytest.mark.parametrize("scene", reference.FINITE_SCENES)
@pytest.mark.parametrize("name", OPTIONS)
def test_against_a_loop(name: str, scene: str) -> None:
    priors = reference.anchors()
    made = reference.dense_scene([6, 0, 1, 20], priors, seed=3, **reference.FINITE_SCENES[scene])
    images = reference.pictures(made, priors)
    result = MaxIoU(**OPTIONS[name])(made.predictions, made.targets, priors)
    reference.compare(result, images, reference.max_iou, **OPTIONS[name])


@examples(30)
@given(
    scenes(max_images=3, max_targets=20, min_predictions=1, max_predictions=40, bad=False), st.sampled_from([*OPTIONS])
)
def test_predicted_boxes_take_the_place_of_priors(scene: Any, name: str) -> None:
    images = reference.pictures(scene, scene.predictions.boxes)
    result = MaxIoU(**OPTIONS[name])(scene.predictions, scene.targets)
    reference.compare(result, images, reference.max_iou, unclear=0.1, **OPTIONS[name])


def test_a_prior_without_overlap_has_the_first_target_of_all() -> None:
    """Not the first of those whose tiles it is in."""
    corner = torch.cartesian_prod(torch.arange(0.0, 256, 8), torch.arange(0.0, 256, 8)).flip(-1)
    priors = torch.cat([corner, corner + 8], -1)
    result = MaxIoU(pos_iou_thr=0, neg_iou_thr=0)(None, target([200, 200, 240, 240], [10, 10, 50, 50]), priors)
    found, quality = result.target_index[0], result.quality[0]
    assert set(found[quality > 0].tolist()) == {0, 1} and (found[quality == 0] == 0).all()


@pytest.mark.parametrize("count", [1, 3, 84])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [60], [5, 0, 60]])
def test_sizes(count: int, sizes: list[int]) -> None:
    priors = reference.anchors(count=count)
    made = reference.dense_scene(sizes, priors, seed=5, ignored=0.2)
    for predictions in (None, made.predictions):
        result = MaxIoU()(predictions, made.targets, priors)
        reference.compare(result, reference.pictures(made, priors), reference.max_iou)


@pytest.mark.parametrize("layers", [(), (2,), (2, 3)])
def test_priors_of_each_image(layers: tuple[int, ...]) -> None:
    made = reference.dense_scene([6, 0, 9], reference.anchors(count=50), seed=7, layers=layers)
    priors = torch.stack([reference.anchors(count=50).roll(i, 0) + 3 * i for i in range(3)])
    result = MaxIoU()(made.predictions, made.targets, priors)
    assert result.target_index.shape == (*layers, 3, 50)
    reference.compare(result, reference.pictures(made, priors), reference.max_iou)
    if not layers:
        alone = MaxIoU()(None, made.targets, priors)
        assert torch.equal(alone.target_index, result.target_index)


def test_the_pair_with_the_higher_overlap_gets_the_shared_best_prior() -> None:
    priors = torch.tensor([[0.0, 0, 10, 10]])
    result = MaxIoU(pos_iou_thr=0.95)(None, target([0, 0, 10, 5], [0, 0, 10, 8]), priors)
    assert result.target_index.tolist() == [[1]]
    assert result.quality.tolist() == [[pytest.approx(0.8)]]


def test_a_prior_that_is_taken_may_keep_its_own_best_target() -> None:
    """The first target takes the only prior it overlaps; the prior overlaps the second more, but not enough."""
    priors = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 30]])
    boxes = target([0, 0, 5, 4], [0, 0, 10, 24])
    taken = MaxIoU(pos_iou_thr=0.9, neg_iou_thr=0.9)(None, boxes, priors)
    assert taken.target_index.tolist() == [[0, 1]]
    kept = MaxIoU(pos_iou_thr=0.9, neg_iou_thr=0.9, keep_best_target=True)(None, boxes, priors)
    assert kept.target_index.tolist() == [[1, 1]]
    assert kept.quality.tolist() == [[pytest.approx(100 / 240), pytest.approx(0.8)]]


def test_ties_go_to_the_first() -> None:
    priors = torch.tensor([[0.0, 0, 4, 8], [4.0, 0, 8, 8], [0.0, 0, 4, 8]])
    box = [0.0, 0, 8, 8]
    result = MaxIoU(pos_iou_thr=0.9, neg_iou_thr=0.9)(None, target(box, box), priors)
    assert result.target_index.tolist() == [[0, -1, -1]]
    result = MaxIoU(pos_iou_thr=0.9, neg_iou_thr=0.9, gt_max_assign_all=True)(None, target(box, box), priors)
    assert result.target_index.tolist() == [[0, 0, 0]]


def test_a_target_without_any_overlap_gets_nothing() -> None:
    """Not even with the least threshold: the first prior is no better than any other."""
    priors = reference.anchors()
    for box in ([8.0, 8, 8, 40], [9.0, 9, 9, 9], [500.0, 500, 600, 600]):
        for options in ({}, {"gt_max_assign_all": True}):
            result = MaxIoU(**options)(None, target(box), priors)
            assert (result.target_index == -1).all()


def test_taking_a_prior_from_another_target() -> None:
    """The best prior of the small target was positive for the large one."""
    priors = torch.tensor([[0.0, 0, 10, 10]])
    result = MaxIoU()(None, target([0, 0, 10, 9], [0, 0, 5, 5]), priors)
    assert result.target_index.tolist() == [[0]]
    priors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    result = MaxIoU()(None, target([0, 0, 10, 9], [0, 0, 10, 6]), priors)
    assert result.target_index.tolist() == [[0, 0]]
    priors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    result = MaxIoU()(None, target([0, 0, 10, 10], [0, 0, 10, 7.5]), priors)
    assert result.target_index.tolist() == [[0, 1]]


def test_thresholds_belong_to_the_upper_part() -> None:
    priors = torch.tensor([[0.0, 0, 10, 10]])
    boxes = target([0, 0, 10, 5])  # IoU 0.5
    only = {"match_low_quality": False}
    assert MaxIoU(**only)(None, boxes, priors).target_index.item() == 0
    assert MaxIoU(pos_iou_thr=0.6, neg_iou_thr=0.5, **only)(None, boxes, priors).target_index.item() == -2
    assert MaxIoU(pos_iou_thr=0.6, neg_iou_thr=(0.5, 0.6), **only)(None, boxes, priors).target_index.item() == -1
    assert MaxIoU(pos_iou_thr=0.6, neg_iou_thr=(0.55, 0.6), **only)(None, boxes, priors).target_index.item() == -2
    assert MaxIoU(pos_iou_thr=0.6, min_pos_iou=0.5)(None, boxes, priors).target_index.item() == 0
    assert MaxIoU(pos_iou_thr=0.6, min_pos_iou=0.51)(None, boxes, priors).target_index.item() == -2


def test_an_image_without_targets_is_background() -> None:
    result = MaxIoU(neg_iou_thr=(0.2, 0.4))(None, target(), reference.anchors())
    assert (result.target_index == -1).all()
    assert (result.quality == 0).all()


def test_unusable_boxes_get_nothing() -> None:
    boxes = reference.anchors().expand(2, -1, -1).clone()
    boxes[0, 3, 1], boxes[0, 5, 2], boxes[0, 9] = math.nan, math.inf, math.nan
    whole = target([0, 0, 40, 40]) * 2
    for result in (MaxIoU(pos_iou_thr=0.1, neg_iou_thr=0.1)(Predictions(boxes=boxes), whole),):
        assert (result.target_index[0, [3, 5, 9]] == -1).all()
        assert result.quality.isfinite().all()
        clean = MaxIoU(pos_iou_thr=0.1, neg_iou_thr=0.1)(None, whole, reference.anchors())
        assert torch.equal(result.target_index[1], clean.target_index[1])


def test_units() -> None:
    """Priors come in the unit of the targets; predictions are converted."""
    priors = reference.anchors()
    made = reference.dense_scene([5, 0, 3], priors, seed=9)
    expected = MaxIoU()(None, made.targets, priors).target_index
    other = made.in_format(predictions="xyxy", targets="cxcywh", normalized=(False, True))
    assert torch.equal(MaxIoU()(None, other.targets, priors / 64).target_index, expected)
    predictions = Predictions(boxes=priors.expand(3, -1, -1), box_format="xyxy", normalized=False)
    assert torch.equal(MaxIoU()(predictions, other.targets).target_index, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"pos_iou_thr": 0.3},
        {"pos_iou_thr": 0.6, "neg_iou_thr": 0.7},
        {"neg_iou_thr": (0.4, 0.3)},
        {"neg_iou_thr": -0.1},
        {"pos_iou_thr": math.nan},
    ],
)
def test_thresholds_out_of_order(options: dict[str, Any]) -> None:
    order = "thresholds must be in order, 0 <= low <= high <= pos_iou_thr <= 1; got"
    with pytest.raises(ValueError, match=f"{order}|neg_iou_thr must lie in \\[0, 1\\]|pos_iou_thr must be finite"):
        MaxIoU(**options)


@pytest.mark.parametrize("range_", [[0.1, 0.4], (0.1, 0.3, 0.4)])
def test_a_background_range_of_another_kind(range_: Any) -> None:
    """A list, as from a configuration file, either works or is named in the message."""
    message = ""
    try:
        MaxIoU(neg_iou_thr=range_)
    except (TypeError, ValueError) as error:
        message = str(error)
    assert not message or "neg_iou_thr" in message


def test_bad_arguments() -> None:
    priors = reference.anchors()
    made = reference.dense_scene([5, 0, 3], priors, seed=9)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pos_thr'"):
        MaxIoU(pos_thr=0.5)
    with pytest.raises(ValueError, match="there are neither predictions nor priors"):
        MaxIoU()(None, made.targets)
    with pytest.raises(ValueError, match="needs predicted boxes, got predictions without them"):
        MaxIoU()(Predictions(made.predictions.logits), made.targets)
    with pytest.raises(ValueError, match=r"priors must have shape \(84, 4\) or \(3, 84, 4\), got \(83, 4\)"):
        MaxIoU()(made.predictions, made.targets, priors[1:])
    with pytest.raises(ValueError, match=r"batch shape \(2,\) of predictions must end with the batch shape \(3,\)"):
        MaxIoU()(None, made.targets, priors.expand(2, -1, -1))
    with pytest.raises(ValueError, match=r"priors must have shape \(…, 4\), got \(84, 2\)"):
        MaxIoU()(None, made.targets, priors[:, :2])
    with pytest.raises(TypeError, match="priors must have a floating dtype, got torch.int64"):
        MaxIoU()(None, made.targets, priors.long())


def test_no_warnings() -> None:
    priors = reference.anchors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sizes in ([0, 0], [3, 0]):
            made = reference.dense_scene(sizes, priors, ignored=0.5)
            MaxIoU()(None, Targets.of(made.targets), priors)
