"""Files that were saved by ``torch.save`` are read without running anything: ``torch.load`` with ``weights_only=True``."""

from __future__ import annotations

import dataclasses
import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION, EVERY_MATCHER, scene
from cases.common import cast
from cases.criteria.yolov9 import VEC2BOX
from cases.scenes import ANCHORS
from runs import assert_same_bits, run_criterion
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import losses
import matchers
import ragged
from losses import AssignedTargets, Positives
from matchers import Hungarian, MaxIoU, Predictions, SoftMin, Targets
from ragged import RaggedBatch, combine_data

SIZES = [3, 0, 2]


def targets(**fields: Any) -> Targets:
    boxes = combine_data([torch.tensor([[1.0, 2.0, 8.0, 9.0]]), torch.zeros(0, 4)])
    return Targets(boxes, combine_data([[2], []]).long(), **fields)


def all_fields() -> Targets:
    weights, ignore = combine_data([[0.5], []]), combine_data([torch.tensor([True]), torch.zeros(0, dtype=torch.bool)])
    return targets(weights=weights, ignore=ignore, canvas_size=(64, 48))


def read(name: str) -> Any:
    case = EVERY_CRITERION[name]
    return case.make().read(case.predictions(SIZES))


def assigned() -> AssignedTargets:
    case = EVERY_CRITERION["yolox"]
    given, own = case.predictions(SIZES), case.targets(SIZES)
    criterion = case.make()
    return criterion.look_up(given, own, criterion.assign(given, own))


def denoising_positives() -> Positives:
    predictions, own = scene(3, 0, 2)
    return Positives.of(Hungarian()(predictions, own))


HOLDERS: dict[str, Callable[[], Any]] = {
    "RaggedBatch": lambda: combine_data([[1.0, 2.0], []]),
    "Targets": all_fields,
    "Targets without options": targets,
    "Predictions": lambda: Predictions.of(scene(2, 1)[0]),
    "Predictions with objectness": lambda: Predictions(torch.rand(1, 2, 3), objectness=torch.rand(1, 2, 1)),
    "Assignment": lambda: Hungarian()(*scene(3, 0, 2)),
    "Assignment by anchors": lambda: MaxIoU()(None, scene(3, 0, 2)[1], ANCHORS),
    "Plan": lambda: SoftMin()(*scene(3, 0, 2)),
    "Plan with residual": lambda: EVERY_MATCHER["unbalanced"][0](*scene(3, 0, 2)),
    "Positives": denoising_positives,
    "AssignedTargets": assigned,
    "DensePredictions": lambda: read("yolox"),
    "YOLOv9Predictions": lambda: read("yolov9"),
    "SSDPredictions": lambda: read("ssd"),
    "YOLOv8Predictions": lambda: read("yolov8"),
    "ProposalPredictions": lambda: read("roi"),
    "DecoderOutputs": lambda: read("dfine"),
    "LayerAssignments": lambda: (
        EVERY_CRITERION["detr"]
        .make()
        .assign(EVERY_CRITERION["detr"].predictions(SIZES), EVERY_CRITERION["detr"].targets(SIZES))
    ),
    "DecoderLayers": lambda: read("detr").groups[0],
    "DecodedLevels": lambda: VEC2BOX(EVERY_CRITERION["yolov9"].predictions(SIZES)),
    "BinTargets": lambda: losses.bbox2distance(
        torch.rand(2, 4), torch.rand(2, 4).cumsum(-1), reg_max=4, reg_scale=torch.tensor([4.0]), up=torch.tensor([0.5])
    ),
}


def through_file(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def parts(value: Any) -> list[Any]:
    """All tensors and constants in a value, with their places."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, RaggedBatch):
        return [value.tensor, value.mask, value.sample_sizes, value.ragged_axis]
    if dataclasses.is_dataclass(value):
        return [
            part for field in dataclasses.fields(value) for part in [field.name, *parts(getattr(value, field.name))]
        ]
    if isinstance(value, dict):
        return [part for key, each in value.items() for part in [key, *parts(each)]]
    if isinstance(value, (list, tuple)):
        return [type(value), *(part for each in value for part in parts(each))]
    return [value]


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_tensors_comes_back(name: str) -> None:
    value = HOLDERS[name]()
    again = through_file(value)
    assert type(again) is type(value) and again is not value
    before, after = parts(value), parts(again)
    assert [type(part) for part in before] == [type(part) for part in after]
    assert [part for part in before if not isinstance(part, Tensor)] == [
        part for part in after if not isinstance(part, Tensor)
    ]
    assert_same_bits(
        [part for part in after if isinstance(part, Tensor)], [part for part in before if isinstance(part, Tensor)]
    )


def test_every_holder_is_tried() -> None:
    """All classes that are nothing but tensors and constants: those that torch knows, and all public ones."""
    packages = (ragged, matchers, losses)
    registered = {
        cls for cls in pytree.SUPPORTED_NODES if cls.__module__.startswith(tuple(p.__name__ for p in packages))
    }
    public = {getattr(package, name) for package in packages for name in package.__all__}
    holders = {each for each in public if isinstance(each, type) and holds_tensors(each)}
    assert len(holders) > 8
    # Problem and Pairs are what a matcher works on, and end with the call.
    assert registered | holders == {type(make()) for make in HOLDERS.values()} | {matchers.Problem, matchers.Pairs}


@pytest.mark.parametrize("name", HOLDERS)
def test_names_in_files_and_graphs_are_those_of_the_package(name: str) -> None:
    """Not those of modules, which may move."""
    value = HOLDERS[name]()
    public = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if type(value) in pytree.SUPPORTED_NODES:  # named tuples need not be
        assert pytree.SUPPORTED_SERIALIZED_TYPES[type(value)].serialized_type_name == public
    file = io.BytesIO()
    torch.save(value, file)
    assert not re.search(rb"(ragged|matchers|losses)\.[a-z]", pickle.dumps(value))
    assert not re.search(rb"(ragged|matchers|losses)\.[a-z]", file.getvalue())


def holds_tensors(cls: type) -> bool:
    """A named tuple, or a dataclass that does not compare by value and is no module."""
    return hasattr(cls, "_fields") or (
        dataclasses.is_dataclass(cls) and not cls.__dataclass_params__.eq and not issubclass(cls, nn.Module)
    )


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_state_of_criteria(name: str) -> None:
    case = EVERY_CRITERION[name]
    state = through_file(case.make().state_dict())
    fresh = case.make()
    fresh.load_state_dict(state)
    predictions, own = case.predictions(SIZES), case.targets(SIZES)
    assert_same_bits(run_criterion(case, fresh, predictions, own), run_criterion(case, case.make(), predictions, own))


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_inputs_of_criteria(name: str) -> None:
    case = EVERY_CRITERION[name]
    predictions, own = through_file((cast(case.predictions(SIZES), torch.float32), case.targets(SIZES)))
    criterion = case.make()
    assert_same_bits(
        run_criterion(case, criterion, predictions, own),
        run_criterion(case, criterion, case.predictions(SIZES), case.targets(SIZES)),
    )


def test_a_loss_with_weights_keeps_them() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.rand(3), reduction="none")
    criterion = losses.DetectionLoss(loss, losses.GIoULoss(), Hungarian(), "last")
    assert torch.equal(through_file(criterion.state_dict())["cls_loss_module.weight"], loss.weight)


def test_other_classes_are_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        through_file(Foreign())


class Foreign:
    """A class that nobody registered."""
