"""The loss of Faster R-CNN's second stage for one image and one proposal at a time, with numbers that differentiate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from reference.atss_loss import encode
from reference.rpn_loss import smooth_l1
from torch import Tensor


@dataclass
class ProposalImage:
    """One image: what is predicted of each proposal, and which target it has (-1 for none, -2 for not sampled)."""

    logits: Tensor  # (P, C), with the background
    deltas: Tensor  # (P, K, 4)
    proposals: Tensor  # (P, 4)
    assigned: Sequence[int]
    gt: Tensor  # (n, 4)
    labels: Sequence[int]  # channels
    weights: Sequence[float]


def roi_loss(
    images: Sequence[ProposalImage],
    *,
    background: int,
    stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    beta: float = 1 / 9,
) -> dict[str, Tensor]:
    classes = boxes = sum((image.logits.sum() + image.deltas.sum()) * 0 for image in images)
    sampled = 0.0
    for image in images:
        num_classes, num_boxes = image.logits.shape[1], image.deltas.shape[1]
        for p, g in enumerate(image.assigned):
            if g == -2:
                continue
            label, weight = (image.labels[g], image.weights[g]) if g >= 0 else (background, 1.0)
            sampled += weight
            classes = classes - weight * torch.log_softmax(image.logits[p], 0)[label]
            if g >= 0:
                # Without a box of the background, those of the classes behind it move up.
                own = label - (num_boxes < num_classes and label > background)
                delta = image.deltas[p][0 if num_boxes == 1 else own]
                boxes = boxes + weight * smooth_l1(delta - encode(image.proposals[p], image.gt[g], stds), beta)
    divisor = max(sampled, 1.0)
    return {"loss_cls": classes / divisor, "loss_bbox": boxes / divisor}
