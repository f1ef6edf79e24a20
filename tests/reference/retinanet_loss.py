"""The loss of RetinaNet for one image and one prediction at a time, from the paper, with numbers that differentiate."""

from __future__ import annotations

from collections.abc import Sequence

from reference.atss_loss import DenseImage, encode, focal
from torch import Tensor


def retinanet_loss(images: Sequence[DenseImage], stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> dict[str, Tensor]:
    classes = boxes = sum((image.logits.sum() + image.deltas.sum()) * 0 for image in images)
    for image in images:
        own_classes = own_boxes = image.logits.sum() * 0
        positives = 0.0
        for p, g in enumerate(image.assigned):
            if g == -2:
                continue
            weight = image.weights[g] if g >= 0 else 1.0
            if g >= 0:
                positives += weight
                wanted = encode(image.priors[p], image.gt[g], stds)
                own_boxes = own_boxes + weight * (image.deltas[p] - wanted).abs().sum()
            for k, x in enumerate(image.logits[p]):
                own_classes = own_classes + weight * focal(x, 1.0 if g >= 0 and k == image.labels[g] else 0.0)
        classes = classes + own_classes / max(positives, 1.0)
        boxes = boxes + own_boxes / max(positives, 1.0)
    return {"loss_cls": classes / max(len(images), 1), "loss_bbox": boxes / max(len(images), 1)}
