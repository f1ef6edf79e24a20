"""YOLOX's criterion against its reference, the forms it is called in, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cases.common import CLASSES, STRIDES, cast, of_images
from cases.criteria.yolox import CASE, reference
from torch import Tensor, nn

from losses import (
    AssignedTargets,
    BinaryCrossEntropy,
    DensePredictions,
    GIoULoss,
    IoULoss,
    L1Loss,
    MultipleObjectiveLoss,
    Normalizer,
    YOLOXCriterion,
    YOLOXLoss,
    total,
)
from losses.core import positives
from losses.testing import leaves_of
from matchers import SimOTA, Targets, grid_points
from matchers.testing import CANVAS

SIZES = [3, 0, 1, 6]
KEYS = {"loss_cls", "loss_bbox", "loss_obj", "loss_l1"}
close = torch.testing.assert_close


def make(**options: Any) -> YOLOXCriterion:
    return YOLOXCriterion(CLASSES, **({"strides": STRIDES, "use_l1": True} | options))


def assert_same(found: Any, expected: Any, leaves: list[Tensor], dtype: torch.dtype = torch.float64) -> None:
    tolerance = {"rtol": 1e-10, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        close(value, expected[name].to(dtype), **tolerance)
    gradients = torch.autograd.grad(total(found), leaves)
    wanted = torch.autograd.grad(total(expected), leaves, materialize_grads=True)
    for one, other in zip(gradients, wanted, strict=True):
        close(one, other, **tolerance)


def scene(sizes: list[int] = SIZES, dtype: torch.dtype = torch.float64) -> tuple[Any, Targets]:
    return cast(CASE.predictions(sizes), dtype), CASE.targets(sizes).to(dtype)


@pytest.fixture(params=["packed", "static"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of ``Positives``: that of the host, and the one without a synchronisation."""
    if request.param == "static":
        monkeypatch.setattr(positives, "values_are_readable", lambda tensor: False)
    return request.param


def test_points_in_the_middle_of_the_cells_are_matched() -> None:
    seen = []

    def matcher(predictions: Any, targets: Any, points: Tensor) -> Any:
        seen.append(points)
        return SimOTA()(predictions, targets, points)

    maps, targets = CASE.predictions(SIZES), CASE.targets(SIZES)
    found = make(matcher=matcher).assign(maps, targets)
    close(seen[0], grid_points((int(CANVAS), int(CANVAS)), STRIDES))
    assert torch.equal(make().assign(maps, targets).target_index, found.target_index)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [SIZES, [0], [0, 0], [1], [100, 1]])
