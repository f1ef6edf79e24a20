"""The matchers that suit the example's detector, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from example.data import Task
from matchers import (
    ATSS,
    Assignment,
    ClosestTarget,
    DynamicSoftLabel,
    Hungarian,
    MaxIoU,
    Pairs,
    Predictions,
    SimOTA,
    Targets,
    TaskAligned,
    anchors,
    grid_points,
)

Matcher = Callable[[Predictions, Targets], Assignment]

# In strides; digits are 16 to 36 pixels high.
_ANCHOR_SIDE = 3.0


def centre_distance(pairs: Pairs) -> Tensor:
    """Distance of each prior's centre from each target's, in half sides of the target: below 1 inside (R, P)."""
    prior, gt = pairs.priors, pairs.gt
    across = (prior.x1 + prior.x2 - gt.x1 - gt.x2) / (gt.x2 - gt.x1)
    down = (prior.y1 + prior.y2 - gt.y1 - gt.y2) / (gt.y2 - gt.y1)
    return torch.maximum(across.abs(), down.abs())


# Each takes predictions, targets and priors; the second entry says which priors.
MATCHERS: dict[str, tuple[Callable[..., Assignment], str]] = {
    "hungarian": (Hungarian(), "none"),
    "closest-target": (ClosestTarget(centre_distance, is_anchor_based=True, background_cost=0.4), "anchors"),
    "max-iou": (MaxIoU(pos_iou_thr=0.5, neg_iou_thr=0.4), "anchors"),
    "atss": (ATSS(), "anchors"),
    "simota": (SimOTA(), "points"),
    "dynamic-soft-label": (DynamicSoftLabel(), "points"),
    "task-aligned": (TaskAligned.yolov8(), "points"),
}


def make_matcher(name: str, task: Task) -> Matcher:
    """Return a matcher for a detector with one prediction in each cell of all levels.

    Args:
        name: One of `MATCHERS`.
        task: Says which cells there are.
    """
    matcher, kind = MATCHERS[name]
    size = (task.image_size, task.image_size)
    boxes, points = anchors(size, task.strides, scales=[_ANCHOR_SIDE]), grid_points(size, task.strides)
    priors = {"none": None, "anchors": boxes, "points": points}[kind]

    def match(predictions: Predictions, targets: Targets) -> Assignment:
        return matcher(predictions, targets, None if priors is None else priors.to(targets.device))

    return match
