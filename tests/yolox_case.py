"""Case of the criterion of YOLOX, for the tests of what every criterion keeps to."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES, STRIDES, to_levels
from torch import Tensor

from losses import CenterLogSizeCoder, YOLOXCriterion
from losses.testing import CriterionCase, near_at_points
from matchers import grid_points
from matchers.testing import CANVAS


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    points = grid_points((int(CANVAS), int(CANVAS)), STRIDES, offset=0.0)
    middle = points + torch.cat([points[:, 2:] / 2, torch.zeros_like(points[:, 2:])], -1)
    predicted = near_at_points(boxes, middle, generator)
    shape = predicted.shape[:2]
    return (
        to_levels(torch.randn(*shape, CLASSES, generator=generator)),
        to_levels(CenterLogSizeCoder().encode(points, predicted)),
        to_levels(torch.randn(*shape, 1, generator=generator)),
    )


CASES = {
    "yolox": CriterionCase(
        lambda **options: YOLOXCriterion(CLASSES, strides=STRIDES, use_l1=True, **options), predictions
    )
}
