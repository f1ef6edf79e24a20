"""What a step launches on an accelerator is held to a budget: the table is lowered, and raised only for a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from effort import thorough

from benchmarks import criteria, launches, matchers
from benchmarks.contest import Options
from benchmarks.scenes import Shape
from ragged.values import once

# Kernels of the forward and of the backward pass, on the path of static shapes.
BUDGETS = {
    "DetrCriterion": (181, 29),
    "DetrCriterion, 6 layers": (186, 31),
    "DFINECriterion": (649, 136),
    "DFINECriterion, 1 layer": (573, 99),
    "DFINECriterion, 6 layers": (661, 148),
    "YOLOXCriterion": (225, 62),
    "RTMDetCriterion": (215, 42),
    "YOLOv9Criterion": (275, 45),
    "YOLOv8Criterion": (286, 33),
    "YOLOv10Criterion, YOLO26": (428, 46),
    "ATSSCriterion": (198, 78),
    "SSDCriterion": (143, 22),
    "SSDLoss": (136, 17),
    "DetectionLoss, Hungarian": (158, 18),
    "DetectionLoss, BalancedSinkhorn": (264, 18),
    "DetectionLoss, UnbalancedSinkhorn": (479, 18),
    "DetectionLoss, SoftMin": (156, 18),
    "DetectionLoss, ClosestPrediction": (153, 18),
    "DetectionLoss, ClosestTarget": (154, 16),
    "DetectionLoss, WeightedSum": (288, 18),
}
# Of a call.
OF_MATCHERS = {
    "Hungarian": 73,
    "SimOTA": 95,
    "DynamicSoftLabel": 105,
    "ATSS": 56,
    "TaskAligned": 73,
    "TaskAligned, YOLOv8": 122,
    "MaxIoU": 44,
    "ClosestTarget": 83,
    "ClosestPrediction": 81,
    "BalancedSinkhorn": 192,
    "UnbalancedSinkhorn": 407,
    "SoftMin": 84,
    "WeightedSum": 171,
}
SIZE = Shape((20, 0, 7), queries=60)


@pytest.fixture(autouse=True)
def _room_for_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that trains one model: the constants of all tests before are more than are kept."""
    monkeypatch.setattr(once, "_MOST", 1 << 16)


@pytest.mark.parametrize("name", criteria.CASES)
def test_criterion_keeps_to_its_budget(name: str) -> None:
    found = launches.criterion_on_device(criteria.CASES[name], SIZE)
    assert found.backward is not None
    forward, backward = BUDGETS[name]
    assert found.forward.kernels <= forward and found.backward.kernels <= backward
    assert found.forward.waits == found.backward.waits == 0


@pytest.mark.parametrize("name", matchers.EVERY_CASE)
def test_matcher_keeps_to_its_budget(name: str) -> None:
    found = launches.matcher_on_device(matchers.EVERY_CASE[name], SIZE).forward
    assert found.kernels <= OF_MATCHERS[name]
    assert found.waits == 0


def test_a_crowded_image_pads_no_other_on_a_device() -> None:
    """Where the host knows how many targets each image has."""
    case = matchers.EVERY_CASE["SimOTA"]
    sizes = (Shape(counts, canvas=320) for counts in ((500, *[2] * 7), (64,) * 8))
    crowded, even = (launches.matcher_on_device(case, size).forward for size in sizes)
    assert crowded.bytes < 1.3 * even.bytes
    assert crowded.kernels < even.kernels + 50


def test_a_criterion_costs_what_its_targets_cost_however_they_are_spread() -> None:
    """16 images, one of them with nearly all objects: the bytes that move forward and backward."""
    case = criteria.CASES["YOLOXCriterion"]
    sizes = (Shape(counts, canvas=320) for counts in ((1000, *[10] * 15), (72, *[72] * 13, 71, 71)))
    crowded, even = (launches.criterion_on_device(case, size) for size in sizes)
    assert crowded.streaming == even.streaming
    assert crowded.bytes < 2 * even.bytes


def test_count() -> None:
    with launches.Count() as count:
        values = torch.arange(6.0).view(2, 3).mT + 1
        values[values > 3].sum().item()
    assert count.names == {"arange": 1, "add": 1, "gt": 1, "index": 1, "sum": 1, "_local_scalar_dense": 1}
    assert (count.views, count.waits) == (2, 2)
    assert count.bytes > 6 * 4 * 4


@thorough
def test_section_has_a_line_for_each_size_and_path(tmp_path: Path) -> None:
    adapter = tmp_path / "rivals.py"
    adapter.write_text("def rival(name, scene):\n    return ('a stand-in', lambda: scene.points + 1)\n")
    text = launches.section(Options(adapter, 1, ("SimOTA", "SSDLoss"), tmp_path))
    lines = [line for line in text.splitlines() if line.startswith(("| SimOTA |", "| SSDLoss |"))]
    assert len(lines) == 2 * len(launches.SIZES) * 2
    assert sum("| 1 | a stand-in |" in line for line in lines) == len(launches.SIZES)
