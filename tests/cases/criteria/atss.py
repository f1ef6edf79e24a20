"""The criterion of ATSS."""

from __future__ import annotations

from typing import Any

import torch
from reference.atss_loss import atss_loss
from torch import Tensor

from cases.common import CLASSES, STRIDES, to_levels, whole
from cases.dense_images import dense_images
from losses import ATSSCriterion, DeltaXYWHCoder, GIoULoss
from losses.testing import CriterionCase, near_at_points
from matchers import Targets, anchors
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("ATSSCriterion",)
SCALE = 2.0


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    priors = anchors((int(CANVAS), int(CANVAS)), STRIDES, scales=(SCALE,), offset=0.0)
    predicted = near_at_points(boxes, (priors[:, :2] + priors[:, 2:]) / 2, generator)
    shape = predicted.shape[:2]
    return (
        to_levels(torch.randn(*shape, CLASSES, generator=generator)),
        to_levels(DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2)).encode(priors, predicted)),
        to_levels(torch.randn(*shape, 1, generator=generator)),
    )


def make(**options: Any) -> ATSSCriterion:
    return ATSSCriterion(CLASSES, strides=STRIDES, anchor_scale=SCALE, **options)


CASES = {
    "atss": CriterionCase(make, predictions),
    "atss qfl": CriterionCase(lambda **options: make(use_qfl=True, **options), predictions),
}
VARIANTS = {"atss qfl"}


def reference(criterion: ATSSCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    read, assignment = criterion.read(predictions), criterion.assign(predictions, targets)
    return atss_loss(dense_images(read, targets, assignment), use_qfl=criterion.use_qfl)


TAKES = ("by cost", "anchors")
DEFAULT = "ATSS"
CALLS = {
    "ATSSCriterion": whole(
        ATSSCriterion,
        CASES["atss"],
        num_classes=CLASSES,
        strides=STRIDES,
        anchor_scale=2.0,
        use_qfl=False,
        qfl_cfg={"beta": 2.0},
        reg_decoded_bbox=True,
        bg_loss_weight=0.5,
        use_centerness=True,
    )
}
# fmt: off
BAD_INPUTS = [
    ("a reduced loss", lambda: ATSSCriterion(CLASSES, loss_bbox=GIoULoss(reduction="mean")), ValueError, "loss_bbox must have reduction='none', got 'mean'"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "boxes divided by the mean centerness of all images",
        "losses.criteria.dense.atss",
        "rows.per_sample(assigned.counted_rows(central))}",
        "rows.per_sample(assigned.counted_rows(central)).mean().expand(rows.shape[0])}",
        "atss",
        "images alone",
    )
]
