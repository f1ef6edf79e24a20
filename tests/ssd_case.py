"""Cases of the two losses of SSD, for the tests of what every criterion keeps to."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES, STRIDES, to_levels
from torch import Tensor

from losses.coders.boxes import DeltaXYWHCoder
from losses.criteria.dense.ssd import SSDCriterion
from losses.criteria.dense.ssd_flat import SSDLoss
from losses.testing import CriterionCase, near_at_points
from matchers import anchors, convert
from matchers.testing import CANVAS

RATIOS = ((0.5, 1.5), (1.0,))
"""Of the anchors of each level: levels may differ in how many there are in a cell."""
CODER = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))


def level_anchors() -> list[Tensor]:
    """Of each level (n, 4), xyxy in pixels."""
    size = (int(CANVAS), int(CANVAS))
    return [
        anchors(size, (stride,), ratios=ratios, scales=(1.5,)) for stride, ratios in zip(STRIDES, RATIOS, strict=True)
    ]


def default_boxes() -> Tensor:
    """Of all levels (P, 4), cxcywh in fractions of the image."""
    return convert(torch.cat(level_anchors()), "xyxy", "cxcywh") / CANVAS


def deltas_of(boxes: list[Tensor], generator: torch.Generator) -> Tensor:
    """What a head would predict (B, P, 4)."""
    priors = torch.cat(level_anchors())
    return CODER.encode(priors, near_at_points(boxes, (priors[:, :2] + priors[:, 2:]) / 2, generator))


def ssd_predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    deltas = deltas_of(boxes, generator)
    scores = torch.randn(*deltas.shape[:2], CLASSES + 1, generator=generator) * 2
    maps: tuple[list[Tensor], list[Tensor]] = ([], [])
    for level, own in enumerate(level_anchors()):
        count = len(RATIOS[level])
        for values, result in zip((scores, deltas), maps, strict=True):
            # The channels of the boxes of a cell stand next to each other.
            part, rest = values[:, : len(own)], values[:, len(own) :]
            result += to_levels(part.unflatten(1, (-1, count)).flatten(2), (STRIDES[level],))
            scores, deltas = (rest, deltas) if values is scores else (scores, rest)
    return maps


def flat_predictions(boxes: list[Tensor], seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed + 2)
    deltas = deltas_of(boxes, generator)
    scores = torch.randn(len(boxes), CLASSES + 1, deltas.shape[1], generator=generator) * 2
    return deltas.mT.contiguous(), scores


CASES = {
    "ssd": CriterionCase(
        lambda **options: SSDCriterion(CLASSES + 1, anchors=torch.cat(level_anchors()), **options), ssd_predictions
    ),
    "ssd loss": CriterionCase(
        lambda **options: SSDLoss(default_boxes(), **options),
        flat_predictions,
        box_format="cxcywh",
        normalized=True,
        as_terms=lambda result: {"loss": result[0]},
    ),
}
