"""The criterion of RetinaNet: the ways to call it, and options against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES, to_levels
from cases.criteria.retinanet import ANCHORS, CASE
from cases.dense_images import dense_images
from reference.retinanet_loss import retinanet_loss

from losses import DeltaXYWHCoder, DensePredictions, GIoULoss, RetinaNetCriterion, smooth_l1_loss
from matchers import Targets

SIZES = [3, 0, 2]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), torch.as_tensor(expected[name]).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [[3, 0, 1], [0], [0, 0], [1], [40]])
def test_against_the_reference(sizes: list[int]) -> None:
    criterion, predictions, targets = CASE.make(), CASE.predictions(sizes), CASE.targets(sizes, 0)
    images = dense_images(criterion.read(predictions), targets, criterion.assign(predictions, targets))
    assert_same(criterion(predictions, targets), retinanet_loss(images))


def test_forms_of_predictions() -> None:
    criterion, predictions, targets = CASE.make(), CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    expected = criterion(predictions, targets)
    scores, boxes = predictions["cls_logits"], predictions["bbox_regression"]
    bare = RetinaNetCriterion(CLASSES)
    for found in (
        criterion((scores, boxes), targets),
        criterion((to_levels(scores, STRIDES), to_levels(boxes, STRIDES)), targets),
        bare((scores, boxes, ANCHORS), targets),
        bare(predictions | {"anchors": ANCHORS}, targets),
        bare(DensePredictions(scores, boxes, ANCHORS), targets),
    ):
        assert_same(found, expected)


def test_several_anchors_in_a_cell() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 4.0, 16.0], [8.0, 0.0, 16.0, 8.0], [8.0, 0.0, 12.0, 16.0]])
    scores, boxes = torch.randn(1, 4, 3), torch.randn(1, 4, 4)
    targets = Targets.of([{"boxes": anchors[[1, 2]], "labels": torch.tensor([2, 0])}])
    maps = [each.unflatten(1, (2, 2)).permute(0, 2, 3, 1).reshape(1, -1, 1, 2) for each in (scores, boxes)]
    criterion = RetinaNetCriterion(3, anchors=anchors)
    assert_same(criterion(([maps[0]], [maps[1]]), targets), criterion((scores, boxes), targets))


def test_losses_and_coder_can_be_given() -> None:
    coder = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))
    predictions, targets = CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    criterion = CASE.make(bbox_coder=coder)
    images = dense_images(criterion.read(predictions), targets, criterion.assign(predictions, targets))
    assert_same(criterion(predictions, targets), retinanet_loss(images, stds=coder.stds))
    smooth = CASE.make(loss_bbox=smooth_l1_loss)(predictions, targets)
    assert smooth["loss_bbox"] < CASE.make()(predictions, targets)["loss_bbox"]


def test_what_is_wrong_is_said() -> None:
    predictions, targets = CASE.predictions([1]), CASE.targets([1], 0)
    scores, boxes = predictions["cls_logits"], predictions["bbox_regression"]
    with pytest.raises(TypeError, match="got 1 entries"):
        CASE.make()((scores,), targets)
    with pytest.raises(ValueError, match="which RetinaNetCriterion does not read"):
        CASE.make()(DensePredictions(scores, boxes, ANCHORS, confidence=scores[..., 0]), targets)
    with pytest.raises(ValueError, match="loss_bbox must have reduction='none'"):
        CASE.make(loss_bbox=GIoULoss(reduction="mean"))
    with pytest.raises(ValueError, match="anchors must be as many for each of the 80 cells, got 3 in all"):
        RetinaNetCriterion(CLASSES, anchors=ANCHORS[:3])((to_levels(scores), to_levels(boxes)), targets)
