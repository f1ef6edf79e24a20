"""The matchers, from lists of ground truth to an assignment, beside the systems that people use today.

Another system takes part through an adapter, a Python file given as ``--rivals``. It has a function
``rival(matcher, scene)`` that returns the name of the counterpart and a function without arguments that does the same
work as ours, or None if there is no counterpart. Names of matchers and scenes are those below.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.scenes import CANVAS, Scene, dense_scene, normalized, set_scene
from benchmarks.timing import Timing, compare
from matchers import ATSS, DynamicSoftLabel, Hungarian, MaxIoU, SimOTA, Targets, TaskAligned

Run = Callable[[], object]

DESCRIPTION = """Milliseconds of one call, from lists of ground truth to an assignment, and by how many megabytes the
memory of a process grows at its peak. Images of 640 × 640 pixels, 80 classes. Heads with
a prediction for each of 8,400 grid points or anchors: 2, 8 and 16 images of 0 to 50 objects, and,
skewed, one of 300 among 7 of 2. Heads with 300 queries (Hungarian): 2, 8 and 32 images of 0 to 20, 50 and 100 objects,
and the same skew. The counterparts are given the same inputs.
"""


@dataclass(frozen=True)
class Case:
    """How a matcher is called on a scene, and which scenes it gets."""

    run: Callable[[Scene], object]
    scene: Callable[[str], Scene]


def _targets(scene: Scene) -> Targets:
    return Targets.of((scene.boxes, scene.labels), canvas_size=(CANVAS, CANVAS))


def _hungarian(scene: Scene) -> object:
    targets = Targets.of((normalized(scene), scene.labels), box_format="cxcywh", normalized=True)
    return Hungarian()(scene.predictions, targets)


CASES = {
    "Hungarian": Case(_hungarian, set_scene),
    "SimOTA": Case(lambda scene: SimOTA()(scene.predictions, _targets(scene), scene.points), dense_scene),
    "DynamicSoftLabel": Case(
        lambda scene: DynamicSoftLabel()(scene.predictions, _targets(scene), scene.points), dense_scene
    ),
    "ATSS": Case(
        lambda scene: ATSS()(None, _targets(scene), scene.anchors, level_sizes=scene.level_sizes), dense_scene
    ),
    "TaskAligned": Case(lambda scene: TaskAligned()(scene.predictions, _targets(scene), scene.points), dense_scene),
    "MaxIoU": Case(lambda scene: MaxIoU()(None, _targets(scene), scene.anchors), dense_scene),
}
SIZES = ("small", "medium", "large", "skewed")


@dataclass(frozen=True)
class Row:
    """One line: microseconds and megabytes, ours and those of a rival, if there is one."""

    matcher: str
    size: str
    ours: Timing
    our_peak: float
    rival: str | None = None
    theirs: Timing | None = None
    their_peak: float | None = None


def matching(rivals: Path | None, threads: int) -> Iterator[Row]:
    """Every matcher at every size."""
    adapter = None if rivals is None else load_adapter(rivals)
    for matcher, case in CASES.items():
        for size in SIZES:
            scene = case.scene(size)
            contestants: dict[str, Run] = {"ours": partial(case.run, scene)}
            found = None if adapter is None else adapter.rival(matcher, scene)
            if found is not None:
                contestants["theirs"] = found[1]
            timings = compare(contestants)
            peak = {who: _peak_in_child(matcher, size, who, rivals, threads) for who in contestants}
            yield Row(
                matcher,
                size,
                timings["ours"],
                peak["ours"],
                None if found is None else found[0],
                timings.get("theirs"),
                peak.get("theirs"),
            )


def section(rivals: Path | None, threads: int) -> str:
    """The part of the report."""
    return f"## Matchers\n\n{DESCRIPTION}\n{table(matching(rivals, threads))}\n"


def table(rows: Iterator[Row]) -> str:
    """The lines of a Markdown table."""
    lines = [
        "| matcher | size | ours, ms | theirs, ms | times faster | ours, MB | theirs, MB | counterpart |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        ours = f"{row.ours.median / 1e3:.1f} ± {row.ours.spread / 1e3:.1f}"
        if row.theirs is None or row.their_peak is None:
            lines.append(f"| {row.matcher} | {row.size} | {ours} | | | {row.our_peak:.0f} | | |")
            continue
        theirs = f"{row.theirs.median / 1e3:.1f} ± {row.theirs.spread / 1e3:.1f}"
        faster = f"{row.theirs.median / row.ours.median:.1f}"
        peaks = f"{row.our_peak:.0f} | {row.their_peak:.0f}"
        lines.append(f"| {row.matcher} | {row.size} | {ours} | {theirs} | {faster} | {peaks} | {row.rival} |")
    return "\n".join(lines)


def load_adapter(path: Path) -> Any:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location("rivals", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _peak_in_child(matcher: str, size: str, who: str, rivals: Path | None, threads: int) -> float:
    request = json.dumps([matcher, size, who, None if rivals is None else str(rivals), threads])
    command = [sys.executable, "-m", "benchmarks.matchers", request]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def peak_growth(run: Run) -> float:
    """By how many megabytes the memory of this process grows, at its peak, in two calls. Reads Linux's /proc."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would not count
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _megabytes("VmRSS")
    for _ in range(2):
        run()
    return _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def _child(request: str) -> None:
    matcher, size, who, rivals, threads = json.loads(request)
    torch.set_num_threads(threads)
    case = CASES[matcher]
    warm, scene = case.scene("small"), case.scene(size)

    def runner(scene: Scene) -> Run:
        if who == "ours":
            return partial(case.run, scene)
        return load_adapter(Path(rivals)).rival(matcher, scene)[1]

    run = runner(scene)
    runner(warm)()  # what is loaded at the first call is not counted
    print(peak_growth(run))


if __name__ == "__main__":
    _child(sys.argv[1])
