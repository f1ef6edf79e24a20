"""Predictions of a YOLOv9 head, without and with an auxiliary branch, for the tests of the common contract."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES, STRIDES, to_levels
from torch import Tensor

from losses.coders.distribution import Vec2Box
from losses.coders.points import DistanceCoder
from losses.criteria.dense.yolov9 import YOLOv9Criterion
from losses.heads.yolov9 import YOLOv9Predictions
from losses.testing import CriterionCase, near_at_points
from matchers.testing import CANVAS

REG_MAX = 8
VEC2BOX = Vec2Box(image_size=(int(CANVAS), int(CANVAS)), strides=STRIDES)


class TwoBranches(YOLOv9Criterion):
    """Called with predictions ``(main, aux)``, so that both go where other criteria have theirs."""

    def read(self, main_preds: Any, aux_preds: Any = None) -> YOLOv9Predictions:
        if isinstance(main_preds, tuple):
            main_preds, aux_preds = main_preds
        return super().read(main_preds, aux_preds)


def predict(boxes: list[Tensor], seed: int) -> list[tuple[Tensor, Tensor]]:
    """Class logits and distributions of each level, that peak near the distances of a target."""
    generator = torch.Generator().manual_seed(seed + 2)
    points = VEC2BOX.points(torch.empty(0))
    found = near_at_points(boxes, points, generator)
    shape = found.shape[:2]
    distances = DistanceCoder(scale_by_stride=True).encode(points, found).clamp(0, REG_MAX - 1.2)
    bins = torch.arange(REG_MAX, dtype=torch.float32).view(-1, 1)
    noise = torch.randn(*shape, REG_MAX, 4, generator=generator) * 0.3
    distribution = noise - 2 * (bins - distances.unsqueeze(-2)).abs()
    logits = to_levels(torch.randn(*shape, CLASSES, generator=generator))
    maps = [each.unflatten(1, (REG_MAX, 4)).contiguous() for each in to_levels(distribution.flatten(-2))]
    return list(zip(logits, maps, strict=True))


CASES: dict[str, CriterionCase] = {
    "yolov9": CriterionCase(lambda **options: YOLOv9Criterion(CLASSES, VEC2BOX, reg_max=REG_MAX, **options), predict),
    "yolov9 with auxiliary branch": CriterionCase(
        lambda **options: TwoBranches(CLASSES, VEC2BOX, reg_max=REG_MAX, **options),
        lambda boxes, seed: (predict(boxes, seed), predict(boxes, seed + 1)),
    ),
}
