"""The criteria compiled: time beside eager execution, what compiling costs, and how often it has to be done again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import criteria
from benchmarks.contest import Options, milliseconds
from benchmarks.criteria import as_tensor, gradients_of, ground_truth
from benchmarks.criterion_scenes import CriterionScene
from benchmarks.scenes import Shape, objects
from benchmarks.timing import compare
from matchers import Targets

DESCRIPTION = """Milliseconds forward and backward, of targets that are padded already, in eager mode and with
``torch.compile(fullgraph=True)`` and inductor; seconds of the first step, and of all further ones that had to compile,
over batches whose numbers of objects change from step to step; and how many graphs there are in the end.
"""
SIZES: tuple[str, ...] = ("large",)
BATCHES = 50
_MOST = 50
BACKEND = "inductor"
CASES = (
    "DetrCriterion",
    "DetrCriterion, 6 layers",
    "DFINECriterion",
    "YOLOXCriterion",
    "RTMDetCriterion",
    "YOLOv9Criterion",
    "ATSSCriterion",
    "SSDCriterion",
)


def targets_of(scene: CriterionScene, layout: str) -> Targets:
    """Ground truth, padded."""
    given = ground_truth(scene, layout)
    if isinstance(given, Targets):
        return given
    return Targets.of(given, box_format="cxcywh", normalized=True)


def changing(scene: CriterionScene, layout: str) -> Iterator[Targets]:
    """Ever other numbers of objects for the same predictions; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(BATCHES):
        most = int(torch.randint(1, _MOST + 1, (), generator=generator))
        counts = torch.randint(most + 1, (len(scene.boxes),), generator=generator).tolist()
        boxes, labels = objects(Shape(tuple(counts), scene.truth.canvas), generator)
        yield targets_of(replace(scene, truth=replace(scene.truth, boxes=boxes, labels=labels)), layout)


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    lines = [
        "| criterion | size | eager, ms | compiled, ms | times faster | first step, s | later compiling, s | graphs |",
        "|---" * 8 + "|",
    ]
    lines += [_line(name, size) for name in options.names or CASES for size in SIZES]
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def _line(name: str, size: str) -> str:
    case: Any = criteria.CASES[name]
    scene = case.scene(size)
    targets = targets_of(scene, case.layout)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    criterion = case.criterion()

    def loss(output: Any, targets: Targets) -> Tensor:
        return as_tensor(criterion(output, targets))

    compiled = torch.compile(loss, fullgraph=True, backend=BACKEND)
    try:
        first, later = _compiling(compiled, scene, [targets, *changing(scene, case.layout)])
    except Exception as error:  # whatever the compiler raises: a line says so
        reason = str(error).strip().splitlines()[0].replace("|", "/")
        return f"| {name} | {size} | | does not compile: {type(error).__name__}: {reason[:100]} | | | | |"
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    timings = compare(
        {
            "eager": gradients_of(lambda: loss(scene.output, targets), scene.leaves),
            "compiled": gradients_of(lambda: compiled(scene.output, targets), scene.leaves),
        }
    )
    faster = timings["eager"].median / timings["compiled"].median
    cells = [name, size, milliseconds(timings["eager"]), milliseconds(timings["compiled"]), f"{faster:.1f}"]
    return f"| {' | '.join([*cells, f'{first:.0f}', f'{later:.0f}', str(graphs)])} |"


def _compiling(compiled: Any, scene: CriterionScene, batches: Sequence[Targets]) -> tuple[float, float]:
    """Seconds of the first step, and of those that brought a new graph."""
    seconds = []
    for targets in batches:
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        start = time.perf_counter()
        gradients_of(partial(compiled, scene.output, targets), scene.leaves)()
        if torch._dynamo.utils.counters["stats"]["unique_graphs"] > before:
            seconds.append(time.perf_counter() - start)
    return seconds[0], sum(seconds[1:])
