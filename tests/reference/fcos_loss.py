"""The loss of FCOS for one image and one point at a time, from the paper, with numbers that differentiate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from reference.atss_loss import DenseImage, cross_entropy, focal, giou
from torch import Tensor


def fcos_loss(images: Sequence[DenseImage], *, in_strides: bool = True) -> dict[str, Tensor]:
    """``in_strides``: distances are predicted in strides, in pixels otherwise."""
    zero = sum((image.logits.sum() + image.deltas.sum() + image.centerness.sum()) * 0 for image in images)
    classes, boxes, centers, positives = zero, zero, zero, 0.0
    for image in images:
        for p, g in enumerate(image.assigned):
            if g == -2:
                continue
            weight = image.weights[g] if g >= 0 else 1.0
            for k, logit in enumerate(image.logits[p]):
                classes = classes + weight * focal(logit, 1.0 if g >= 0 and k == image.labels[g] else 0.0)
            if g < 0:
                continue
            x, y, *strides = image.priors[p]
            sx, sy = strides if in_strides else (1.0, 1.0)
            left, top, right, bottom = image.deltas[p]
            box = torch.stack([x - left * sx, y - top * sy, x + right * sx, y + bottom * sy])
            boxes = boxes + weight * (1 - giou(box, image.gt[g]))
            centers = centers + weight * cross_entropy(image.centerness[p], centerness(float(x), float(y), image.gt[g]))
            positives += weight
    divisor = max(positives, 1.0)
    return {"loss_cls": classes / divisor, "loss_bbox": boxes / divisor, "loss_centerness": centers / divisor}


def centerness(x: float, y: float, box: Tensor) -> float:
    left, top, right, bottom = x - float(box[0]), y - float(box[1]), float(box[2]) - x, float(box[3]) - y
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return (min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)) ** 0.5
