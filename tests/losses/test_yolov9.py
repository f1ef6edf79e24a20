"""YOLOv9's criterion against its reference, its two branches, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES, cast
from cases.criteria.yolov9 import CASES, REG_MAX, VEC2BOX, of_branch
from reference.yolov9_loss import mean_of_bins
from torch import Tensor, nn

from losses.coders.distribution import DecodedLevels, Vec2Box
from losses.core import positives
from losses.core.assigned import AssignedTargets
from losses.core.terms import total
from losses.criteria.dense.yolov9 import YOLOv9Criterion
from losses.functional.distribution import distribution_focal_loss
from losses.functional.sigmoid import binary_cross_entropy
from losses.modules.boxes import CIoULoss, GIoULoss
from losses.modules.classes import BinaryCrossEntropy, FocalLoss
from losses.testing import leaves_of
from matchers import Targets
from matchers.dense.task_aligned import TaskAligned

CASE = CASES["yolov9"]
SIZES = [3, 0, 1, 6]
KEYS = {"loss_cls", "loss_df", "loss_iou"}
close = torch.testing.assert_close


def make(**options: Any) -> YOLOv9Criterion:
    return YOLOv9Criterion(CLASSES, VEC2BOX, **({"reg_max": REG_MAX} | options))


def with_flags(targets: Targets, *, weights: bool, ignore: bool) -> Targets:
    generator = torch.Generator().manual_seed(7)
    like = targets.labels.tensor.shape
    values = 0.5 + torch.rand(like, generator=generator)
    flags = torch.zeros(like, dtype=torch.bool)
    flags[:, :1] = True
    own = targets.labels.create_with_sample_sizes_like_self
    return replace(targets, weights=own(values) if weights else None, ignore=own(flags) if ignore else None)


def assert_same(found: Any, expected: Any, leaves: list[Tensor], dtype: torch.dtype) -> None:
    tolerance = {"rtol": 1e-10, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    assert found.keys() == expected.keys() == KEYS
    for name, value in found.items():
        close(value, expected[name].to(dtype), **tolerance)
    gradients = torch.autograd.grad(total(found), leaves)
    wanted = torch.autograd.grad(total(expected), leaves, materialize_grads=True)
    for one, other in zip(gradients, wanted, strict=True):
        close(one, other, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [SIZES, [0], [0, 0], [1], [100, 1]])
def test_values_and_gradients(sizes: list[int], dtype: torch.dtype) -> None:
    levels, targets = cast(CASE.predictions(sizes), dtype), CASE.targets(sizes).to(dtype)
    criterion = make()
    assignment = criterion.assign(levels, targets)
    assert (assignment.target_index >= 0).any() == (sum(sizes) > 0)
    expected = of_branch(levels, targets, assignment.target_index, assignment.quality.to(dtype))
    assert_same(criterion(levels, targets), expected, leaves_of(levels), dtype)


@pytest.mark.parametrize("rows", ["packed", "static"])
@pytest.mark.parametrize("loss_cls", [None, binary_cross_entropy], ids=["fused", "of each class"])
@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_weights_and_ignored_targets(
    weights: bool, ignore: bool, loss_cls: Any, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rows == "static":
        monkeypatch.setattr(positives, "values_are_readable", lambda tensor: False)
    levels = cast(CASE.predictions(SIZES), torch.float64)
    targets = with_flags(CASE.targets(SIZES).to(torch.float64), weights=weights, ignore=ignore)
    criterion = make(loss_cls=loss_cls)
    assignment = criterion.assign(levels, targets)
    assert (assignment.target_index == -2).any() == ignore
    expected = of_branch(levels, targets, assignment.target_index, assignment.quality.double())
    assert_same(criterion(levels, targets), expected, leaves_of(levels), torch.float64)


def given_distances(levels: Any, dtype: torch.dtype) -> Any:
    """Levels with distances that are leaves of their own."""
    generator = torch.Generator().manual_seed(3)
    result = []
    for logits, distribution in levels:
        bins = torch.arange(REG_MAX).view(1, -1, 1, 1, 1)
        means = (distribution.detach().softmax(1) * bins).sum(1)
        result.append((logits, distribution, means + torch.rand(means.shape, generator=generator) * 0.3))
    return cast(result, dtype)


def test_given_distances() -> None:
    levels, targets = given_distances(CASE.predictions(SIZES), torch.float64), CASE.targets(SIZES).to(torch.float64)
    criterion = make()
    assignment = criterion.assign(levels, targets)
    expected = of_branch(levels, targets, assignment.target_index, assignment.quality.double())
    assert_same(criterion(levels, targets), expected, leaves_of(levels), torch.float64)


def test_decoded_levels_are_the_same() -> None:
    levels, targets = cast(CASE.predictions(SIZES), torch.float64), CASE.targets(SIZES).to(torch.float64)
    decoded = VEC2BOX(levels)
    assert_same(make()(decoded, targets), make()(levels, targets), leaves_of(levels), torch.float64)
    contiguous = DecodedLevels(*(part.contiguous() for part in VEC2BOX(levels)))
    assert_same(make()(contiguous, targets), make()(levels, targets), leaves_of(levels), torch.float64)


def test_rates() -> None:
    levels, targets = cast(CASE.predictions(SIZES), torch.float64), CASE.targets(SIZES).to(torch.float64)
    criterion = make(cls_rate=2.0, dfl_rate=0.0, iou_rate=3.0)
    assignment = criterion.assign(levels, targets)
    quality = assignment.quality.double()
    expected = of_branch(levels, targets, assignment.target_index, quality, rates=(2.0, 0.0, 3.0))
    assert_same(criterion(levels, targets), expected, leaves_of(levels), torch.float64)


def test_divided_by_one_at_least() -> None:
    levels, targets = CASE.predictions([1]), CASE.targets([1])
    criterion = make()
    assignment = criterion.assign(levels, targets)
    assert (assignment.target_index >= 0).any()
    faint = replace(assignment, quality=assignment.quality * 1e-3)
    assert 0 < faint.quality.sum() < 1
    mean, sums = criterion.loss(levels, targets, faint), make(reduction="sum").loss(levels, targets, faint)
    close(mean, sums)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("aux_rate", [0.25, 1.5])
def test_auxiliary_branch_is_a_loss_of_its_own(aux_rate: float, mixed: bool) -> None:
    main, targets = cast(CASE.predictions(SIZES), torch.float64), CASE.targets(SIZES).to(torch.float64)
    aux = cast(CASE.predict(CASE.boxes(SIZES), 5), torch.float64)
    if mixed:
        aux = given_distances(aux, torch.float64)
    leaves = leaves_of((main, aux))
    one, other = make()(main, targets), make()(aux, targets)
    expected = {name: one[name] + aux_rate * other[name] for name in one}
    assert not any(torch.equal(one[name], other[name]) for name in one)
    assert_same(make(aux_rate=aux_rate)(main, targets, aux), expected, leaves, torch.float64)


def test_auxiliary_branch_in_two_steps() -> None:
    main, targets, aux = CASE.predictions(SIZES), CASE.targets(SIZES), CASE.predict(CASE.boxes(SIZES), 5)
    criterion = make()
    assignment = criterion.assign(main, targets, aux)
    assert assignment.target_index.shape == (2, len(SIZES), 80)
    for layer, branch in enumerate((main, aux)):
        close(assignment.target_index[layer], criterion.assign(branch, targets).target_index)
    expected = criterion(main, targets, aux)
    close(criterion.loss(main, targets, assignment, aux), expected)
    read = criterion.read(main, aux)
    close(criterion.loss(read, targets, assignment), expected)
    counts = criterion.counts(main, targets, assignment, aux)["sum_of_qualities"]
    close(counts, assignment.quality.sum((1, 2)))
    twice = criterion.loss(read, targets, assignment, global_count={"sum_of_qualities": counts * 2})
    close(twice, {name: value / 2 for name, value in expected.items()})


@pytest.mark.parametrize("reduction", ["sample", "none"])
def test_auxiliary_branch_unreduced(reduction: str) -> None:
    main, targets, aux = CASE.predictions(SIZES), CASE.targets(SIZES), CASE.predict(CASE.boxes(SIZES), 5)
    criterion = make(reduction=reduction)
    found, one, other = criterion(main, targets, aux), criterion(main, targets), criterion(aux, targets)
    for name, value in found.items():
        parts = [each[name].tensor if reduction == "none" else each[name] for each in (one, other)]
        expected = parts[0] + 0.25 * parts[1]
        assert expected.shape == ((len(SIZES), 80) if reduction == "none" else (len(SIZES),))
        close(value.tensor if reduction == "none" else value, expected)


def test_padded_targets() -> None:
    levels, targets = CASE.predictions(SIZES), CASE.targets(SIZES)
    slots = torch.zeros(len(SIZES), max(SIZES) + 2, 5)
    slots[..., 0] = -1
    for image, size in enumerate(SIZES):
        slots[image, :size, 0] = targets.labels.tensor[image, :size].float()
        slots[image, :size, 1:] = targets.boxes.tensor[image, :size]
    close(make()(levels, slots), make()(levels, targets))
    nothing = make()(levels, slots[:, :0])
    assert nothing.keys() == KEYS
    assert nothing["loss_cls"] > 0 and nothing["loss_df"] == 0 and nothing["loss_iou"] == 0


def test_loss_modules() -> None:
    levels, targets = CASE.predictions(SIZES), CASE.targets(SIZES)
    default = make()(levels, targets)
    torch_cls = make(loss_cls=nn.BCEWithLogitsLoss(reduction="none"))(levels, targets)
    close(torch_cls, default)
    scaled = make(
        loss_cls=BinaryCrossEntropy(loss_weight=2.0),
        loss_iou=CIoULoss(detach_trade_off=False, loss_weight=3.0),
        loss_dfl=lambda logits, distances: 4 * distribution_focal_loss(logits, distances),
    )(levels, targets)
    close(
        scaled,
        {name: default[name] * factor for name, factor in (("loss_cls", 2.0), ("loss_df", 4.0), ("loss_iou", 3.0))},
    )
    other = make(loss_cls=FocalLoss(), loss_iou=GIoULoss())(levels, targets)
    assert other["loss_cls"] < default["loss_cls"] and other["loss_iou"] != default["loss_iou"]


def test_distances_for_other_losses_have_a_bin_on_their_right() -> None:
    seen = []

    def loss_dfl(logits: Tensor, distances: Tensor) -> Tensor:
        seen.append((logits, distances))
        return distribution_focal_loss(logits, distances)

    levels, targets = (
        CASE.predictions([1]),
        Targets.of(([torch.tensor([[-500.0, 1.0, 63.0, 63.0]])], [torch.tensor([0])])),
    )
    criterion = make(loss_dfl=loss_dfl)
    index = torch.full((1, 80), -1)
    index[0, 27] = 0
    criterion.loss(
        levels, AssignedTargets.from_dense(index, targets.boxes.tensor.expand(1, 80, 4), num_classes=CLASSES)
    )
    ((logits, distances),) = seen
    assert logits.shape == (1, 4, REG_MAX) and distances.shape == (1, 4)
    close(distances[0], torch.tensor([REG_MAX - 1.01, (28 - 1) / 8, (63 - 28) / 8, (63 - 28) / 8]))
    close(mean_of_bins(logits[0, 0]), VEC2BOX(levels).boxes[0, 27, 0].sub(28).div(-8))


def test_another_matcher_and_dense_targets() -> None:
    levels, targets = cast(CASE.predictions(SIZES), torch.float64), CASE.targets(SIZES).to(torch.float64)
    criterion = make(matcher=TaskAligned(topk=1))
    assignment = criterion.assign(levels, targets)
    assert (assignment.target_index >= 0).sum() <= sum(SIZES)
    index = assignment.target_index
    padded = torch.cat([targets.boxes.tensor, targets.boxes.tensor.new_zeros(len(SIZES), 1, 4)], 1)
    labels = torch.where(index >= 0, targets.labels.tensor.gather(1, index.clamp(min=0)), index)
    boxes = padded.gather(1, index.clamp(min=0).unsqueeze(-1).expand(-1, -1, 4))
    dense = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, quality=assignment.quality)
    assert_same(criterion.loss(levels, dense), criterion(levels, targets), leaves_of(levels), torch.float64)


class TestBadInput:
    levels = CASE.predictions([1])
    targets = CASE.targets([1])

    def test_constructor(self) -> None:
        with pytest.raises(TypeError, match="vec2box must be a Vec2Box, got int"):
            YOLOv9Criterion(3, 640)  # type: ignore[arg-type]
        for name in ("cls_rate", "dfl_rate", "iou_rate", "aux_rate"):
            with pytest.raises(ValueError, match=f"{name} must not be negative, got -1"):
                make(**{name: -1.0})
        with pytest.raises(ValueError, match="loss_iou must have reduction='none', got 'mean'"):
            make(loss_iou=CIoULoss(reduction="mean"))
        with pytest.raises(ValueError, match="reg_max must be at least 2, got 1"):
            make(reg_max=1)

    def test_levels(self) -> None:
        with pytest.raises(TypeError, match="levels must be a list of maps, for each level a list, got NoneType"):
            make()(None, self.targets)
        with pytest.raises(TypeError, match="level 0 must be a list of maps, got float"):
            make()([3.0, None], self.targets)
        with pytest.raises(TypeError, match="class map of level 0 must have a floating dtype, got torch.int64"):
            make()([(self.levels[0][0].long(), self.levels[0][1]), *self.levels[1:]], self.targets)
        decoded = VEC2BOX([(logits, bins) for logits, bins in self.levels])
        with pytest.raises(TypeError, match="class logits of main_preds must have a floating dtype, got torch.int64"):
            make()(decoded._replace(logits=decoded.logits.long()), self.targets)
        with pytest.raises(ValueError, match="levels must be 2, one for each stride, got 1"):
            make()(self.levels[:1], self.targets)
        other = YOLOv9Criterion(CLASSES, Vec2Box(image_size=(32, 64), strides=STRIDES), reg_max=REG_MAX)
        with pytest.raises(ValueError, match=r"class map of level 0 must end with \(h, w\) = \(4, 8\)"):
            other(self.levels, self.targets)

    def test_classes_and_bins(self) -> None:
        with pytest.raises(ValueError, match=r"class logits of main_preds.* \(1, 80, 3\), got \(1, 80, 5\)"):
            YOLOv9Criterion(3, VEC2BOX, reg_max=REG_MAX)(self.levels, self.targets)
        with pytest.raises(ValueError, match=r"distributions of main_preds.* \(1, 80, 4, 16\), got \(1, 80, 4, 8\)"):
            YOLOv9Criterion(CLASSES, VEC2BOX)(self.levels, self.targets)
        wrong = [(logits, torch.zeros(1, 3, 4, *logits.shape[-2:])) for logits, _ in self.levels]
        with pytest.raises(ValueError, match="distributions of aux_preds"):
            make()(self.levels, self.targets, wrong)

    def test_branches(self) -> None:
        with pytest.raises(ValueError, match=r"must agree in \(B, P, C\), got \(1, 80, 5\) and \(2, 80, 5\)"):
            make()(self.levels, self.targets, CASE.predictions([1, 1]))
        read = make().read(self.levels)
        with pytest.raises(ValueError, match="but aux_preds are given too"):
            make().read(read, self.levels)

    def test_labels_and_assignment(self) -> None:
        targets = replace(self.targets, labels=self.targets.labels + CLASSES)
        with pytest.raises(ValueError, match="label"):
            make()(self.levels, targets)
        with pytest.raises(ValueError, match="needs the assignment"):
            make().loss(self.levels, self.targets)
