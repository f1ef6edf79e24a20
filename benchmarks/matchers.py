"""The matchers, from lists of ground truth to an assignment, beside the systems that people use today."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.contest import Case, contest, table
from benchmarks.scenes import CANVAS, Scene, dense_scene, normalized, set_scene
from matchers import ATSS, DynamicSoftLabel, Hungarian, MaxIoU, SimOTA, Targets, TaskAligned

DESCRIPTION = """Milliseconds of one call, from lists of ground truth to an assignment, and by how many megabytes the
memory of a process grows at its peak. Images of 640 × 640 pixels, 80 classes. Heads with
a prediction for each of 8,400 grid points or anchors: 2, 8 and 16 images of 0 to 50 objects, and,
skewed, one of 300 among 7 of 2. Heads with 300 queries (Hungarian): 2, 8 and 32 images of 0 to 20, 50 and 100 objects,
and the same skew. The counterparts are given the same inputs.
"""


def _targets(scene: Scene) -> Targets:
    return Targets.of((scene.boxes, scene.labels), canvas_size=(CANVAS, CANVAS))


def _hungarian(scene: Scene) -> object:
    targets = Targets.of((normalized(scene), scene.labels), box_format="cxcywh", normalized=True)
    return Hungarian()(scene.predictions, targets)


def _dense(call: Callable[[Scene], object]) -> Case:
    return Case(lambda scene: partial(call, scene), dense_scene)


CASES = {
    "Hungarian": Case(lambda scene: partial(_hungarian, scene), set_scene),
    "SimOTA": _dense(lambda scene: SimOTA()(scene.predictions, _targets(scene), scene.points)),
    "DynamicSoftLabel": _dense(lambda scene: DynamicSoftLabel()(scene.predictions, _targets(scene), scene.points)),
    "ATSS": _dense(lambda scene: ATSS()(None, _targets(scene), scene.anchors, level_sizes=scene.level_sizes)),
    "TaskAligned": _dense(lambda scene: TaskAligned()(scene.predictions, _targets(scene), scene.points)),
    "MaxIoU": _dense(lambda scene: MaxIoU()(None, _targets(scene), scene.anchors)),
}
SIZES: tuple[str, ...] = ("small", "medium", "large", "skewed")


def section(rivals: Path | None, threads: int, names: Sequence[str] | None = None) -> str:
    """The text of the section; of some cases only, if they are named."""
    cases = CASES if names is None else {name: CASES[name] for name in names}
    rows = contest("benchmarks.matchers", cases, SIZES, rivals, threads)
    return f"{DESCRIPTION}\n{table('matcher', rows)}"
