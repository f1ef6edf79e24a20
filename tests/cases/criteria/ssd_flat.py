"""The loss of SSD of flat predictions, which gives its parts as well."""

from __future__ import annotations

from typing import Any

import torch
from reference.ssd_loss import ImageLoss
from torch import Tensor

from cases.common import CLASSES, call, given, whole
from cases.criteria import ssd
from losses import SSDLoss
from losses.testing import CriterionCase
from matchers import Targets, convert
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("SSDLoss",)


def default_boxes() -> Tensor:
    """Of all levels (P, 4), cxcywh in fractions of the image."""
    return convert(torch.cat(ssd.level_anchors()), "xyxy", "cxcywh") / CANVAS


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    deltas = ssd.deltas_of(boxes, generator)
    scores = torch.randn(len(boxes), CLASSES + 1, deltas.shape[1], generator=generator) * 2
    return deltas.mT.contiguous(), scores


def make(**options: Any) -> SSDLoss:
    return SSDLoss(default_boxes(), **options)


CASE = CriterionCase(
    make, predictions, box_format="cxcywh", normalized=True, as_terms=lambda result: {"loss": result[0]}
)
CASES = {"ssd loss": CASE}


def by_image(criterion: SSDLoss, predictions: Any, targets: Targets, **options: Any) -> list[ImageLoss]:
    """Sums of every image; ``options`` are those of the reference."""
    boxes = targets.boxes_as("cxcywh", normalized=True)
    given = (predictions[1].mT, predictions[0].mT, default_boxes(), boxes)
    return ssd.images_of(criterion, predictions, targets, given, background_first=True, **options)


def of_image(image: ImageLoss, alpha: float) -> Tensor:
    return ((2 - alpha) * image.boxes + alpha * image.classes) / max(image.positives, 1.0)


def reference(criterion: SSDLoss, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    images = by_image(criterion, predictions, targets)
    return {"loss": torch.stack([of_image(each, 1.0) for each in images]).mean()}


TAKES = ("by cost", "MaxIoU")
DEFAULT = "MaxIoU"
CALLS = {
    "SSDLoss": whole(
        SSDLoss,
        CASE,
        dboxes=default_boxes(),
        alpha=1.0,
        iou_thresh=0.5,
        neg_pos_ratio=3.0,
        negatives_without_positives=1.0,
    )
}
# fmt: off
BAD_INPUTS = [
    ("weight of boxes below 0", lambda: SSDLoss(default_boxes(), alpha=2.5), ValueError, r"alpha must lie in \[0, 2\], got 2.5"),
    ("default boxes of a list", lambda: SSDLoss([[0.5, 0.5, 1.0, 1.0]]), TypeError, "dboxes must be a tensor, or what gives one for order='xywh', got list"),
    ("scores of other boxes", lambda: call(CASE, (given(CASE)[0][0], given(CASE)[0][1][..., :-1])), ValueError, r"boxes must have the shape of .*\(2, 4, 143\), got \(2, 4, 144\)"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "each image divided by the positives of the image that has most",
        "losses.criteria.dense.ssd_flat",
        'divisor = {"num_images": torch.ones_like(positives)}, positives.clamp(',
        'divisor = {"num_images": torch.ones_like(positives)}, positives.amax().expand_as(positives).clamp(',
        "ssd loss",
        "images alone",
    )
]
