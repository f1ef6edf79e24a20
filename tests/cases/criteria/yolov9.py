"""The criterion of YOLOv9, without and with an auxiliary branch."""

from __future__ import annotations

from typing import Any

import torch
from reference.yolov9_loss import yolov9
from reliability.call import Call, made
from torch import Tensor

from cases.common import CLASSES, STRIDES, given, of_images, to_levels, whole
from losses import DistanceCoder, Vec2Box, YOLOv9Criterion
from losses.heads.yolov9 import YOLOv9Predictions
from losses.testing import CriterionCase, near_at_points
from matchers import Targets
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("YOLOv9Criterion",)
REG_MAX = 8
VEC2BOX = Vec2Box(image_size=(int(CANVAS), int(CANVAS)), strides=STRIDES)


class TwoBranches(YOLOv9Criterion):
    """Called with predictions ``(main, aux)``, so that both go where other criteria have theirs."""

    def read(self, main_preds: Any, aux_preds: Any = None) -> YOLOv9Predictions:
        if isinstance(main_preds, tuple):
            main_preds, aux_preds = main_preds
        return super().read(main_preds, aux_preds)


def predictions(boxes: list[Tensor], seed: int) -> list[tuple[Tensor, Tensor]]:
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
    "yolov9": CriterionCase(
        lambda **options: YOLOv9Criterion(CLASSES, VEC2BOX, reg_max=REG_MAX, **options), predictions
    ),
    "yolov9 with auxiliary branch": CriterionCase(
        lambda **options: TwoBranches(CLASSES, VEC2BOX, reg_max=REG_MAX, **options),
        lambda boxes, seed: (predictions(boxes, seed), predictions(boxes, seed + 1)),
    ),
}
VARIANTS = {"yolov9 with auxiliary branch"}


def of_branch(levels: Any, targets: Targets, index: Tensor, quality: Tensor, **options: Any) -> dict[str, Tensor]:
    """The terms of one branch."""
    boxes, labels, weights = (of_images(each) for each in (targets.boxes, targets.labels, targets.weights))
    assert boxes is not None and labels is not None
    return yolov9(levels, boxes, labels, index, quality, strides=STRIDES, weights=weights, **options)


def reference(criterion: YOLOv9Criterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    found = criterion.assign(predictions, targets)
    if not isinstance(predictions, tuple):
        return of_branch(predictions, targets, found.target_index, found.quality)
    branches = zip(predictions, found.target_index, found.quality, strict=True)
    main, aux = (of_branch(levels, targets, index, quality) for levels, index, quality in branches)
    return {name: main[name] + 0.25 * aux[name] for name in main}


TAKES = ("by cost", "points")
DEFAULT = "TaskAligned"


def _with_branch() -> Call:
    levels, targets = given(CASES["yolov9"])
    init = {"num_classes": CLASSES, "vec2box": VEC2BOX, "reg_max": REG_MAX}
    return made(YOLOv9Criterion, init | RATES, levels, targets, aux_preds=levels)


RATES = {"cls_rate": 0.5, "dfl_rate": 1.5, "iou_rate": 7.5, "aux_rate": 0.25}
CALLS = {
    "YOLOv9Criterion": whole(
        YOLOv9Criterion, CASES["yolov9"], num_classes=CLASSES, vec2box=VEC2BOX, reg_max=REG_MAX, **RATES
    ),
    "YOLOv9Criterion(auxiliary branch)": _with_branch,
}
# fmt: off
BAD_INPUTS = [
    ("no vec2box", lambda: YOLOv9Criterion(CLASSES, None), TypeError, "vec2box must be a Vec2Box, got NoneType"),
    ("negative rate", lambda: YOLOv9Criterion(CLASSES, Vec2Box(image_size=(16, 16)), cls_rate=-1), ValueError, "cls_rate must not be negative, got -1"),
]
# fmt: on
BUGS = [
    Mutant(
        "choice",
        "distances of the sides averaged twice",
        "losses.criteria.dense.yolov9",
        "self.bbox_coder.encode(points, target)).sum(-1)",
        "self.bbox_coder.encode(points, target)).mean(-1)",
        "yolov9",
        "reference",
    )
]
