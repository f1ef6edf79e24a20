"""The criterion of YOLOX, and the other way to call it."""

from __future__ import annotations

from typing import Any

import torch
from reference.yolox_loss import yolox
from reliability.call import Call, made
from torch import Tensor

from cases.common import CLASSES, STRIDES, call, criterion_of, given, of_images, to_levels, whole
from losses import CenterLogSizeCoder, YOLOXCriterion, YOLOXLoss
from losses.testing import CriterionCase, near_at_points
from matchers import SimOTA, Targets, grid_points
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("YOLOXCriterion", "YOLOXLoss")


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


CASE = CriterionCase(lambda **options: YOLOXCriterion(CLASSES, strides=STRIDES, use_l1=True, **options), predictions)
CASES = {"yolox": CASE}


def reference(criterion: YOLOXCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    found = criterion.assign(predictions, targets)
    boxes, labels, weights = (of_images(each) for each in (targets.boxes, targets.labels, targets.weights))
    return yolox(predictions, boxes, labels, found.target_index, found.quality, strides=STRIDES, weights=weights)


TAKES = ("by cost", "points")
DEFAULT = "SimOTA"


def _loss() -> Call:
    weights = {f"{name}_loss_weight": 1.0 for name in ("bbox", "class", "objectness", "l1")}
    images = given(CASE)[1].to_dicts()
    targets = [[image[name] for image in images] for name in ("boxes", "labels")]
    init = {"num_classes": CLASSES, "use_l1": True, "strides": STRIDES, **weights}
    return made(YOLOXLoss, init, *given(CASE)[0], *targets, global_count=2.0)


CALLS = {
    "YOLOXCriterion": whole(YOLOXCriterion, CASE, num_classes=CLASSES, strides=STRIDES, use_l1=True, matcher=SimOTA()),
    "YOLOXLoss": _loss,
}
# fmt: off
BAD_INPUTS = [
    ("classes of 0", lambda: YOLOXCriterion(0), ValueError, "num_classes must be at least 1, got 0"),
    ("no strides", lambda: YOLOXCriterion(CLASSES, strides=None), TypeError, "strides must be a list of integers or pairs of them, got NoneType"),
    ("a loss of text", lambda: YOLOXCriterion(CLASSES, loss_cls="bce"), TypeError, "loss_cls must be a loss module or function, got str"),
    ("maps too few", lambda: call(CASE, tuple(each[:1] for each in given(CASE)[0])), ValueError, r"must have a map for each of the strides \(8, 16\), got 1"),
    ("maps without objectness", lambda: call(CASE, given(CASE)[0][:2]), TypeError, "predictions must be .*; got 2 entries"),
    ("loss without assignment", lambda: criterion_of(CASE).loss(*given(CASE)), ValueError, "loss needs the assignment of these targets"),
    ("count of text", lambda: criterion_of(CASE)(*given(CASE), global_count="many"), TypeError, "global_count must be a number, got str"),
    ("negative count", lambda: criterion_of(CASE)(*given(CASE), global_count=-3), ValueError, "global_count must not be negative, got -3"),
    ("count of another name", lambda: criterion_of(CASE)(*given(CASE), global_count={"boxes": 3}), KeyError, "global_count has no 'num_positives'"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "no objectness where nothing in the batch is positive",
        "losses.criteria.dense.yolox",
        "Term(assigned.counted(objectness), count)",
        "Term(assigned.counted(objectness) * assigned.is_positive.any(), count)",
        "yolox",
        "images alone",
    )
]
