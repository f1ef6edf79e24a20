"""Every matcher with its priors, and scenes for them: what the tests of all matchers run over.

matcher, priors = MATCHERS["simota"]
predictions, targets = scene(3, 0, 5)
result = matcher(predictions, targets, priors)
"""

from __future__ import annotations

from typing import Any

import torch

from matchers import (
    ATSS,
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    DynamicSoftLabel,
    Hungarian,
    MaxIoU,
    SimOTA,
    SoftMin,
    Targets,
    TaskAligned,
    UnbalancedSinkhorn,
    grid_points,
)

CANVAS = 64
POINTS = grid_points((CANVAS, CANVAS), [8, 16])
ANCHORS = torch.cat([POINTS[:, :2] - 2 * POINTS[:, 2:], POINTS[:, :2] + 2 * POINTS[:, 2:]], 1)
MATCHERS: dict[str, tuple[Any, Any]] = {
    "hungarian": (Hungarian(), None),
    "max_iou": (MaxIoU(), ANCHORS),
    "atss": (ATSS(topk=40), ANCHORS),
    "simota": (SimOTA(), POINTS),
    "dynamic_soft_label": (DynamicSoftLabel(), POINTS),
    "tood": (TaskAligned.tood(), POINTS),
    "yolov9": (TaskAligned.yolov9(), POINTS),
    "closest_target": (ClosestTarget(), None),
    "closest_prediction": (ClosestPrediction(), None),
    "balanced": (BalancedSinkhorn(), None),
    "unbalanced": (UnbalancedSinkhorn(), None),
    "softmin": (SoftMin(), None),
}


def scene(*counts: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], Targets]:
    generator = torch.Generator().manual_seed(seed)
    images = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 20], 1)
        images.append({"boxes": boxes, "labels": torch.randint(3, (count,), generator=generator)})
    predicted = ANCHORS + torch.randn(len(counts), len(POINTS), 4, generator=generator)
    logits = torch.randn(len(counts), len(POINTS), 3, generator=generator)
    return {"pred_logits": logits, "pred_boxes": predicted}, Targets.of(images, canvas_size=(CANVAS, CANVAS))
