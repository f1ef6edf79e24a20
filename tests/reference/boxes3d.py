"""Boxes in 3D, one at a time, in plain floats: the parameters of DETR3D, and their L1."""

from __future__ import annotations

import math
from collections.abc import Sequence

Numbers = Sequence[float]


def encode(box: Numbers) -> list[float]:
    x, y, z, w, length, h, yaw, *velocity = box
    return [x, y, math.log(w), math.log(length), z, math.log(h), math.sin(yaw), math.cos(yaw), *velocity]


def decode(code: Numbers) -> list[float]:
    x, y, log_w, log_l, z, log_h, sine, cosine, *velocity = code
    return [x, y, z, math.exp(log_w), math.exp(log_l), math.exp(log_h), math.atan2(sine, cosine), *velocity]


def l1(found: Numbers, wanted: Numbers, weights: Numbers | None = None) -> float:
    weights = weights or [1.0] * len(wanted)
    return sum(w * abs(x - t) for x, t, w in zip(found, wanted, weights, strict=True) if w)


def l1_loss(found: Numbers, wanted: Numbers, weights: Numbers | None = None) -> float:
    """Nothing of a box with a parameter that is not known."""
    return l1(found, wanted, weights) if all(map(math.isfinite, wanted)) else 0.0
