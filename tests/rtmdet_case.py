"""Case of the criterion of RTMDet, for the tests of what every criterion keeps to."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES, STRIDES, to_levels
from torch import Tensor

from losses import DistanceCoder
from losses.criteria.dense.rtmdet import RTMDetCriterion
from losses.testing import CriterionCase, near_at_points
from matchers import grid_points
from matchers.testing import CANVAS


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    points = grid_points((int(CANVAS), int(CANVAS)), STRIDES, offset=0.0)
    predicted = near_at_points(boxes, points, generator)
    distances = DistanceCoder().encode(points, predicted)
    return (
        to_levels(torch.randn(*predicted.shape[:2], CLASSES, generator=generator)),
        to_levels(torch.where(distances.abs() < 0.5, 0.5, distances.abs())),
    )


CASES = {"rtmdet": CriterionCase(lambda **options: RTMDetCriterion(CLASSES, strides=STRIDES, **options), predictions)}
