"""The loss of a region proposal network for one image and one anchor at a time, with numbers that differentiate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from reference.atss_loss import DenseImage, cross_entropy, encode
from torch import Tensor


def rpn_loss(
    images: Sequence[DenseImage], *, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0), beta: float = 1 / 9
) -> dict[str, Tensor]:
    """Anchors that are not sampled are ignored: -2."""
    classes = boxes = sum((image.logits.sum() + image.deltas.sum()) * 0 for image in images)
    sampled = 0.0
    for image in images:
        for p, g in enumerate(image.assigned):
            if g == -2:
                continue
            weight = image.weights[g] if g >= 0 else 1.0
            sampled += weight
            classes = classes + weight * cross_entropy(image.logits[p, 0], float(g >= 0))
            if g >= 0:
                boxes = boxes + weight * smooth_l1(image.deltas[p] - encode(image.priors[p], image.gt[g], stds), beta)
    divisor = max(sampled, 1.0)
    return {"loss_rpn_cls": classes / divisor, "loss_rpn_bbox": boxes / divisor}


def smooth_l1(differences: Tensor, beta: float) -> Tensor:
    parts = [d * d / (2 * beta) if abs(float(d)) < beta else d.abs() - beta / 2 for d in differences]
    return torch.stack(parts).sum()