def test_values_and_gradients(sizes: list[int], dtype: torch.dtype, rows: str) -> None:
    maps, targets = scene(sizes, dtype)
    criterion = make()
    assert (criterion.assign(maps, targets).target_index >= 0).any() == (sum(sizes) > 0)
    assert_same(criterion(maps, targets), reference(criterion, maps, targets), leaves_of(maps), dtype)


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_weights_and_ignored_targets(weights: bool, ignore: bool, rows: str) -> None:
    maps, targets = scene()
    own = targets.labels.create_with_sample_sizes_like_self
    shape = targets.labels.tensor.shape
    values = 0.5 + torch.rand(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    flags = torch.zeros(shape, dtype=torch.bool)
    flags[:, :1] = True
    targets = replace(targets, weights=own(values) if weights else None, ignore=own(flags) if ignore else None)
    criterion = make()
    assert (criterion.assign(maps, targets).target_index == -2).any() == ignore
    assert_same(criterion(maps, targets), reference(criterion, maps, targets), leaves_of(maps))


def test_a_target_of_weight_two_is_two_targets() -> None:
    maps, targets = scene([1])
    sums, criterion = make(reduction="sum"), make()
    double = replace(targets, weights=targets.labels.create_with_sample_sizes_like_self(torch.full((1, 1), 2.0)))
    for name in ("loss_cls", "loss_bbox", "loss_l1"):
        close(sums(maps, double)[name], 2 * sums(maps, targets)[name])
        close(criterion(maps, double)[name], criterion(maps, targets)[name])


def test_without_l1() -> None:
    maps, targets = scene()
    without, with_l1 = make(use_l1=False)(maps, targets), make()(maps, targets)
    assert with_l1.keys() == KEYS and without.keys() == KEYS - {"loss_l1"}
    close(without, {name: with_l1[name] for name in without})


def test_loss_modules() -> None:
    maps, targets = scene()
    default = make()(maps, targets)
    of_torch = make(
        loss_cls=nn.BCEWithLogitsLoss(reduction="none"),
        loss_obj=nn.BCEWithLogitsLoss(reduction="none"),
        loss_l1=nn.L1Loss(reduction="none"),
    )(maps, targets)
    close(of_torch, default)
    scaled = make(
        loss_cls=BinaryCrossEntropy(loss_weight=2.0),
        loss_bbox=IoULoss(mode="square", loss_weight=1.0),
        loss_obj=BinaryCrossEntropy(loss_weight=0.5),
        loss_l1=L1Loss(loss_weight=3.0),
    )(maps, targets)
    factors = {"loss_cls": 2.0, "loss_bbox": 0.2, "loss_obj": 0.5, "loss_l1": 3.0}
    close(scaled, {name: default[name] * factor for name, factor in factors.items()})
    both = make(loss_bbox=MultipleObjectiveLoss([IoULoss(mode="square"), GIoULoss()], [5.0, 2.0]))(maps, targets)
    giou = make(loss_bbox=GIoULoss())(maps, targets)
    close(both["loss_bbox"], default["loss_bbox"] + 2 * giou["loss_bbox"])


def test_flat_predictions() -> None:
    maps, targets = scene()
    criterion = make()
    read = criterion.read(maps)
    assert isinstance(read, DensePredictions) and read.level_sizes == (64, 16)
    assert_same(criterion(read, targets), criterion(maps, targets), leaves_of(maps))


def test_yolox_loss() -> None:
    maps, targets = scene()
    lists = (of_images(targets.boxes), of_images(targets.labels))
    default = make()(maps, targets)
    options = {"use_l1": True, "strides": STRIDES}
    close(YOLOXLoss(CLASSES, **options)(*maps, *lists), default)
    close(YOLOXLoss(CLASSES, **options)(*maps, targets), default)
    assert YOLOXLoss(CLASSES, strides=STRIDES)(*maps, *lists).keys() == KEYS - {"loss_l1"}
    weighted = YOLOXLoss(CLASSES, 1.0, 2.0, 3.0, 4.0, True, STRIDES, reduction="sample")(*maps, *lists)
    factors = {"loss_bbox": 0.2, "loss_cls": 2.0, "loss_obj": 3.0, "loss_l1": 4.0}
    by_image = make(reduction="sample")(maps, targets)
    close(weighted, {name: by_image[name] * factor for name, factor in factors.items()})
    whole = YOLOXLoss(CLASSES, **options)(*maps, *lists, global_count=1.0)
    close(whole, make(reduction="sum")(maps, targets))


def test_targets_that_are_assigned_already(rows: str) -> None:
    """The call with flat targets of each prediction, and with their number."""
    maps, targets = scene()
    criterion = make()
    assignment = criterion.assign(maps, targets)
    index = assignment.target_index
    labels = targets.labels.tensor.gather(1, index.clamp(min=0)).where(index >= 0, CLASSES)
    boxes = targets.boxes.tensor.gather(1, index.clamp(min=0).unsqueeze(-1).expand(-1, -1, 4))
    boxes = boxes.where((index >= 0).unsqueeze(-1), torch.nan)
    dense = AssignedTargets.from_dense(labels, boxes, num_classes=CLASSES, quality=assignment.quality)
    expected = criterion(maps, targets)
    assert_same(criterion.loss(maps, dense), expected, leaves_of(maps))
    number = (index >= 0).sum()
    halved = criterion.loss(maps, dense, global_count=2 * number)
    close(halved, {name: value / 2 for name, value in criterion(maps, targets).items()})


class TestBadInput:
    maps = CASE.predictions([1])
    targets = CASE.targets([1])

    def test_constructor(self) -> None:
        with pytest.raises(ValueError, match="reduction must be one of .*, got 'average'"):
            make(reduction="average")
        with pytest.raises(ValueError, match="num_classes"):
            YOLOXCriterion(0)
        with pytest.raises(ValueError, match="loss_obj must have reduction='none', got 'mean'"):
            make(loss_obj=nn.BCEWithLogitsLoss())
        with pytest.raises(TypeError, match="loss_bbox must be a loss module or function, got str"):
            make(loss_bbox="giou")

    def test_levels(self) -> None:
        with pytest.raises(ValueError, match=r"a map for each of the strides \(8, 16, 32\), got 2"):
            YOLOXCriterion(CLASSES)(self.maps, self.targets)
        with pytest.raises(ValueError, match=r"no image has feature maps .* at strides \(8, 32\)"):
            make(strides=(8, 32))(self.maps, self.targets)
        with pytest.raises(
            ValueError, match=r"class scores of level 0 must have shape \(B, 3, h, w\), got \(1, 5, 8, 8\)"
        ):
            YOLOXCriterion(3, strides=STRIDES)(self.maps, self.targets)
        with pytest.raises(TypeError, match="got 2 entries"):
            make()(self.maps[:2], self.targets)
        with pytest.raises(TypeError, match="got Tensor for class scores"):
            make()((self.maps[0][0], *self.maps[1:]), self.targets)
        read = make().read(self.maps)
        assignment = make().assign(read, self.targets)
        with pytest.raises(ValueError, match="YOLOXCriterion needs a confidence"):
            make().loss(replace(read, confidence=None), self.targets, assignment)

    def test_targets(self) -> None:
        with pytest.raises(ValueError, match="label"):
            make()(self.maps, replace(self.targets, labels=self.targets.labels + CLASSES))
        with pytest.raises(ValueError, match="needs the assignment"):
            make().loss(self.maps, self.targets)
        assignment = make().assign(self.maps, self.targets)
        assigned = AssignedTargets.of(self.targets, assignment)
        with pytest.raises(ValueError, match="need no assignment, but one is given"):
            make().loss(self.maps, assigned, assignment)


def test_fewer_positives_than_the_minimum() -> None:
    maps, targets = scene([0, 0])
    close(make(normalizer=Normalizer(minimum=4.0))(maps, targets)["loss_obj"] * 4, make()(maps, targets)["loss_obj"])
