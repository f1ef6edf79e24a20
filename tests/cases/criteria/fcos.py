"""The criterion of FCOS."""

from __future__ import annotations

from typing import Any

import torch
from reference.fcos_loss import fcos_loss
from torch import Tensor

from cases.common import CLASSES, STRIDES, criterion_of, given, to_levels, whole
from cases.dense_images import dense_images
from losses import BinaryCrossEntropy, DistanceCoder, FCOSCriterion, FocalLoss, GIoULoss
from losses.testing import CriterionCase, near_at_points
from matchers import Targets, grid_points
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("FCOSCriterion",)
POINTS = grid_points((int(CANVAS), int(CANVAS)), STRIDES)


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    predicted = near_at_points(boxes, POINTS[:, :2], generator)
    shape = predicted.shape[:2]
    return (
        to_levels(torch.randn(*shape, CLASSES, generator=generator)),
        to_levels(DistanceCoder(scale_by_stride=True).encode(POINTS, predicted)),
        to_levels(torch.randn(*shape, 1, generator=generator)),
    )


CASE = CriterionCase(lambda **options: FCOSCriterion(CLASSES, strides=STRIDES, **options), predictions)
CASES = {"fcos": CASE}


def reference(criterion: FCOSCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    read, assignment = criterion.read(predictions), criterion.assign(predictions, targets)
    return fcos_loss(dense_images(read, targets, assignment))


TAKES = ("by cost", "points")
DEFAULT = "FCOS"
CALLS = {
    "FCOSCriterion": whole(
        FCOSCriterion,
        CASE,
        num_classes=CLASSES,
        bbox_coder=DistanceCoder(scale_by_stride=True),
        loss_cls=FocalLoss(),
        loss_bbox=GIoULoss(),
        loss_centerness=BinaryCrossEntropy(),
        strides=STRIDES,
    )
}
# fmt: off
BAD_INPUTS = [
    ("FCOS without centerness", lambda: criterion_of(CASE)(given(CASE)[0][:2], given(CASE)[1]), TypeError, r"\(class scores, boxes, centerness\).*got 2 entries"),
    ("a key that FCOS does not read", lambda: criterion_of(CASE)({"cls_logits": 1, "bbox_regression": 1, "bbox_ctrness": 1, "objectness": 1}, given(CASE)[1]), KeyError, "nobody reads 'objectness' of the outputs of the head"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "divided by the positives of one image",
        "losses.criteria.dense.fcos",
        '"num_positives": assigned.num_positives()}',
        '"num_positives": assigned.num_positives().amax().expand(rows.shape[0])}',
        "fcos",
        "images alone",
    )
]
