"""The criteria of YOLOv8, YOLOv10 and YOLO26 against their reference, the forms that they read, and their options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES, cast
from cases.criteria import yolov8 as single
from cases.criteria import yolov10 as pair
from torch import Tensor

from losses import AssignedTargets, YOLOv8Criterion, YOLOv10Criterion, total
from losses.core import positives
from losses.functional.boxes import smooth_l1_loss
from losses.functional.distribution import distribution_focal_loss
from losses.modules.boxes import CIoULoss, GIoULoss
from losses.modules.classes import FocalLoss
from losses.testing import leaves_of
from matchers import Targets, TaskAligned

SIZES = [3, 0, 1, 6]
BINS = [single.REG_MAX, 1]
close = torch.testing.assert_close


def scene(reg_max: int, sizes: list[int] = SIZES, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """Maps of one head, and targets."""
    case = single.CASES["yolov8"]
    maps = single.predictions(case.boxes(sizes, seed), seed, reg_max)
    return cast(maps, dtype), case.targets(sizes, seed).to(dtype)


def flat(maps: list[Tensor], reg_max: int) -> dict[str, Any]:
    """A head as Ultralytics gives it."""
    whole = torch.cat([each.flatten(2) for each in maps], -1)
    boxes, scores = whole.split([4 * reg_max, CLASSES], 1)
    return {"boxes": boxes, "scores": scores, "feats": [each[:, :1].detach() for each in maps]}


def assert_same(found: Any, expected: Any, leaves: list[Tensor], dtype: torch.dtype = torch.float64) -> None:
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    assert found.keys() == expected.keys() and len(found) == 3
    for name, value in found.items():
        close(value, expected[name].to(dtype), **tolerance)
    gradients = torch.autograd.grad(total(found), leaves, retain_graph=True)
    wanted = torch.autograd.grad(total(expected), leaves, materialize_grads=True)
    for one, other in zip(gradients, wanted, strict=True):
        close(one, other, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [SIZES, [0], [0, 0], [1], [100, 1]])
@pytest.mark.parametrize("reg_max", BINS)
def test_values_and_gradients(reg_max: int, sizes: list[int], dtype: torch.dtype) -> None:
    maps, targets = scene(reg_max, sizes, dtype)
    criterion = single.make(reg_max=reg_max)
    assignment = criterion.assign(maps, targets)
    assert (assignment.target_index >= 0).any() == (sum(sizes) > 0)
    expected = single.of_head(maps, targets, assignment.target_index, assignment.quality.to(dtype), reg_max=reg_max)
    assert_same(criterion(maps, targets), expected, leaves_of(maps), dtype)


@pytest.mark.parametrize("rows", ["packed", "static"])
@pytest.mark.parametrize("reg_max", BINS)
def test_weights_and_ignored_targets(reg_max: int, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if rows == "static":
        monkeypatch.setattr(positives, "values_are_readable", lambda tensor: False)
    maps, targets = scene(reg_max)
    generator = torch.Generator().manual_seed(7)
    like, own = targets.labels.tensor.shape, targets.labels.create_with_sample_sizes_like_self
    flags = torch.zeros(like, dtype=torch.bool)
    flags[:, :1] = True
    targets = replace(targets, weights=own(0.5 + torch.rand(like, generator=generator)), ignore=own(flags))
    criterion = single.make(reg_max=reg_max)
    assignment = criterion.assign(maps, targets)
    assert (assignment.target_index == -2).any() and (assignment.target_index >= 0).any()
    expected = single.of_head(maps, targets, assignment.target_index, assignment.quality.double(), reg_max=reg_max)
    assert_same(criterion(maps, targets), expected, leaves_of(maps))


@pytest.mark.parametrize("reg_max", BINS)
def test_every_form_of_a_head_is_the_same(reg_max: int) -> None:
    maps, targets = scene(reg_max)
    criterion = single.make(reg_max=reg_max)
    parts = [each.split([4 * reg_max, CLASSES], 1) for each in maps]
    boxes, scores = ([part[k] for part in parts] for k in range(2))
    head = flat(maps, reg_max)
    forms: dict[str, Any] = {
        "a pair of lists": (scores, boxes),
        "a dict of lists": {"scores": scores, "boxes": boxes},
        "flat": head,
        "after detections": (torch.zeros(len(SIZES), 4 + CLASSES, 80), head),
        "maps after detections": (torch.zeros(len(SIZES), 4 + CLASSES, 80), maps),
        "read": criterion.read(maps),
    }
    expected = criterion(maps, targets)
    for form in forms.values():
        assert_same(criterion(form, targets), dict(expected), leaves_of(maps))
        expected = criterion(maps, targets)


def test_images_that_are_not_square() -> None:
    """Each axis is divided by its own side of the image."""
    generator = torch.Generator().manual_seed(1)
    maps = [torch.rand(1, 4 + CLASSES, 32 // s, 64 // s, generator=generator).double() * 2 + 1 for s in STRIDES]
    maps = [each.requires_grad_() for each in maps]
    targets = Targets.of(([torch.tensor([[8.0, 4.0, 40.0, 28.0]]).double()], [torch.tensor([3])]))
    criterion = single.make(reg_max=1)
    assignment = criterion.assign(maps, targets)
    assert (assignment.target_index >= 0).any()
    expected = single.of_head(maps, targets, assignment.target_index, assignment.quality.double(), reg_max=1)
    assert_same(criterion(maps, targets), expected, maps)


def test_batches_of_ultralytics() -> None:
    """Rows of image index, class and box, in fractions of the images that stand beside them."""
    maps, targets = scene(single.REG_MAX)
    boxes = targets.boxes_as("cxcywh", normalized=True)
    image = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    batch = {
        "img": torch.zeros(len(SIZES), 3, 64, 64),
        "batch_idx": image.double(),
        "cls": torch.cat([labels[:size] for labels, size in zip(targets.labels.tensor, SIZES, strict=True)]).view(
            -1, 1
        ),
        "bboxes": torch.cat([own[:size] for own, size in zip(boxes, SIZES, strict=True)]),
    }
    close(single.make()(flat(maps, single.REG_MAX), batch), single.make()(maps, targets), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "sample"])
def test_times_the_batch_size(reduction: str) -> None:
    maps, targets = scene(single.REG_MAX)
    once = single.make(reduction=reduction)(maps, targets)
    times = single.make(reduction=reduction, times_batch_size=True)(maps, targets)
    factor = len(SIZES) if reduction == "mean" else 1
    close(times, {name: value * factor for name, value in once.items()})


def test_rates_and_losses() -> None:
    maps, targets = scene(single.REG_MAX)
    default = single.make()(maps, targets)
    twice = single.make(
        cls_rate=1.0,
        dfl_rate=3.0,
        loss_iou=CIoULoss(loss_weight=2.0),
        loss_dfl=lambda logits, distances: distribution_focal_loss(logits, distances),
    )(maps, targets)
    close(twice, {name: 2 * value for name, value in default.items()})
    other = single.make(loss_cls=FocalLoss(), loss_iou=GIoULoss())(maps, targets)
    assert other["loss_cls"] < default["loss_cls"] and other["loss_iou"] != default["loss_iou"]
    maps, targets = scene(1)
    smooth = single.make(reg_max=1, loss_dfl=smooth_l1_loss)(maps, targets)
    assert 0 < smooth["loss_l1"] < single.make(reg_max=1)(maps, targets)["loss_l1"]


@pytest.mark.parametrize(("strides", "side"), [((8, 16, 32), 16), ((4, 8), 8), ((8,), 8), (((8, 4), (16, 8)), 16)])
def test_small_targets_are_enlarged_to_the_second_stride(strides: Any, side: float) -> None:
    criterion = YOLOv10Criterion(CLASSES, strides=strides)
    assert criterion.matcher == TaskAligned.yolov8(min_side=side)
    assert criterion.one_to_one_matcher == TaskAligned.yolov8(topk=7, topk2=1, min_side=side)


def test_dense_targets() -> None:
    maps, targets = scene(single.REG_MAX)
    criterion = single.make()
    assignment = criterion.assign(maps, targets)
    index = assignment.target_index
    labels = torch.where(index >= 0, targets.labels.tensor.gather(1, index.clamp(min=0)), index)
    boxes = targets.boxes.tensor.gather(1, index.clamp(min=0).unsqueeze(-1).expand(-1, -1, 4))
    dense = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, quality=assignment.quality)
    assert_same(criterion.loss(maps, dense), criterion(maps, targets), leaves_of(maps))


class TestPair:
    """A one-to-many and a one-to-one head."""

    def heads(self, reg_max: int) -> Any:
        (first, targets), (second, _) = (scene(reg_max, seed=seed) for seed in range(2))
        return {"one2many": first, "one2one": second}, targets

    @pytest.mark.parametrize("reg_max", BINS)
    def test_each_is_a_loss_of_its_own(self, reg_max: int) -> None:
        heads, targets = self.heads(reg_max)
        criterion = pair.make(reg_max=reg_max, one_to_many_rate=0.3, one_to_one_rate=1.7)
        many = single.make(reg_max=reg_max)(heads["one2many"], targets)
        one = single.make(reg_max=reg_max, matcher=TaskAligned.yolov8(topk=7, topk2=1))(heads["one2one"], targets)
        expected = {name: 0.3 * many[name] + 1.7 * one[name] for name in many}
        assert_same(criterion(heads, targets), expected, leaves_of(heads))

    def test_rates_can_be_set(self) -> None:
        heads, targets = self.heads(1)
        criterion = pair.make(reg_max=1)
        criterion.one_to_many_rate, criterion.one_to_one_rate = 0.0, 1.0
        one = single.make(reg_max=1, matcher=criterion.one_to_one_matcher)(heads["one2one"], targets)
        close(criterion(heads, targets), one)

    @pytest.mark.parametrize("reduction", ["sample", "none"])
    def test_unreduced(self, reduction: str) -> None:
        heads, targets = self.heads(single.REG_MAX)
        found = pair.make(reduction=reduction, times_batch_size=True)(heads, targets)
        expected = pair.reference(pair.make(), heads, targets)
        for name, value in found.items():
            own = value.tensor if reduction == "none" else value
            assert own.shape == ((len(SIZES), 80) if reduction == "none" else (len(SIZES),))
            assert own.isfinite().all() and (own.sum() > 0) == (expected[name] > 0)

    def test_two_steps(self) -> None:
        heads, targets = self.heads(single.REG_MAX)
        criterion = pair.make()
        assignment = criterion.assign(heads, targets)
        assert assignment.target_index.shape == (2, len(SIZES), 80)
        assert (assignment.predictions_per_target().tensor[1] <= 1).all()
        expected = criterion(heads, targets)
        forms = (heads, tuple(heads.values()), (torch.zeros(4, 9, 80), heads), criterion.read(heads))
        for form in forms:
            close(criterion.loss(form, targets, assignment), expected)
        close(criterion.counts(heads, targets, assignment)["sum_of_quality"].float(), assignment.quality.sum((1, 2)))

    def test_predictions_of_another_number_of_heads(self) -> None:
        heads, targets = self.heads(single.REG_MAX)
        with pytest.raises(ValueError, match=r"must be those of one head, \(B, P, C\), got \(2, 4, 80, 5\)"):
            single.make()(pair.make().read(heads), targets)
        with pytest.raises(ValueError, match=r"must be those of a pair of heads, \(2, B, P, C\), got \(4, 80, 5\)"):
            pair.make()(single.make().read(heads["one2many"]), targets)


def test_half_precision_and_autocast() -> None:
    maps, targets = scene(single.REG_MAX, dtype=torch.float32)
    expected = single.make()(maps, targets)
    for dtype in (torch.float16, torch.bfloat16):
        halves = cast(maps, dtype)
        found = single.make()(halves, targets)
        assert all(value.dtype == torch.float32 for value in found.values())
        close(found, expected, rtol=0.05, atol=0.05)


def test_bad_class_counts() -> None:
    maps, targets = scene(single.REG_MAX)
    read = single.make().read(maps)
    with pytest.raises(ValueError, match="num_classes = 7"):
        YOLOv8Criterion(7, reg_max=single.REG_MAX, strides=STRIDES)(read, targets)
    with pytest.raises(ValueError, match="reg_max = 4"):
        single.make(reg_max=4)(read, targets)
