"""The criterion of YOLOv8, and that of one head of YOLO26."""

from __future__ import annotations

from typing import Any

import torch
from reference.yolov8_loss import yolov8
from torch import Tensor

from cases.common import CLASSES, STRIDES, call, of_images, to_levels, whole
from losses import DistanceCoder, YOLOv8Criterion
from losses.testing import CriterionCase, near_at_points
from matchers import Targets, grid_points
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("YOLOv8Criterion",)
REG_MAX = 8


def predictions(boxes: list[Tensor], seed: int, reg_max: int = REG_MAX) -> list[Tensor]:
    """Maps of each level, whose boxes are near those of the targets."""
    generator = torch.Generator().manual_seed(seed + 2)
    points = grid_points((int(CANVAS), int(CANVAS)), STRIDES)
    found = near_at_points(boxes, points, generator)
    shape = found.shape[:2]
    sides = DistanceCoder(scale_by_stride=True).encode(points, found)
    if reg_max > 1:
        distances = sides.clamp(0, reg_max - 1.2).unsqueeze(-1)
        noise = torch.randn(*shape, 4, reg_max, generator=generator) * 0.3
        sides = (noise - 2 * (torch.arange(reg_max) - distances).abs()).flatten(-2)
    return to_levels(torch.cat([sides, torch.randn(*shape, CLASSES, generator=generator)], -1))


def make(**options: Any) -> YOLOv8Criterion:
    return YOLOv8Criterion(CLASSES, **({"reg_max": REG_MAX, "strides": STRIDES} | options))


CASES: dict[str, CriterionCase] = {
    "yolov8": CriterionCase(make, predictions),
    "yolov8 without bins": CriterionCase(
        lambda **options: make(reg_max=1, **options), lambda boxes, seed: predictions(boxes, seed, 1)
    ),
}
VARIANTS = {"yolov8 without bins"}


def of_head(maps: Any, targets: Targets, index: Tensor, quality: Tensor, **options: Any) -> dict[str, Tensor]:
    """The terms of one head."""
    boxes, labels, weights = (of_images(each) for each in (targets.boxes, targets.labels, targets.weights))
    assert boxes is not None and labels is not None
    return yolov8(maps, boxes, labels, index, quality, strides=STRIDES, weights=weights, **options)


def reference(criterion: YOLOv8Criterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    found = criterion.assign(predictions, targets)
    return of_head(predictions, targets, found.target_index, found.quality, reg_max=criterion.reg_max)


TAKES = ("by cost", "points")
DEFAULT = "TaskAligned"
RATES = {"cls_rate": 0.5, "dfl_rate": 1.5, "iou_rate": 7.5}
CALLS = {
    "YOLOv8Criterion": whole(
        YOLOv8Criterion,
        CASES["yolov8"],
        num_classes=CLASSES,
        reg_max=REG_MAX,
        strides=STRIDES,
        times_batch_size=True,
        **RATES,
    ),
}
FLAT = {"scores": torch.zeros(1, CLASSES, 80), "boxes": torch.zeros(1, 4 * REG_MAX, 80)}
MAPS = [torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)]
# fmt: off
BAD_INPUTS = [
    ("no bins", lambda: YOLOv8Criterion(CLASSES, reg_max=0), ValueError, "reg_max must be at least 1, got 0"),
    ("negative rate of boxes", lambda: YOLOv8Criterion(CLASSES, iou_rate=-1), ValueError, "iou_rate must not be negative, got -1"),
    ("number of images as a factor", lambda: YOLOv8Criterion(CLASSES, times_batch_size=8), TypeError, "times_batch_size must be True or False, got 8"),
    ("flat maps without maps", lambda: call(CASES["yolov8"], FLAT), KeyError, "predictions must have 'feats', got .*'scores', 'boxes'"),
    ("misspelt scores", lambda: call(CASES["yolov8"], FLAT | {"feats": MAPS, "score": MAPS}), KeyError, "nobody reads 'score' of predictions: did you mean 'scores'"),
    ("flat maps of other maps", lambda: call(CASES["yolov8"], FLAT | {"feats": [each[..., :1] for each in MAPS]}), ValueError, "predictions must be for the 12 cells of maps .*, got 80"),
    ("flat maps with predictions first", lambda: call(CASES["yolov8"], FLAT | {"feats": MAPS, "boxes": FLAT["boxes"].mT}), ValueError, "boxes of predictions, flat, must have shape .B, 32, A., got .1, 80, 32"),
    ("maps with one class too many", lambda: call(CASES["yolov8"], [torch.zeros(1, 4 * REG_MAX + CLASSES + 1, n, n) for n in (8, 4)]), ValueError, "the map of level 0 of predictions must have shape .B, 32 . 5, h, w., got .1, 38, 8, 8"),
    ("no maps", lambda: call(CASES["yolov8"], 3.0), TypeError, "predictions must be maps .B, 4 . R . C, h, w., .*got float"),
]
# fmt: on
BUGS = [
    Mutant(
        "value",
        "distances in strides of the other axis",
        "losses.criteria.dense.yolov8",
        "stride[..., :1] / width",
        "stride[..., :1] / 1",
        "yolov8 without bins",
        "reference",
    )
]
