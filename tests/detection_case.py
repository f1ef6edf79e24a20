"""Detection losses, one with a hard assignment and one with a soft plan, for the tests of the criteria's contract."""

from __future__ import annotations

from typing import Any

import torch
from criterion_types import CLASSES
from torch import Tensor, nn

from losses.criteria.detection import DetectionLoss
from losses.modules.boxes import GIoULoss
from losses.modules.combined import MultipleObjectiveLoss
from losses.modules.per_prediction import NegativeProbLoss, SigmoidFocalCost, SigmoidFocalLoss
from losses.testing import CriterionCase, near
from matchers import BalancedSinkhorn, Hungarian

PREDICTIONS = 12


def detection_predictions(boxes: list[Tensor], seed: int, *, classes: int = CLASSES + 1) -> dict[str, Tensor]:
    """Logits and boxes of images with these target boxes."""
    generator = torch.Generator().manual_seed(seed + 2)
    predicted = near(boxes, PREDICTIONS, generator)
    return {
        "pred_logits": torch.randn(len(boxes), PREDICTIONS, classes, generator=generator),
        "pred_boxes": predicted,
    }


def hard(**options: Any) -> DetectionLoss:
    boxes = MultipleObjectiveLoss([nn.L1Loss(reduction="none"), GIoULoss()], [0.05, 2.0])
    matcher = Hungarian(cls_match_module=NegativeProbLoss(), loc_match_module=boxes)
    return DetectionLoss(nn.CrossEntropyLoss(reduction="none"), boxes, matcher, "last", **options)


def soft(**options: Any) -> DetectionLoss:
    matcher = BalancedSinkhorn(
        cls_match_module=SigmoidFocalCost(alpha=0.25), loc_match_module=GIoULoss(), background_cost=0.8, num_iter=10
    )
    return DetectionLoss(SigmoidFocalLoss(alpha=0.25), GIoULoss(), matcher, "none", True, 2.0, **options)


def _as_terms(result: Any) -> dict[str, Any]:
    return {"loss": result}


CASES: dict[str, CriterionCase] = {
    "detection": CriterionCase(hard, detection_predictions, as_terms=_as_terms),
    "detection soft": CriterionCase(
        soft, lambda boxes, seed: detection_predictions(boxes, seed, classes=CLASSES), as_terms=_as_terms
    ),
}
