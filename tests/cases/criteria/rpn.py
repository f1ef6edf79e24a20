"""The criterion of a region proposal network."""

from __future__ import annotations

from typing import Any

import torch
from reference.rpn_loss import rpn_loss
from torch import Tensor

from cases.common import STRIDES, criterion_of, given, whole
from cases.dense_images import dense_images
from losses import BinaryCrossEntropy, DeltaXYWHCoder, L1Loss, RPNCriterion
from losses.testing import CriterionCase, near_at_points
from matchers import RandomSampler, Targets, anchors
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("RPNCriterion",)
ANCHORS = anchors((int(CANVAS), int(CANVAS)), STRIDES, scales=(2.0,), offset=0.0)
EVERY_ONE = RandomSampler(num_samples=2 * len(ANCHORS), positive_fraction=1.0)
"""Leaves nothing to chance."""


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    predicted = near_at_points(boxes, (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2, generator)
    objectness = torch.randn(*predicted.shape[:2], 1, generator=generator)
    return objectness, DeltaXYWHCoder().encode(ANCHORS, predicted)


CASE = CriterionCase(lambda **options: RPNCriterion(anchors=ANCHORS, **({"sampler": EVERY_ONE} | options)), predictions)
CASES = {"rpn": CASE}
WITHOUT_LABELS = {"rpn"}


def reference(criterion: RPNCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    read, assignment = criterion.read(predictions), criterion.assign(predictions, targets)
    return rpn_loss(dense_images(read, targets, assignment))


TAKES = ("by cost", "anchors")
DEFAULT = "MaxIoU"
CALLS = {
    "RPNCriterion": whole(
        RPNCriterion,
        CASE,
        bbox_coder=DeltaXYWHCoder(),
        loss_cls=BinaryCrossEntropy(),
        loss_bbox=L1Loss(),
        anchors=ANCHORS,
        sampler=EVERY_ONE,
    )
}
# fmt: off
BAD_INPUTS = [
    ("RPN without anchors", lambda: RPNCriterion()(*given(CASE)), ValueError, "RPNCriterion needs anchors"),
    ("RPN with several classes", lambda: criterion_of(CASE)((given(CASE)[0][1], given(CASE)[0][1]), given(CASE)[1]), ValueError, r"objectness of all levels must have shape \(B, P, 1\), got \(2, 80, 4\)"),
    ("a number for a sampler", lambda: RPNCriterion(sampler=256), TypeError, "sampler must be a sampler, as RandomSampler.*got int"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "divided by the samples of one image",
        "losses.criteria.two_stage.rpn",
        '{"num_samples": assigned.num_counted()}',
        '{"num_samples": assigned.num_counted().amax().expand(rows.shape[0])}',
        "rpn",
        "images alone",
    )
]
