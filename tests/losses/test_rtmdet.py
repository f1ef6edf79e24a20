"""The criterion of RTMDet against a reference that takes one prediction at a time, and the ways to call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES
from cases.criteria import rtmdet
from cases.dense_images import dense_images
from reference.rtmdet_loss import rtmdet_loss
from torch import Tensor

from losses import AssignedTargets, DensePredictions, DistanceCoder, GIoULoss, QualityFocalLoss, total
from losses.criteria.dense.rtmdet import RTMDetCriterion
from matchers import Predictions, SimOTA, Targets, iou
from ragged import RaggedBatch

SIZES = [[3, 0, 1], [0], [0, 0], [1], [0, 4]]
CASE = rtmdet.CASE


def make(**options: Any) -> RTMDetCriterion:
    return RTMDetCriterion(CLASSES, strides=STRIDES, **options)


def make_targets(sizes: Sequence[int], dtype: torch.dtype, *, rich: bool) -> Targets:
    generator = torch.Generator().manual_seed(len(sizes))
    samples = []
    for boxes in CASE.boxes(sizes, 0):
        sample = {"boxes": boxes.to(dtype), "labels": torch.randint(CLASSES, (len(boxes),), generator=generator)}
        if rich:
            sample["weights"] = torch.rand(len(boxes), generator=generator, dtype=torch.float64).to(dtype) * 2
            sample["ignore"] = torch.arange(len(boxes)) % 3 == 1
        samples.append(sample)
    return Targets.of(samples)


def dense(sizes: Sequence[int], dtype: torch.dtype) -> DensePredictions:
    """With leaves that need a gradient."""
    read = make().read(CASE.predictions(sizes))
    leaf = lambda each: each.detach().to(dtype).clone().requires_grad_()  # noqa: E731
    return DensePredictions(leaf(read.logits), leaf(read.deltas), read.priors.to(dtype))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], inputs: list[Tensor]) -> None:
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if inputs[0].dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name], **tolerance)
    gradients = torch.autograd.grad(total(found), inputs, retain_graph=True)
    for one, other in zip(gradients, torch.autograd.grad(total(expected), inputs), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize(
    ("sizes", "rich"), [*((sizes, False) for sizes in SIZES), ([7, 0, 1], True), ([90], False), ([90], True)]
)
def test_values_and_gradients(sizes: list[int], rich: bool) -> None:
    for dtype in (torch.float64, torch.float32):
        read, targets, criterion = dense(sizes, dtype), make_targets(sizes, dtype, rich=rich), make()
        assignment = criterion.assign(read, targets)
        assert assignment.is_positive.any() == (sum(sizes) > 0)
        assert assignment.is_ignored.any() == rich
        assert_same(
            criterion(read, targets), rtmdet_loss(dense_images(read, targets, assignment)), [read.logits, read.deltas]
        )


def test_quality_is_the_overlap_of_the_predicted_box() -> None:
    read, targets = dense([3, 0, 1], torch.float32), CASE.targets([3, 0, 1])
    assignment = make().assign(read, targets)
    boxes = DistanceCoder().decode(read.priors, read.deltas)
    expected = iou(boxes, assignment.gather(targets.boxes)).where(assignment.is_positive, 0)
    torch.testing.assert_close(assignment.quality, expected.detach(), rtol=1e-5, atol=1e-6)
    assert (assignment.quality > 0.3).any()


def test_targets_that_are_assigned_already() -> None:
    sizes = [3, 0, 2]
    read, targets, criterion = dense(sizes, torch.float64), make_targets(sizes, torch.float64, rich=False), make()
    assignment = criterion.assign(read, targets)
    labels = assignment.gather(targets.labels, fill=CLASSES)
    given = AssignedTargets.from_dense(
        labels,
        assignment.gather(targets.boxes, fill=torch.nan),
        num_classes=CLASSES,
        quality=assignment.quality,
        weights=torch.ones(labels.shape, dtype=torch.float64),
    )
    expected = criterion.loss(read, targets, assignment)
    assert_same(criterion.loss(read, given), expected, [read.logits, read.deltas])
    other = criterion.loss(read, given, global_count=5.0)
    quality = assignment.quality.double().sum()
    assert quality > 1
    for name, value in expected.items():
        torch.testing.assert_close(other[name], value * quality / 5)


def test_label_weights() -> None:
    read = dense([2], torch.float64)
    labels = torch.full(read.logits.shape[:2], CLASSES)
    labels[0, :3] = torch.tensor([1, 0, 4])
    boxes = DistanceCoder().decode(read.priors, torch.full_like(read.deltas, 8.0))
    quality, weights = torch.full(labels.shape, 0.75), torch.ones(labels.shape)
    weights[0, 1], weights[0, 5] = 0.0, 0.0
    given = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, quality=quality, weights=weights)
    changed = read.logits.detach().clone()
    changed[0, [1, 5]] += 3
    other = DensePredictions(changed, read.deltas, read.priors)
    assert make().loss(read, given) == make().loss(other, given)
    assert make().counts(read, given) == {"sum_of_quality": 1.5}
    unweighted = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, quality=quality)
    assert make().loss(read, unweighted) != make().loss(other, unweighted)


def test_boxes_are_distances_from_the_corners_of_cells() -> None:
    maps = [torch.zeros(1, CLASSES, 3, 4)], [torch.full((1, 4, 3, 4), 2.0)]
    criterion = RTMDetCriterion(CLASSES, strides=(8,))
    read = criterion.read(maps)
    assert read.priors[5].tolist() == [8.0, 8.0, 8.0, 8.0]
    target = {"boxes": torch.tensor([[6.0, 6.0, 10.0, 10.0]]), "labels": torch.tensor([2])}
    assignment = criterion.assign(maps, [target])
    assert assignment.is_positive.nonzero().tolist() == [[0, 5]] and assignment.quality[0, 5] > 0.999
    assert criterion(maps, [target])["loss_bbox"] < 1e-5


def test_another_matcher() -> None:
    criterion, predictions, targets = make(matcher=SimOTA()), CASE.predictions([3, 0]), CASE.targets([3, 0])
    read = criterion.read(predictions)
    found = Predictions(read.logits, DistanceCoder().decode(read.priors, read.deltas), box_format="xyxy")
    assignment = SimOTA()(found, targets, read.priors)
    assert torch.equal(criterion.assign(predictions, targets).target_index, assignment.target_index)
    assert criterion(predictions, targets) == criterion.loss(predictions, targets, assignment)


def test_losses_and_coder_can_be_given() -> None:
    predictions, targets = CASE.predictions([3, 1]), CASE.targets([3, 1])
    expected = make()(predictions, targets)
    doubled = make(loss_cls=QualityFocalLoss(loss_weight=2.0), loss_bbox=GIoULoss(loss_weight=4.0))(
        predictions, targets
    )
    for name, value in expected.items():
        torch.testing.assert_close(doubled[name], value * 2)
    strides = [each / stride for each, stride in zip(predictions[1], STRIDES, strict=True)]
    scaled = make(coder=DistanceCoder(scale_by_stride=True))((predictions[0], strides), targets)
    for name, value in expected.items():
        torch.testing.assert_close(scaled[name], value, rtol=1e-5, atol=1e-6)


def test_parts_of_the_default() -> None:
    criterion = RTMDetCriterion(CLASSES)
    assert criterion.strides == (8, 16, 32)
    assert isinstance(criterion.loss_cls, QualityFocalLoss) and criterion.loss_cls.beta == 2
    assert isinstance(criterion.loss_bbox, GIoULoss) and criterion.loss_bbox.loss_weight == 2


def test_values_of_predictions() -> None:
    predictions, targets = CASE.predictions([3, 0]), CASE.targets([3, 0])
    losses = make(reduction="none")(predictions, targets)
    assert isinstance(losses["loss_bbox"], RaggedBatch)
    assert torch.equal(losses["loss_bbox"].tensor > 0, make().assign(predictions, targets).quality > 0)
    assert (losses["loss_cls"].tensor > 0).all()


def levels(channels: Sequence[int], sides: Sequence[int] = (8, 4)) -> list[list[Tensor]]:
    return [[torch.ones(2, k, side, side) for side in sides] for k in channels]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (levels((CLASSES + 1, 4)), r"class scores of level 0 must have shape \(B, 5, h, w\), got \(2, 6, 8, 8\)"),
        (levels((CLASSES, 5)), r"boxes of level 0 must have shape \(B, 4, h, w\), got \(2, 5, 8, 8\)"),
        (levels((CLASSES, 4), (8, 4, 2)), r"class scores must have a map for each of the strides \(8, 16\), got 3"),
        (levels((CLASSES, 4), (8, 3)), r"no image has feature maps .* at strides \(8, 16\)"),
        (
            DensePredictions(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.zeros(3, 4)),
            r"class scores must have the shape of num_classes = 5, \(2, 3, 5\), got \(2, 3, 4\)",
        ),
    ],
)
def test_predictions_that_do_not_fit(predictions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(predictions, CASE.targets([1, 0]))


def test_other_arguments_that_do_not_fit() -> None:
    predictions, targets = CASE.predictions([1, 0]), CASE.targets([1, 0])
    with pytest.raises(TypeError, match=r"\(class scores, boxes\).*got 3 entries"):
        make().read((*predictions, predictions[0]))
    with pytest.raises(ValueError, match="loss_cls must have reduction='none', got 'mean'"):
        make(loss_cls=torch.nn.BCEWithLogitsLoss())
    with pytest.raises(TypeError, match="loss_bbox must be a loss"):
        make(loss_bbox="giou")
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        RTMDetCriterion(0)
    boxes = [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 9.0, 9.0]])]
    with pytest.raises(ValueError, match="label 7 at position 0 of sample 1 is out of range for 5 classes"):
        make()(predictions, (boxes, [torch.zeros(0).long(), torch.tensor([7])]))
    with pytest.raises(KeyError, match="global_count has no 'sum_of_quality'"):
        make()(predictions, targets, global_count={"num_positives": 1.0})
