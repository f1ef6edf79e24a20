"""The matchers, from lists of ground truth to an assignment, beside the systems that people use today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.contest import Case, Options, contest, packages, table
from benchmarks.scenes import Scene, Size, dense_scene, normalized, set_scene
from matchers import (
    ATSS,
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    DynamicSoftLabel,
    Hungarian,
    MaxIoU,
    SimOTA,
    SoftMin,
    Targets,
    TaskAligned,
    UnbalancedSinkhorn,
    WeightedSum,
)

DESCRIPTION = """Milliseconds of one call, from lists of ground truth to an assignment, and by how many megabytes the
memory of a process grows at its peak. Images of 640 × 640 pixels, 80 classes. Heads with
a prediction for each of 8,400 grid points or anchors: 2, 8 and 16 images of 0 to 50 objects, and,
skewed, one of 300 among 7 of 2. Heads with 300 queries (Hungarian): 2, 8 and 32 images of 0 to 20, 50 and 100 objects,
and the same skew. The counterparts are given the same inputs.
"""


@dataclass(frozen=True)
class MatcherCase(Case):
    """A matcher, and all that is measured of it.

    Args:
        match: One call, with targets that are read already.
        targets: Reads them.
    """

    match: Callable[[Scene, Targets], object]
    targets: Callable[[Scene], Targets]


def matcher_case(
    match: Callable[[Scene, Targets], object], targets: Callable[[Scene], Targets], scene: Callable[[Size], Scene]
) -> MatcherCase:
    """What is measured of a matcher: from lists of ground truth to an assignment."""
    return MatcherCase(lambda given: lambda: match(given, targets(given)), scene, match, targets)


def _targets(scene: Scene) -> Targets:
    return Targets.of((scene.boxes, scene.labels), canvas_size=(scene.canvas, scene.canvas))


def _query_targets(scene: Scene) -> Targets:
    return Targets.of((normalized(scene), scene.labels), box_format="cxcywh", normalized=True)


def _queries(matcher: Callable[[], Callable[[Any, Targets], object]]) -> MatcherCase:
    return matcher_case(lambda scene, targets: matcher()(scene.predictions, targets), _query_targets, set_scene)


def _dense(match: Callable[[Scene, Targets], object]) -> MatcherCase:
    return matcher_case(match, _targets, dense_scene)


CASES = {
    "Hungarian": _queries(Hungarian),
    "SimOTA": _dense(lambda scene, targets: SimOTA()(scene.predictions, targets, scene.points)),
    "DynamicSoftLabel": _dense(lambda scene, targets: DynamicSoftLabel()(scene.predictions, targets, scene.points)),
    "ATSS": _dense(lambda scene, targets: ATSS()(None, targets, scene.anchors, level_sizes=scene.level_sizes)),
    "TaskAligned": _dense(lambda scene, targets: TaskAligned()(scene.predictions, targets, scene.points)),
    "TaskAligned, YOLOv8": _dense(
        lambda scene, targets: TaskAligned.yolov8()(scene.predictions, targets, scene.points)
    ),
    "MaxIoU": _dense(lambda scene, targets: MaxIoU()(None, targets, scene.anchors)),
}
EVERY_CASE = CASES | {
    "ClosestTarget": _queries(ClosestTarget),
    "ClosestPrediction": _queries(ClosestPrediction),
    "BalancedSinkhorn": _queries(BalancedSinkhorn),
    "UnbalancedSinkhorn": _queries(UnbalancedSinkhorn),
    "SoftMin": _queries(SoftMin),
    "WeightedSum": _queries(lambda: WeightedSum([Hungarian(), SoftMin()], same_cost=False)),
}
SIZES: tuple[str, ...] = ("single", "small", "medium", "large", "skewed")


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    rows = contest("benchmarks.matchers", CASES, SIZES, options)
    return f"{DESCRIPTION}\n{packages(options)}\n{table('matcher', rows)}"
