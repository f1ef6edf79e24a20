"""The detectors by the name of their criterion."""

from __future__ import annotations

from collections.abc import Callable

from example.anchor_heads import atss, ssd
from example.data import Task
from example.dense_heads import ot, own, rtmdet, yolov9, yolox
from example.detector import Detector
from example.query_heads import detr, dfine

DETECTORS: dict[str, Callable[[Task], Detector]] = {
    "own": own,
    "detr": detr,
    "dfine": dfine,
    "yolox": yolox,
    "yolov9": yolov9,
    "rtmdet": rtmdet,
    "atss": atss,
    "ssd": ssd,
    "ot": ot,
}


def make_detector(criterion: str, task: Task, matcher: str | None = None) -> Detector:
    """Return a new detector.

    Args:
        criterion: One of `DETECTORS`.
        task: What there is to detect.
        matcher: One of ``example.matching.MATCHERS``, for the criterion ``"own"``; by default Hungarian.
    """
    if matcher is None:
        return DETECTORS[criterion](task)
    if criterion != "own":
        raise ValueError(f"the criterion {criterion!r} has a matcher of its own, got {matcher!r}")
    return own(task, matcher)
