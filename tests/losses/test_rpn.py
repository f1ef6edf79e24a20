"""The criterion of a region proposal network: the ways to call it, sampling, and options against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION
from cases.common import STRIDES, to_levels
from cases.criteria.rpn import ANCHORS, CASE, EVERY_ONE
from cases.dense_images import dense_images
from reference.rpn_loss import rpn_loss

from losses import DeltaXYWHCoder, DensePredictions, FocalLoss, L1Loss, RPNCriterion
from matchers import Assignment, Hungarian, MaxIoU, Predictions, RandomSampler, Targets, detr_costs

SIZES = [3, 0, 2]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), torch.as_tensor(expected[name]).double(), rtol=1e-5, atol=1e-6)


def rich(sizes: list[int]) -> Targets:
    """Some targets weigh more, some are ignored, and labels may be anything."""
    samples = CASE.targets(sizes, 0).to_dicts()
    for sample in samples:
        count = len(sample["labels"])
        sample["weights"] = torch.linspace(0.5, 2.0, count)
        sample["ignore"] = torch.arange(count) % 3 == 1
        sample["labels"] = sample["labels"] + 1000
    return Targets.of(samples)


@pytest.mark.parametrize("sizes", [[3, 0, 1], [0], [0, 0], [1], [40]])
@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("num_samples", [8, 1000])
def test_against_the_reference(sizes: list[int], with_weights: bool, num_samples: int) -> None:
    targets = rich(sizes) if with_weights else CASE.targets(sizes, 0)
    criterion, predictions = CASE.make(sampler=RandomSampler(num_samples=num_samples)), CASE.predictions(sizes)
    assignment = criterion.assign(predictions, targets)
    images = dense_images(criterion.read(predictions), targets, assignment)
    assert ((~assignment.is_ignored).sum(-1) <= num_samples).all()
    assert (assignment.num_positives <= num_samples // 2).all()
    assert_same(criterion.loss(predictions, targets, assignment), rpn_loss(images))


def test_forms_of_predictions() -> None:
    criterion, predictions, targets = CASE.make(), CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    expected = criterion(predictions, targets)
    objectness, boxes = predictions
    bare = RPNCriterion(sampler=EVERY_ONE)
    for found in (
        criterion((objectness.squeeze(-1), boxes), targets),
        criterion((to_levels(objectness, STRIDES), to_levels(boxes, STRIDES)), targets),
        bare((objectness, boxes, ANCHORS), targets),
        bare(DensePredictions(objectness, boxes, ANCHORS), targets),
    ):
        assert_same(found, expected)


def test_several_anchors_in_a_cell() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 4.0, 16.0], [8.0, 0.0, 16.0, 8.0], [8.0, 0.0, 12.0, 16.0]])
    objectness, boxes = torch.randn(1, 4, 1), torch.randn(1, 4, 4)
    targets = Targets.of([{"boxes": anchors[[1, 2]], "labels": torch.tensor([2, 0])}])
    maps = [each.unflatten(1, (2, 2)).permute(0, 2, 3, 1).reshape(1, -1, 1, 2) for each in (objectness, boxes)]
    criterion = RPNCriterion(anchors=anchors)
    assert_same(criterion(([maps[0]], [maps[1]]), targets), criterion((objectness, boxes), targets))


@pytest.mark.parametrize("name", ["rpn", "retinanet", "atss"])
def test_targets_in_fractions_of_the_image_are_matched_in_pixels(name: str) -> None:
    case = EVERY_CRITERION[name]
    predictions, targets = case.predictions(SIZES), case.targets(SIZES, 0)
    fractions = targets.boxes.create_with_sample_sizes_like_self(targets.boxes_as("xyxy", normalized=True))
    other = Targets(fractions, targets.labels, normalized=True, canvas_size=targets.canvas_size)
    for matcher in (case.make().matcher, MaxIoU()):
        criterion = case.make(matcher=matcher)
        assert_same(criterion(predictions, other), criterion(predictions, targets))


def test_labels_are_not_read() -> None:
    predictions, targets = CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    expected = CASE.make()(predictions, targets)
    labels = targets.labels.create_with_sample_sizes_like_self(targets.labels.tensor + 70)
    boxes = {"boxes": targets.boxes, "canvas_size": targets.canvas_size}
    for other in (Targets(labels=labels, **boxes), Targets(**boxes)):
        assert_same(CASE.make()(predictions, other), expected)
        by_cost = CASE.make(matcher=Hungarian(detr_costs()))
        assert_same(by_cost(predictions, other), by_cost(predictions, targets))


def test_the_default_draws_256_of_each_image() -> None:
    corner = torch.cartesian_prod(torch.arange(30.0), torch.arange(30.0)) * 4
    anchors = torch.cat([corner, corner + 16], -1)
    targets = (
        [torch.tensor([[30.0, 30.0, 50.0, 50.0]]), torch.zeros(0, 4)],
        [torch.tensor([0]), torch.tensor([]).long()],
    )
    predictions = torch.zeros(2, 900), torch.zeros(2, 900, 4), anchors
    criterion = RPNCriterion(sampler=RandomSampler(num_samples=256, generator=torch.Generator().manual_seed(0)))
    found = criterion.assign(predictions, targets)
    assert (~found.is_ignored).sum(-1).tolist() == [256, 256]
    assert 0 < found.num_positives[0] < 128
    losses = criterion.loss(predictions, targets, found)
    torch.testing.assert_close(losses["loss_rpn_cls"], torch.tensor(2.0).log())
    assert criterion.counts(predictions, targets, found)["num_samples"] == 512
    default = RPNCriterion()
    assert default.sampler == RandomSampler(num_samples=256, positive_fraction=0.5)
    assert default.matcher == MaxIoU(pos_iou_thr=0.7, neg_iou_thr=0.3, gt_max_assign_all=True, keep_best_target=True)


def test_losses_coder_matcher_and_sampler_can_be_given() -> None:
    predictions, targets = CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    coder = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))
    criterion = CASE.make(bbox_coder=coder)
    images = dense_images(criterion.read(predictions), targets, criterion.assign(predictions, targets))
    assert_same(criterion(predictions, targets), rpn_loss(images, stds=coder.stds))
    assert CASE.make(loss_bbox=L1Loss())(predictions, targets)["loss_rpn_bbox"] > 0
    focal = CASE.make(loss_cls=FocalLoss())(predictions, targets)["loss_rpn_cls"]
    assert focal < CASE.make()(predictions, targets)["loss_rpn_cls"]
    seen: list[Any] = []

    def matcher(found: Predictions, of: Targets, priors: torch.Tensor) -> Assignment:
        seen.extend((found.logits, found.boxes, of.labels))
        return MaxIoU()(found, of, priors)

    first = CASE.make(matcher=matcher, sampler=lambda assignment: assignment)
    second = CASE.make(matcher=MaxIoU(), sampler=lambda assignment: assignment)
    assert_same(first(predictions, targets), second(predictions, targets))
    assert seen[0].shape[-1] == 1 and seen[1].shape[-1] == 4 and not seen[2].tensor.any()


def test_what_is_wrong_is_said() -> None:
    predictions, targets = CASE.predictions([1]), CASE.targets([1], 0)
    objectness, boxes = predictions
    with pytest.raises(TypeError, match="got 1 entries"):
        CASE.make()((objectness,), targets)
    with pytest.raises(ValueError, match="loss_bbox must have reduction='none'"):
        CASE.make(loss_bbox=torch.nn.SmoothL1Loss())
    with pytest.raises(ValueError, match="anchors must be as many for each of the 80 cells, got 3 in all"):
        RPNCriterion(anchors=ANCHORS[:3])((to_levels(objectness), to_levels(boxes)), targets)
    masked = CASE.make().read(predictions).with_class_mask(torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="RPNCriterion has one class, and takes no mask of them"):
        CASE.make()(masked, targets)
    with pytest.raises(ValueError, match="needs 'boxes' of the targets"):
        CASE.make()(predictions, Targets(labels=targets.labels))
