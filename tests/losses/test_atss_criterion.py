"""The criterion of ATSS against a reference that takes one prediction at a time, and the ways to call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES
from cases.criteria import atss
from cases.dense_images import dense_images
from reference.atss_loss import atss_loss, centerness
from torch import Tensor

from losses import AssignedTargets, DensePredictions, L1Loss, Normalizer, total
from losses.criteria.dense.atss import ATSSCriterion
from losses.modules.boxes import GIoULoss
from losses.modules.classes import BinaryCrossEntropy, FocalLoss
from matchers import ATSS, MaxIoU, Targets, anchors
from matchers.testing import CANVAS, make_boxes
from ragged import RaggedBatch

SIZES = [[3, 0, 1], [0], [0, 0], [1], [0, 4]]
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "qfl": ({"use_qfl": True}, {"use_qfl": True}),
    "encoded": ({"reg_decoded_bbox": False, "loss_bbox": L1Loss()}, {"decoded": False}),
    "encoded qfl": (
        {"reg_decoded_bbox": False, "loss_bbox": L1Loss(), "use_qfl": True},
        {"decoded": False, "use_qfl": True},
    ),
    "background": ({"bg_loss_weight": 0.3}, {"background": 0.3}),
    "no background": ({"bg_loss_weight": 0.0, "use_qfl": True}, {"background": 0.0, "use_qfl": True}),
    "no centerness": ({"use_centerness": False}, {"with_centerness": False}),
}
CASE, make = atss.CASES["atss"], atss.make


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


def dense(predictions: Any, dtype: torch.dtype, *, centerness: bool = True) -> DensePredictions:
    """With leaves that need a gradient."""
    read = make().read(predictions)
    leaf = lambda each: each.detach().to(dtype).clone().requires_grad_()  # noqa: E731
    confidence = leaf(read.confidence) if centerness else None
    return DensePredictions(leaf(read.logits), leaf(read.deltas), read.priors.to(dtype), confidence, read.level_sizes)


def leaves(read: DensePredictions) -> list[Tensor]:
    return [each for each in (read.logits, read.deltas, read.confidence) if each is not None]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], inputs: list[Tensor]) -> None:
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if inputs[0].dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name], **tolerance)
    gradients = torch.autograd.grad(total(found), inputs, retain_graph=True)
    for one, other in zip(
        gradients, torch.autograd.grad(total(expected), inputs, retain_graph=True, materialize_grads=True), strict=True
    ):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize(
    ("name", "sizes", "rich"),
    [(name, [7, 0, 1], True) for name in OPTIONS]
    + [(name, sizes, False) for name in ("default", "qfl") for sizes in SIZES]
    + [("default", [90], False), ("default", [90], True)],
)
def test_values_and_gradients(name: str, sizes: list[int], rich: bool) -> None:
    options, plain = OPTIONS[name]
    for dtype in (torch.float64, torch.float32):
        read = dense(CASE.predictions(sizes), dtype, centerness=options.get("use_centerness", True))
        targets = make_targets(sizes, dtype, rich=rich)
        criterion = make(matcher=ATSS(ignore_iof=0.1), **options)
        assignment = criterion.assign(read, targets)
        assert assignment.is_positive.any() == (sum(sizes) > 0)
        assert assignment.is_ignored.any() == rich
        expected = atss_loss(dense_images(read, targets, assignment), **plain)
        assert_same(criterion(read, targets), expected, leaves(read))


@pytest.mark.parametrize("use_qfl", [False, True])
def test_classes_that_an_image_was_not_annotated_for(use_qfl: bool) -> None:
    sizes = [3, 0, 2]
    read, targets = dense(CASE.predictions(sizes), torch.float64), make_targets(sizes, torch.float64, rich=False)
    mask = torch.rand(3, CLASSES, generator=torch.Generator().manual_seed(0)) > 0.5
    criterion = make(use_qfl=use_qfl)
    assignment = criterion.assign(read, targets)
    images = dense_images(read, targets, assignment)
    expected = atss_loss(images, use_qfl=use_qfl, valid_classes=mask.double().tolist())
    for form in (mask, mask.float(), mask.unsqueeze(1), mask.unsqueeze(1).expand(read.logits.shape)):
        assert_same(criterion(read, targets, valid_label_mask=form), expected, leaves(read))
        assert_same(criterion.loss(read, targets, assignment, valid_label_mask=form), expected, leaves(read))
    assert criterion(read, targets)["loss_cls"] > expected["loss_cls"]


def test_a_class_that_counts_nowhere_has_no_gradient() -> None:
    read, targets = dense(CASE.predictions([4]), torch.float32), CASE.targets([4])
    mask = torch.tensor([[True, True, False, True, True]])
    total(make()(read, targets, valid_label_mask=mask)).backward()
    assert read.logits.grad is not None
    assert not read.logits.grad[..., 2].any() and read.logits.grad[..., 3].all()


def test_targets_that_are_assigned_already() -> None:
    sizes = [3, 0, 2]
    read, targets = dense(CASE.predictions(sizes), torch.float64), make_targets(sizes, torch.float64, rich=False)
    criterion = make()
    assignment = criterion.assign(read, targets)
    labels = assignment.gather(targets.labels, fill=CLASSES)
    boxes = assignment.gather(targets.boxes, fill=torch.nan)
    weights = torch.ones(labels.shape, dtype=torch.float64)
    given = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, weights=weights)
    found, expected = criterion.loss(read, given), criterion.loss(read, targets, assignment)
    assert_same(found, expected, leaves(read))
    # An average factor from elsewhere stands in for the counts of this call.
    factor = {"num_positives": 7.0, "sum_of_centerness": 3.0}
    other = criterion.loss(read, given, global_count=factor)
    count = assignment.num_positives.sum().double()
    torch.testing.assert_close(other["loss_cls"], expected["loss_cls"] * count / 7)
    torch.testing.assert_close(other["loss_centerness"], expected["loss_centerness"] * count / 7)
    central = criterion.counts(read, targets, assignment)["sum_of_centerness"]
    torch.testing.assert_close(other["loss_bbox"], expected["loss_bbox"] * central.clamp(min=1) / 3)


def test_label_weights() -> None:
    read = dense(CASE.predictions([2]), torch.float64)
    labels = torch.full(read.logits.shape[:2], CLASSES)
    labels[0, :3] = torch.tensor([1, 0, 4])
    boxes = read.priors.expand(1, -1, -1)
    weights = torch.ones(labels.shape, dtype=torch.float64)
    weights[0, 1], weights[0, 5] = 0.0, 0.0
    given = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, weights=weights)
    changed = DensePredictions(read.logits.clone(), read.deltas, read.priors, read.confidence, read.level_sizes)
    with torch.no_grad():
        changed.logits[0, [1, 5]] += 3
    losses = make().loss(read, given)
    assert losses == make().loss(changed, given)
    assert (
        losses["loss_cls"]
        != make().loss(changed, AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES))["loss_cls"]
    )


def test_centerness_target() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, own = make_boxes(200, generator).double(), make_boxes(200, generator).double()
    found = make().centerness_target(boxes, own)
    expected = [centerness(anchor, box) for anchor, box in zip(boxes, own, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert (found > 0).any() and (found == 0).any()


def test_default_anchors_are_squares_of_eight_strides_at_the_corners_of_cells() -> None:
    maps = [[torch.zeros(1, k, side, side) for side in (16, 8, 4, 2, 1)] for k in (CLASSES, 4, 1)]
    read = ATSSCriterion(CLASSES).read(maps)
    assert read.level_sizes == (256, 64, 16, 4, 1)
    assert read.priors[1].tolist() == [8.0 - 32, -32.0, 8.0 + 32, 32.0]
    assert read.priors[-1].tolist() == [-512.0, -512.0, 512.0, 512.0]


def test_several_anchors_in_a_cell() -> None:
    given = anchors((int(CANVAS), int(CANVAS)), STRIDES, scales=(2.0, 3.0), offset=0.0)
    criterion = make(anchors=given)
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(2, 2 * k, side, side, generator=generator) for side in (8, 4)] for k in (CLASSES, 4, 1)]
    read = criterion.read(maps)
    assert read.level_sizes == (128, 32)
    assert torch.equal(read.priors, given)
    # The second anchor of the cell in row 1, column 2, of the first level.
    assert torch.equal(read.logits[1, 2 * (8 + 2) + 1], maps[0][0][1, CLASSES:, 1, 2])
    assert read.confidence is not None
    assert torch.equal(read.confidence[1, 2 * (8 + 2) + 1], maps[2][0][1, 1, 1, 2])
    targets = CASE.targets([3, 1])
    images = dense_images(read, targets, criterion.assign(maps, targets))
    for name, value in atss_loss(images).items():
        torch.testing.assert_close(criterion(maps, targets)[name].double(), value, rtol=1e-5, atol=1e-6)


def test_levels_matter_to_the_assignment() -> None:
    read, targets = make().read(CASE.predictions([12])), CASE.targets([12])
    flat = DensePredictions(read.logits, read.deltas, read.priors, read.confidence)
    assert not torch.equal(make().assign(read, targets).target_index, make().assign(flat, targets).target_index)


def test_another_matcher() -> None:
    criterion, predictions, targets = make(matcher=MaxIoU()), CASE.predictions([3, 0]), CASE.targets([3, 0])
    read = criterion.read(predictions)
    assignment = MaxIoU()(None, targets, read.priors)
    assert torch.equal(criterion.assign(predictions, targets).target_index, assignment.target_index)
    assert criterion(predictions, targets) == criterion.loss(predictions, targets, assignment)


def test_losses_can_be_given() -> None:
    predictions, targets = CASE.predictions([3, 1]), CASE.targets([3, 1])
    expected = make()(predictions, targets)
    doubled = make(
        loss_cls=FocalLoss(loss_weight=2.0),
        loss_bbox=GIoULoss(loss_weight=4.0),
        loss_centerness=torch.nn.BCEWithLogitsLoss(reduction="none"),
    )(predictions, targets)
    torch.testing.assert_close(doubled["loss_cls"], expected["loss_cls"] * 2)
    torch.testing.assert_close(doubled["loss_bbox"], expected["loss_bbox"] * 2)
    torch.testing.assert_close(doubled["loss_centerness"], expected["loss_centerness"])
    quality = make(use_qfl=True)(predictions, targets)["loss_cls"]
    for given in (
        {"beta": 2.0, "loss_weight": 3.0},
        lambda *args, **kwargs: make(use_qfl=True).loss_cls(*args, **kwargs) * 3,
    ):
        found = make(use_qfl=True, qfl_cfg=given, loss_cls=BinaryCrossEntropy())(predictions, targets)["loss_cls"]
        torch.testing.assert_close(found, quality * 3)


def test_classes_do_not_move_boxes() -> None:
    """The IoU that they have as their score is a constant, also of a loss that knows no constants."""
    read, targets = dense(CASE.predictions([3, 1]), torch.float64), make_targets([3, 1], torch.float64, rich=False)
    entropy = torch.nn.BCEWithLogitsLoss(reduction="none")
    found = make(use_qfl=True, qfl_cfg=entropy)(read, targets)["loss_cls"]
    of_logits, of_boxes = torch.autograd.grad(found, (read.logits, read.deltas), allow_unused=True)
    assert of_logits.any() and (of_boxes is None or not of_boxes.any())


def test_parts_of_the_default() -> None:
    criterion = ATSSCriterion(CLASSES)
    assert criterion.strides == (8, 16, 32, 64, 128) and criterion.bg_loss_weight == -1
    assert isinstance(criterion.normalizer, Normalizer) and "anchors" not in criterion.state_dict()


def test_values_of_predictions() -> None:
    losses = make(reduction="none")(CASE.predictions([3, 0]), CASE.targets([3, 0]))
    positive = make().assign(CASE.predictions([3, 0]), CASE.targets([3, 0])).is_positive
    assert isinstance(losses["loss_bbox"], RaggedBatch)
    assert torch.equal(losses["loss_centerness"].tensor > 0, positive)
    assert (losses["loss_cls"].tensor > 0).all()


def levels(channels: Sequence[int], sides: Sequence[int] = (8, 4)) -> list[list[Tensor]]:
    return [[torch.zeros(2, k, side, side) for side in sides] for k in channels]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (levels((CLASSES + 1, 4, 1)), r"class scores of level 0 must have shape \(B, 5, h, w\), got \(2, 6, 8, 8\)"),
        (levels((CLASSES, 5, 1)), r"boxes of level 0 must have shape \(B, 4, h, w\), got \(2, 5, 8, 8\)"),
        (levels((CLASSES, 4, 2)), r"centerness of level 0 must have shape \(B, 1, h, w\), got \(2, 2, 8, 8\)"),
        (levels((CLASSES, 4, 1), (8, 4, 2)), r"class scores must have a map for each of the strides \(8, 16\), got 3"),
        (levels((CLASSES, 4, 1), (8, 3)), r"no image has feature maps .* at strides \(8, 16\)"),
        (
            DensePredictions(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.zeros(3, 4)),
            r"num_classes = 5.* got \(2, 3, 4\)",
        ),
        (
            DensePredictions(torch.zeros(2, 3, 5), torch.zeros(2, 3, 4), torch.zeros(3, 4)),
            r"ATSSCriterion needs a confidence",
        ),
    ],
)
def test_predictions_that_do_not_fit(predictions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(predictions, CASE.targets([1, 0]))


def test_maps_that_are_missing_or_too_many() -> None:
    with pytest.raises(TypeError, match=r"\(class scores, boxes, centerness\).*got 2 entries"):
        make().read(levels((CLASSES, 4)))
    with pytest.raises(TypeError, match=r"\(class scores, boxes\).*got 3 entries"):
        make(use_centerness=False).read(levels((CLASSES, 4, 1)))


def test_other_arguments_that_do_not_fit() -> None:
    predictions, targets = CASE.predictions([1, 0]), CASE.targets([1, 0])
    with pytest.raises(ValueError, match=r"valid_label_mask must have the shape of \(B, C\), \(2, 5\), got \(2, 4\)"):
        make()(predictions, targets, valid_label_mask=torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"valid_label_mask must broadcast .*\(2, 80, 5\), got \(3, 1, 5\)"):
        make()(predictions, targets, valid_label_mask=torch.ones(3, 1, 5))
    with pytest.raises(TypeError, match="valid_label_mask must be a torch.Tensor"):
        make()(predictions, targets, valid_label_mask=[[True] * 5] * 2)
    with pytest.raises(ValueError, match="as many for each of the 80 cells, got 81"):
        make(anchors=torch.zeros(81, 4))(predictions, targets)
    with pytest.raises(ValueError, match=r"anchors must have .*4"):
        make(anchors=torch.zeros(81, 5))
    with pytest.raises(ValueError, match="anchor_scale must be finite and above 0, got 0"):
        ATSSCriterion(CLASSES, anchor_scale=0.0)
    with pytest.raises(ValueError, match="bg_loss_weight must be finite"):
        make(bg_loss_weight=torch.nan)
    with pytest.raises(ValueError, match="loss_bbox must have reduction='none', got 'mean'"):
        make(loss_bbox=torch.nn.L1Loss())
    with pytest.raises(TypeError, match="loss_centerness must be a loss"):
        make(loss_centerness=1.0)
    with pytest.raises(TypeError, match="gamma"):
        make(use_qfl=True, qfl_cfg={"gamma": 2.0})
    with pytest.raises(ValueError, match="label 7 at position 0 of sample 0 is out of range for 5 classes"):
        make()(
            predictions,
            ([torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.zeros(0, 4)], [torch.tensor([7]), torch.zeros(0).long()]),
        )
    with pytest.raises(KeyError, match="global_count has no 'sum_of_centerness'"):
        make()(predictions, targets, global_count={"num_positives": 1.0})
