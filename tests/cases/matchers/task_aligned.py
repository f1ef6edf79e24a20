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
CASES = {"tood": (TaskAligned.tood(), POINTS), "yolov9": (TaskAligned.yolov9(), POINTS)}
reference = by_rule(
    dense.task_aligned, "topk", "alpha", "beta", "overlap", "only_inside", "conflict", "quality", "min_center_margin"
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
    )
}
# fmt: off
BAD_INPUTS = [
    ("unknown conflict", lambda: TaskAligned(conflict="best"), ValueError, "conflict must be 'overlap' or 'metric', got 'best'"),
]
# fmt: on
OPERATIONS = {"task aligned": of_matcher(TaskAligned, points)}
BUGS = [
    Mutant(
        "batch-global",
        "quality relative to the largest metric of all",
        "matchers.dense.task_aligned",
        "most = (value * among).amax(-1, keepdim=True)",
        "most = (value * among).amax()",
        "task aligned",
        "independence",
    )
]
