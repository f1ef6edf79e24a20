"""The loss of SSD, one image and one default box at a time, from the paper, of an assignment that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class ImageLoss:
    """Sums over one image, and the weight of its positives."""

    classes: Tensor
    boxes: Tensor
    positives: float


def cross_entropy(logits: Tensor, channel: int) -> Tensor:
    return torch.logsumexp(logits, 0) - logits[channel]


def encoded(box: Tensor, anchor: Tensor, scales: tuple[float, float]) -> Tensor:
    """cxcywh boxes."""
    center = (box[:2] - anchor[:2]) / anchor[2:] / scales[0]
    return torch.cat([center, torch.log(box[2:] / anchor[2:]) / scales[1]])


def smooth_l1(x: Tensor, y: Tensor, beta: float) -> Tensor:
    loss = torch.zeros((), dtype=x.dtype)
    for a, b in zip(x, y, strict=True):
        d = (a - b).abs()
        loss = loss + (d - beta / 2 if d >= beta else d * d / (2 * beta))
    return loss


def ssd_image(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    index: Sequence[int],
    boxes: Tensor,
    labels: Sequence[int],
    *,
    background_first: bool,
    weights: Sequence[float] | None = None,
    ratio: float = 3.0,
    beta: float = 1.0,
    negatives_without_positives: float = 0.0,
    scales: tuple[float, float] = (0.1, 0.2),
) -> ImageLoss:
    """Logits (P, C + 1) and deltas (P, 4); anchors and target boxes are cxcywh; ``index`` -1 is background."""
    background = 0 if background_first else logits.shape[1] - 1
    # With a graph, even if there is nothing to sum.
    result = ImageLoss(logits[:0].sum(), deltas[:0].sum(), 0.0)
    negatives = []
    for p, target in enumerate(index):
        if target == -1:
            loss = cross_entropy(logits[p], background)
            negatives.append((-float(loss.detach()), p, loss))
        if target < 0:
            continue
        weight = 1.0 if weights is None else weights[target]
        channel = labels[target] + 1 if background_first else labels[target]
        result.classes = result.classes + weight * cross_entropy(logits[p], channel)
        wanted = encoded(boxes[target].to(deltas.dtype), anchors[p].to(deltas.dtype), scales)
        result.boxes = result.boxes + weight * smooth_l1(deltas[p], wanted, beta)
        result.positives += weight
    budget = ratio * result.positives if result.positives > 0 else negatives_without_positives
    for number, (_, _, loss) in enumerate(sorted(negatives, key=lambda each: each[:2]), start=1):
        if number <= budget + 1e-4:
            result.classes = result.classes + loss
    return result
