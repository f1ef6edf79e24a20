"""The criterion of RTMDet."""

from __future__ import annotations

from typing import Any

import torch
from reference.rtmdet_loss import rtmdet_loss
from reliability.arguments import assignment
from torch import Tensor

from cases.common import CLASSES, STRIDES, criterion_of, given, to_levels, whole
from cases.dense_images import dense_images
from losses import DistanceCoder, GIoULoss, QualityFocalLoss, RTMDetCriterion
from losses.testing import CriterionCase, near_at_points
from matchers import Targets, grid_points
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("RTMDetCriterion",)


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    points = grid_points((int(CANVAS), int(CANVAS)), STRIDES, offset=0.0)
    predicted = near_at_points(boxes, points, generator)
    distances = DistanceCoder().encode(points, predicted)
    return (
        to_levels(torch.randn(*predicted.shape[:2], CLASSES, generator=generator)),
        to_levels(torch.where(distances.abs() < 0.5, 0.5, distances.abs())),
    )


CASE = CriterionCase(lambda **options: RTMDetCriterion(CLASSES, strides=STRIDES, **options), predictions)
CASES = {"rtmdet": CASE}


def reference(criterion: RTMDetCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    read, assignment = criterion.read(predictions), criterion.assign(predictions, targets)
    return rtmdet_loss(dense_images(read, targets, assignment))


TAKES = ("by cost", "points")
DEFAULT = "DynamicSoftLabel"
CALLS = {
    "RTMDetCriterion": whole(
        RTMDetCriterion,
        CASE,
        num_classes=CLASSES,
        strides=STRIDES,
        loss_cls=QualityFocalLoss(),
        loss_bbox=GIoULoss(),
    )
}
# fmt: off
BAD_INPUTS = [
    ("classes of floats", lambda: RTMDetCriterion(5.0), TypeError, "num_classes must be an integer, got float"),
    ("no coder", lambda: RTMDetCriterion(CLASSES, bbox_coder=3), TypeError, "bbox_coder must be a coder, with encode and decode, got int"),
    ("loss with a wrong assignment", lambda: criterion_of(CASE).loss(*given(CASE), assignment()), ValueError, r"batch shape \(3,\) of the assignment must end with \(2,\)"),
]
# fmt: on
BUGS = [
    Mutant(
        "choice",
        "boxes without the quality of their assignment",
        "losses.criteria.dense.rtmdet",
        "box_values(self.loss_bbox, boxes, assigned.boxes) * quality",
        "box_values(self.loss_bbox, boxes, assigned.boxes)",
        "rtmdet",
        "reference",
    )
]
