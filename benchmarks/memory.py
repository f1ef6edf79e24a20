"""What one crowded image costs: by how much the memory grows at its peak, each case in a process of its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks import criteria, matchers
from benchmarks.contest import Case, Options, peak_growth
from benchmarks.criterion_scenes import CriterionScene

DESCRIPTION = """By how many megabytes the memory of a process grows at its peak, in a call with one image of 5,000
objects among 7 of 2: for criteria forward and backward, gradients included, which are as large as the predictions. The
budget is the predictions and 64 MB. Where a plan is the result, it alone takes B P G values: 46 MB here.
"""
SIZE = "crowded"
BUDGET = 64.0
MODULES: dict[str, Mapping[str, Case]] = {
    "benchmarks.matchers": matchers.EVERY_CASE,
    "benchmarks.criteria": criteria.CASES,
}


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    lines = ["| of | predictions, MB | growth, MB | budget, MB | within |", "|---" * 5 + "|"]
    for module, cases in MODULES.items():
        for name in cases:
            if options.wants(name):
                predictions, growth = _in_child(module, name, options.threads)
                budget = predictions + BUDGET
                within = "yes" if growth <= budget else "no"
                lines.append(f"| {name} | {predictions:.0f} | {growth:.0f} | {budget:.0f} | {within} |")
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def _in_child(module: str, name: str, threads: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.memory", json.dumps([module, name, SIZE, threads])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    predictions, growth = json.loads(done.stdout.strip().splitlines()[-1])
    return predictions, growth


def _child(request: str) -> None:
    module, name, size, threads = json.loads(request)
    torch.set_num_threads(threads)
    importlib.import_module(module)
    case = MODULES[module][name]
    case.run(case.scene("small"))()  # what is loaded at the first call is not counted
    scene = case.scene(size)
    print(json.dumps([_predictions(scene), peak_growth(case.run(scene))]))


def _predictions(scene: Any) -> float:
    """Megabytes."""
    if isinstance(scene, CriterionScene):
        tensors = scene.leaves
    else:
        tensors = [each for each in (scene.predictions.logits, scene.predictions.boxes) if each is not None]
    return sum(each.nbytes for each in tensors) / 2**20


if __name__ == "__main__":
    _child(sys.argv[1])
