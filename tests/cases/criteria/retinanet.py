"""The criterion of RetinaNet."""

from __future__ import annotations

from typing import Any

import torch
from reference.retinanet_loss import retinanet_loss
from torch import Tensor

from cases.common import CLASSES, STRIDES, criterion_of, given, whole
from cases.dense_images import dense_images
from losses import DeltaXYWHCoder, FocalLoss, L1Loss, RetinaNetCriterion
from losses.testing import CriterionCase, near_at_points
from matchers import Targets, anchors
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("RetinaNetCriterion",)
ANCHORS = anchors((int(CANVAS), int(CANVAS)), STRIDES, scales=(2.0,), offset=0.0)


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    predicted = near_at_points(boxes, (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2, generator)
    return {
        "cls_logits": torch.randn(*predicted.shape[:2], CLASSES, generator=generator),
        "bbox_regression": DeltaXYWHCoder().encode(ANCHORS, predicted),
    }


CASE = CriterionCase(lambda **options: RetinaNetCriterion(CLASSES, anchors=ANCHORS, **options), predictions)
CASES = {"retinanet": CASE}


def reference(criterion: RetinaNetCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    read, assignment = criterion.read(predictions), criterion.assign(predictions, targets)
    return retinanet_loss(dense_images(read, targets, assignment))


TAKES = ("by cost", "anchors")
DEFAULT = "MaxIoU"
CALLS = {
    "RetinaNetCriterion": whole(
        RetinaNetCriterion,
        CASE,
        num_classes=CLASSES,
        anchors=ANCHORS,
        loss_cls=FocalLoss(),
        loss_bbox=L1Loss(),
    )
}
# fmt: off
BAD_INPUTS = [
    ("RetinaNet without anchors", lambda: RetinaNetCriterion(CLASSES)(*given(CASE)), ValueError, "RetinaNetCriterion needs anchors"),
    ("RetinaNet without boxes", lambda: criterion_of(CASE)({"cls_logits": given(CASE)[0]["cls_logits"]}, given(CASE)[1]), KeyError, "must have 'bbox_regression'"),
    ("a key that RetinaNet does not read", lambda: criterion_of(CASE)(given(CASE)[0] | {"bbox_ctrness": torch.zeros(1)}, given(CASE)[1]), KeyError, "nobody reads 'bbox_ctrness' of the outputs of the head"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "boxes of an image divided by the positives of all",
        "losses.criteria.dense.retinanet",
        "positives.clamp(min=self.normalizer.minimum)",
        "positives.sum().expand_as(positives).clamp(min=self.normalizer.minimum)",
        "retinanet",
        "images alone",
    )
]
