"""The criterion of FCOS: the ways to call it, and options against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES
from cases.criteria.fcos import CASE, POINTS
from cases.dense_images import dense_images
from reference.fcos_loss import fcos_loss

from losses import DensePredictions, DistanceCoder, FCOSCriterion, FocalLoss, GIoULoss
from matchers import FCOS, SimOTA, Targets

SIZES = [3, 0, 2]
ANCHORS = torch.cat([POINTS[:, :2] - POINTS[:, 2:] / 2, POINTS[:, :2] + POINTS[:, 2:] / 2], -1)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), torch.as_tensor(expected[name]).double(), rtol=1e-5, atol=1e-6)


def rich(sizes: list[int]) -> Targets:
    """Some targets weigh more, some are ignored."""
    samples = CASE.targets(sizes, 0).to_dicts()
    for sample in samples:
        count = len(sample["labels"])
        sample["weights"] = torch.linspace(0.5, 2.0, count)
        sample["ignore"] = torch.arange(count) % 3 == 1
    return Targets.of(samples)


@pytest.mark.parametrize("sizes", [[3, 0, 1], [0], [0, 0], [1], [40]])
@pytest.mark.parametrize("with_weights", [False, True])
def test_against_the_reference(sizes: list[int], with_weights: bool) -> None:
    targets = rich(sizes) if with_weights else CASE.targets(sizes, 0)
    criterion, predictions = CASE.make(), CASE.predictions(sizes)
    assignment = criterion.assign(predictions, targets)
    assert assignment.is_positive.any() == (sum(sizes) > 0)
    assert_same(
        criterion(predictions, targets), fcos_loss(dense_images(criterion.read(predictions), targets, assignment))
    )


def test_forms_of_predictions() -> None:
    criterion, predictions, targets = CASE.make(), CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    expected, read = criterion(predictions, targets), criterion.read(predictions)
    assert read.confidence is not None and read.level_sizes == (64, 16)
    flat = (read.logits, read.deltas, read.confidence.unsqueeze(-1))
    names = ("cls_logits", "bbox_regression", "bbox_ctrness")
    bare = FCOSCriterion(CLASSES, strides=STRIDES)
    for found in (
        criterion(read, targets),
        bare(dict(zip(names, predictions, strict=True)), targets),
        bare(dict(zip(names, flat, strict=True)) | {"anchors": ANCHORS}, targets),
        bare((*flat, ANCHORS), targets),
        bare((*predictions, ANCHORS), targets),
        FCOSCriterion(CLASSES, anchors=ANCHORS)(flat, targets),
        bare(DensePredictions(read.logits, read.deltas, POINTS, read.confidence), targets),
    ):
        assert_same(found, expected)


def test_points_of_anchors() -> None:
    """Where they lie, and how large they are, is what counts."""
    read = FCOSCriterion(CLASSES, strides=STRIDES, anchors=ANCHORS + 3).read(CASE.predictions([1]))
    torch.testing.assert_close(read.priors, POINTS + torch.tensor([3.0, 3.0, 0.0, 0.0]))


def test_losses_coder_and_matcher_can_be_given() -> None:
    predictions, targets = CASE.predictions(SIZES), CASE.targets(SIZES, 0)
    expected = CASE.make()(predictions, targets)
    doubled = CASE.make(
        loss_cls=FocalLoss(loss_weight=2.0),
        loss_bbox=GIoULoss(loss_weight=2.0),
        loss_centerness=torch.nn.BCEWithLogitsLoss(reduction="none"),
    )(predictions, targets)
    torch.testing.assert_close(doubled["loss_cls"], expected["loss_cls"] * 2)
    torch.testing.assert_close(doubled["loss_bbox"], expected["loss_bbox"] * 2)
    torch.testing.assert_close(doubled["loss_centerness"], expected["loss_centerness"])
    in_pixels = CASE.make(bbox_coder=DistanceCoder())
    images = dense_images(in_pixels.read(predictions), targets, in_pixels.assign(predictions, targets))
    assert_same(in_pixels(predictions, targets), fcos_loss(images, in_strides=False))
    for matcher in (SimOTA(), FCOS(center_radius=None)):
        other = CASE.make(matcher=matcher)
        images = dense_images(other.read(predictions), targets, other.assign(predictions, targets))
        assert_same(other(predictions, targets), fcos_loss(images))


def test_a_class_that_counts_nowhere_has_no_gradient() -> None:
    criterion, targets = CASE.make(), CASE.targets([4])
    read = criterion.read(CASE.cast(CASE.predictions([4]), torch.float32))
    read.logits.retain_grad()
    criterion(read.with_class_mask(torch.tensor([[True, True, False, True, True]])), targets)["loss_cls"].backward()
    assert read.logits.grad is not None
    assert not read.logits.grad[..., 2].any() and read.logits.grad[..., 3].all()


def test_what_is_wrong_is_said() -> None:
    criterion, predictions, targets = CASE.make(), CASE.predictions([1]), CASE.targets([1], 0)
    read = criterion.read(predictions)
    flat = (read.logits, read.deltas, read.confidence.unsqueeze(-1))
    with pytest.raises(ValueError, match="FCOSCriterion needs anchors for predictions of all levels together"):
        criterion(flat, targets)
    with pytest.raises(ValueError, match=r"anchors must have .*\(80, 4\)|priors must be for \(B, P\)"):
        criterion((*flat, ANCHORS[:3]), targets)
    with pytest.raises(ValueError, match=r"centerness of all levels must have shape \(B, P, 1\), got \(1, 80, 4\)"):
        criterion((flat[0], flat[1], flat[1], ANCHORS), targets)
    with pytest.raises(ValueError, match="FCOSCriterion needs a confidence"):
        criterion(DensePredictions(read.logits, read.deltas, POINTS), targets)
    with pytest.raises(KeyError, match="must have 'bbox_ctrness'"):
        criterion({"cls_logits": flat[0], "bbox_regression": flat[1]}, targets)
    with pytest.raises(ValueError, match="loss_centerness must have reduction='none'"):
        CASE.make(loss_centerness=torch.nn.BCEWithLogitsLoss())
