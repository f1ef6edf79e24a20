"""The detectors by the name of their criterion."""

from __future__ import annotations

from collections.abc import Callable

from example import anchor_heads, dense_heads, query_heads, two_stage_heads
from example.data import Task
from example.dense_heads import own
from example.detector import Detector

DETECTORS: dict[str, Callable[[Task], Detector]] = {
    make.__name__: make
    for heads in (dense_heads, query_heads, anchor_heads, two_stage_heads)
    for make in heads.DETECTORS
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
