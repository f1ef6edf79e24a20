"""Cases of the criterion of ATSS, for the tests of what every criterion keeps to."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES, STRIDES, to_levels
from torch import Tensor

from losses import DeltaXYWHCoder
from losses.criteria.dense.atss import ATSSCriterion
from losses.testing import CriterionCase, near_at_points
from matchers import anchors
from matchers.testing import CANVAS

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


def _make(**options: Any) -> ATSSCriterion:
    return ATSSCriterion(CLASSES, strides=STRIDES, anchor_scale=SCALE, **options)


CASES = {
    "atss": CriterionCase(_make, predictions),
    "atss qfl": CriterionCase(lambda **options: _make(use_qfl=True, **options), predictions),
}
