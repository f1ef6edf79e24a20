"""OKS and L1 of one object at a time, in plain floats, from COCO's evaluation and from YOLO-pose."""

from __future__ import annotations

import math
from collections.abc import Sequence

Points = Sequence[Sequence[float]]
# The numbers of COCO's evaluation, of which the deviations are made: of the nose, eyes, ears, shoulders, …
SIGMAS = [
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
]  # fmt: skip


def oks(found: Points, gt: Points, area: float, sigmas: Sequence[float] = SIGMAS) -> float:
    total, visible = 0.0, 0
    for (x, y), (gt_x, gt_y, v), sigma in zip(found, gt, sigmas, strict=True):
        if v > 0:
            deviation = (2 * sigma) ** 2
            e = ((x - gt_x) ** 2 + (y - gt_y) ** 2) / deviation / (area + math.ulp(1.0)) / 2
            total, visible = total + math.exp(-e), visible + 1
    return total / visible if visible else 0.0


def pose_loss(found: Points, gt: Points, area: float, sigmas: Sequence[float] = SIGMAS) -> float:
    """That of YOLO-pose: visible keypoints weigh as if there were all of them."""
    mask = [1.0 if v != 0 else 0.0 for *_, v in gt]
    factor = len(gt) / (sum(mask) + 1e-9)
    parts = []
    for (x, y), (gt_x, gt_y, _), sigma, seen in zip(found, gt, sigmas, mask, strict=True):
        e = ((x - gt_x) ** 2 + (y - gt_y) ** 2) / ((2 * sigma) ** 2 * (area + 1e-9) * 2)
        parts.append(factor * (1 - math.exp(-e)) * seen)
    return sum(parts) / len(parts)


def l1(found: Points, gt: Points) -> float:
    """The mean over the visible keypoints of the sum of both distances."""
    distances = [abs(x - gt_x) + abs(y - gt_y) for (x, y), (gt_x, gt_y, v) in zip(found, gt, strict=True) if v > 0]
    return sum(distances) / len(distances) if distances else 0.0
