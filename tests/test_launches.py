"""What a step launches on an accelerator is held to a budget: the table is lowered, and raised only for a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from effort import thorough

from benchmarks import criteria, launches, matchers
from benchmarks.contest import Options
from benchmarks.scenes import Shape

# Kernels of the forward and of the backward pass, on the path of static shapes.
BUDGETS = {
    "DetrCriterion": (217, 39),
    "DetrCriterion, 6 layers": (221, 69),
    "DFINECriterion": (864, 240),
    "DFINECriterion, 1 layer": (726, 140),
    "DFINECriterion, 6 layers": (900, 296),
    "YOLOXCriterion": (338, 73),
    "RTMDetCriterion": (301, 47),
    "YOLOv9Criterion": (341, 52),
    "YOLOv8Criterion": (347, 38),
    "YOLOv10Criterion, YOLO26": (539, 49),
    "ATSSCriterion": (303, 92),
    "SSDCriterion": (231, 25),
    "SSDLoss": (231, 19),
    "DetectionLoss, Hungarian": (198, 21),
    "DetectionLoss, BalancedSinkhorn": (355, 20),
    "DetectionLoss, UnbalancedSinkhorn": (674, 20),
    "DetectionLoss, SoftMin": (193, 20),
    "DetectionLoss, ClosestPrediction": (198, 20),
    "DetectionLoss, ClosestTarget": (208, 19),
    "DetectionLoss, WeightedSum": (389, 20),
}
# Of a call.
OF_MATCHERS = {
    "Hungarian": 90,
    "SimOTA": 189,
    "DynamicSoftLabel": 175,
    "ATSS": 113,
    "TaskAligned": 113,
    "TaskAligned, YOLOv8": 169,
    "MaxIoU": 115,
    "ClosestTarget": 118,
    "ClosestPrediction": 110,
    "BalancedSinkhorn": 267,
    "UnbalancedSinkhorn": 586,
    "SoftMin": 105,
    "WeightedSum": 209,
}
SIZE = Shape((20, 0, 7), queries=60)


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
