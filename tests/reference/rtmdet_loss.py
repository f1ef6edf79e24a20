"""The loss of RTMDet for one image and one prediction at a time, from the paper, with numbers that differentiate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from reference.atss_loss import DenseImage, giou, quality_focal
from torch import Tensor


def rtmdet_loss(images: Sequence[DenseImage]) -> dict[str, Tensor]:
    classes = boxes = sum((image.logits.sum() + image.deltas.sum()) * 0 for image in images)
    total = 0.0
    for image in images:
        assert image.quality is not None
        for p, g in enumerate(image.assigned):
            if g == -2:
                continue
            weight, quality = (image.weights[g], image.quality[p]) if g >= 0 else (1.0, 0.0)
            if g >= 0:
                boxes = boxes + weight * quality * 2 * (1 - giou(decode(image.priors[p], image.deltas[p]), image.gt[g]))
                total += weight * quality
            for k, x in enumerate(image.logits[p]):
                t = quality if g >= 0 and k == image.labels[g] else 0.0
                classes = classes + weight * quality_focal(x, t)
    return {"loss_cls": classes / max(total, 1.0), "loss_bbox": boxes / max(total, 1.0)}


def decode(point: Tensor, distances: Tensor) -> Tensor:
    x, y = point[:2]
    left, top, right, bottom = distances
    return torch.stack([x - left, y - top, x + right, y + bottom])
