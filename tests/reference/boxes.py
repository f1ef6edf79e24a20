"""The IoU family for one pair of boxes at a time, in plain floats, from the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Box = Sequence[float]
NO_AREA = 1e-12


def convert(box: Box, source: str, to: str) -> list[float]:
    """By way of corners."""
    a, b, c, d = box
    corners = {
        "xyxy": (a, b, c, d),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
        "xywh": (a, b, a + c, b + d),
    }[source]
    left, top, right, bottom = corners
    return {
        "xyxy": [left, top, right, bottom],
        "cxcywh": [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top],
        "xywh": [left, top, right - left, bottom - top],
    }[to]


def area(a: Box) -> float:
    return max(a[2] - a[0], 0.0) * max(a[3] - a[1], 0.0)


def intersection(a: Box, b: Box) -> float:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def ratio(part: float, whole: float) -> float:
    return part / whole if whole > NO_AREA else 0.0


def iou(a: Box, b: Box) -> float:
    shared = intersection(a, b)
    return ratio(shared, area(a) + area(b) - shared)


def iof(a: Box, b: Box) -> float:
    return ratio(intersection(a, b), area(a))


def giou(a: Box, b: Box) -> float:
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return ratio(shared, union) - ratio(hull - union, hull)


def diou(a: Box, b: Box) -> float:
    dx, dy = (a[0] + a[2]) / 2 - (b[0] + b[2]) / 2, (a[1] + a[3]) / 2 - (b[1] + b[3]) / 2
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return iou(a, b) - ratio(dx * dx + dy * dy, width * width + height * height)


def ciou(a: Box, b: Box) -> float:
    # A box without any side is taken for a square.
    first, second = (math.atan2(max(box[2] - box[0], 1e-7), max(box[3] - box[1], 1e-7)) for box in (a, b))
    v = 4 / math.pi**2 * (first - second) ** 2
    return diou(a, b) - (v * v / (1 - iou(a, b) + v) if v else 0.0)


def table(measure: Callable[[Box, Box], float], first: Tensor, second: Tensor) -> Tensor:
    """``measure`` of every pair of boxes (N, 4) and (M, 4), float64; NaN for a box that is not finite."""
    rows = [
        [measure(a, b) if all(map(math.isfinite, (*a, *b))) else math.nan for b in second.double().tolist()]
        for a in first.double().tolist()
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(first), len(second))
