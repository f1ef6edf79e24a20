"""Task-aligned assignment, as of TOOD and of YOLOv9."""

from __future__ import annotations

from reference import dense
from reliability import arguments
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import by_rule
from cases.planted import of_matcher, points
from cases.scenes import POINTS
from matchers import TaskAligned
from tests.mutation.planting import Mutant

PROVES = ("TaskAligned",)
CASES = {
    "tood": (TaskAligned.tood(), POINTS),
    "yolov9": (TaskAligned.yolov9(), POINTS),
    "yolov8": (TaskAligned.yolov8(), POINTS),
    "one-to-one": (TaskAligned.yolov8(topk=7, topk2=1), POINTS),
}
reference = by_rule(
    dense.task_aligned,
    "topk",
    "alpha",
    "beta",
    "overlap",
    "only_inside",
    "conflict",
    "quality",
    "min_center_margin",
    "topk2",
    "min_side",
    "add_eps",
)
CHOICES = {"TaskAligned": Choice("points", TaskAligned)}
CALLS = {
    "TaskAligned": matcher(
        TaskAligned,
        arguments.POINTS,
        topk=3,
        alpha=1.0,
        beta=6.0,
        overlap="iou",
        only_inside=True,
        conflict="overlap",
        quality="normalized",
        min_center_margin=0.01,
        topk2=2,
        min_side=4.0,
        add_eps=False,
    )
}
# fmt: off
BAD_INPUTS = [
    ("unknown conflict", lambda: TaskAligned(conflict="best"), ValueError, "conflict must be one of 'overlap', 'metric', 'overlap_inside', got 'best'"),
    ("no prediction to keep", lambda: TaskAligned(topk2=0), ValueError, "topk2 must be at least 1, got 0"),
    ("negative side", lambda: TaskAligned(min_side=-1), ValueError, "min_side must not be negative, got -1"),
    ("quality of those that hold", lambda: TaskAligned(conflict="overlap_inside", quality="normalized_over_all"), ValueError, "quality must be 'metric' or 'normalized' with conflict='overlap_inside'"),
]
# fmt: on
OPERATIONS = {"task aligned": of_matcher(TaskAligned, points)}
BUGS = [
    Mutant(
        "batch-global",
        "targets of the image before",
        "matchers.dense.task_aligned",
        "target = best.targets()",
        "target = best.targets().roll(1, 0)",
        "task aligned",
        "order",
    )
]
