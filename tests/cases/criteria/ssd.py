"""The criterion of SSD of level maps."""

from __future__ import annotations

from typing import Any

import torch
from reference.ssd_loss import ImageLoss, ssd_image
from torch import Tensor

from cases.common import CLASSES, STRIDES, given, to_levels, whole
from losses import DeltaXYWHCoder, SSDCriterion, flatten_levels
from losses.testing import CriterionCase, near_at_points
from matchers import MaxIoU, Targets, anchors, convert
from matchers.testing import CANVAS
from tests.mutation.planting import Mutant

PROVES = ("SSDCriterion",)
RATIOS = ((0.5, 1.5), (1.0,))
"""Of the anchors of each level: levels may differ in how many there are in a cell."""
PER_CELL = [len(each) for each in RATIOS]
CODER = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))


def level_anchors() -> list[Tensor]:
    """Of each level (n, 4), xyxy in pixels."""
    size = (int(CANVAS), int(CANVAS))
    return [
        anchors(size, (stride,), ratios=ratios, scales=(1.5,)) for stride, ratios in zip(STRIDES, RATIOS, strict=True)
    ]


def deltas_of(boxes: list[Tensor], generator: torch.Generator) -> Tensor:
    """What a head would predict (B, P, 4)."""
    priors = torch.cat(level_anchors())
    return CODER.encode(priors, near_at_points(boxes, (priors[:, :2] + priors[:, 2:]) / 2, generator))


def predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    deltas = deltas_of(boxes, generator)
    scores = torch.randn(*deltas.shape[:2], CLASSES + 1, generator=generator) * 2
    maps: tuple[list[Tensor], list[Tensor]] = ([], [])
    for level, own in enumerate(level_anchors()):
        for values, result in zip((scores, deltas), maps, strict=True):
            # The channels of the boxes of a cell stand next to each other.
            part, rest = values[:, : len(own)], values[:, len(own) :]
            result += to_levels(part.unflatten(1, (-1, PER_CELL[level])).flatten(2), (STRIDES[level],))
            scores, deltas = (rest, deltas) if values is scores else (scores, rest)
    return maps


def make(**options: Any) -> SSDCriterion:
    return SSDCriterion(CLASSES + 1, **({"anchors": torch.cat(level_anchors())} | options))


CASE = CriterionCase(
    make, predictions, without={"weights": "there are as many hard negatives as the weights of positives allow"}
)
CASES = {"ssd": CASE}


def flat_scores(maps: Any) -> Tensor:
    """Class scores (B, P, C + 1) of all levels."""
    return flatten_levels(maps, channels=CLASSES + 1, name="class scores", num_per_cell=PER_CELL)


def by_image(criterion: SSDCriterion, predictions: Any, targets: Targets, **options: Any) -> list[ImageLoss]:
    """Sums of every image; ``options`` are those of the reference."""
    deltas = flatten_levels(predictions[1], channels=4, name="boxes", num_per_cell=PER_CELL)
    priors = convert(torch.cat(level_anchors()), "xyxy", "cxcywh")
    boxes = targets.boxes_as("cxcywh", normalized=False)
    given = (flat_scores(predictions[0]), deltas, priors, boxes)
    return images_of(criterion, predictions, targets, given, background_first=False, **options)


def images_of(
    criterion: Any, predictions: Any, targets: Targets, given: tuple[Tensor, ...], **options: Any
) -> list[ImageLoss]:
    """Of logits (B, P, C + 1), deltas (B, P, 4), priors (P, 4) and target boxes."""
    index = criterion.assign(predictions, targets).target_index
    logits, deltas, priors, boxes = given
    weights = [None] * len(logits) if targets.weights is None else targets.weights.tensor.tolist()
    labels = targets.labels.tensor
    return [
        ssd_image(
            logits[b],
            deltas[b],
            priors,
            index[b].tolist(),
            boxes[b],
            labels[b].tolist(),
            weights=weights[b],
            **options,
        )
        for b in range(len(logits))
    ]


def terms_of(images: list[ImageLoss]) -> dict[str, Tensor]:
    divisor = max(sum(each.positives for each in images), 1.0)
    return {
        "loss_cls": torch.stack([each.classes for each in images]).sum() / divisor,
        "loss_bbox": torch.stack([each.boxes for each in images]).sum() / divisor,
    }


def reference(criterion: SSDCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    return terms_of(by_image(criterion, predictions, targets))


TAKES = ("by cost", "anchors")
DEFAULT = "MaxIoU"
CALLS = {
    "SSDCriterion": whole(
        SSDCriterion,
        CASE,
        num_classes=CLASSES + 1,
        anchors=torch.cat(level_anchors()),
        neg_pos_ratio=3.0,
        reg_decoded_bbox=False,
        smoothl1_beta=1.0,
        negatives_without_positives=1.0,
        bg_class_position="last",
        matcher=MaxIoU(),
    )
}
# fmt: off
BAD_INPUTS = [
    ("classes without background", lambda: SSDCriterion(1), ValueError, "num_classes counts the background, so that it must be 2 at least, got 1"),
    ("label of the background, SSD", lambda: make(bg_class_position="first")(given(CASE)[0], [{"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0])}] * 2), ValueError, "label 0 at position 0 of sample 0 is that of the background, the first of 6 classes"),
    ("unknown place of the background, SSD", lambda: SSDCriterion(3, bg_class_position="none"), ValueError, "bg_class_position must be .*'last'.*'first', got 'none'"),
    ("anchors missing", lambda: SSDCriterion(CLASSES + 1)(*given(CASE)), ValueError, "SSDCriterion needs anchors"),
]
# fmt: on
BUGS = [
    Mutant(
        "choice",
        "the first class is the background",
        "losses.criteria.dense.ssd",
        "background=self._background,\n            ratio",
        "background=0,\n            ratio",
        "ssd",
        "reference",
    )
]
