"""The loss of ATSS for one image and one prediction at a time, from the paper, with numbers that differentiate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class DenseImage:
    """One image: what is predicted, and which target each prediction has (-1 for none, -2 for ignored)."""

    logits: Tensor  # (P, C)
    deltas: Tensor  # (P, 4)
    priors: Tensor  # (P, 4)
    assigned: Sequence[int]
    gt: Tensor  # (n, 4)
    labels: Sequence[int]
    weights: Sequence[float]
    centerness: Tensor | None = None  # (P,)
    quality: Sequence[float] | None = None  # (P,)


def atss_loss(
    images: Sequence[DenseImage],
    *,
    stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    use_qfl: bool = False,
    decoded: bool = True,
    background: float = 1.0,
    with_centerness: bool = True,
    valid_classes: Sequence[Sequence[float]] | None = None,
) -> dict[str, Tensor]:
    zero = sum((image.logits.sum() + image.deltas.sum()) * 0 for image in images)
    classes, boxes, centers, positives, total = zero, zero, zero, 0.0, 0.0
    for i, image in enumerate(images):
        for p, g in enumerate(image.assigned):
            if g == -2:
                continue
            weight = image.weights[g] if g >= 0 else background
            score = 1.0
            if g >= 0:
                box = decode(image.priors[p], image.deltas[p], stds)
                c = centerness(image.priors[p], image.gt[g]) if with_centerness else 1.0
                if use_qfl:
                    score = overlap(box.detach(), image.gt[g])[0]
                if decoded:
                    loss = 2 * (1 - giou(box, image.gt[g]))
                else:
                    loss = (image.deltas[p] - encode(image.priors[p], image.gt[g], stds)).abs().sum()
                boxes = boxes + weight * c * loss
                positives, total = positives + weight, total + weight * c
                if with_centerness and image.centerness is not None:
                    centers = centers + weight * cross_entropy(image.centerness[p], c)
            for k, x in enumerate(image.logits[p]):
                t = score if g >= 0 and k == image.labels[g] else 0.0
                valid = 1.0 if valid_classes is None else valid_classes[i][k]
                classes = classes + weight * valid * (quality_focal(x, t) if use_qfl else focal(x, t))
    losses = {"loss_cls": classes / max(positives, 1.0), "loss_bbox": boxes / max(total, 1.0)}
    return losses | {"loss_centerness": centers / max(positives, 1.0)} if with_centerness else losses


# --- one logit -----------------------------------------------------------------------------------------------------


def cross_entropy(x: Tensor, t: Tensor | float) -> Tensor:
    return -t * torch.log(torch.sigmoid(x)) - (1 - t) * torch.log(torch.sigmoid(-x))


def focal(x: Tensor, t: float, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    p = torch.sigmoid(x)
    return alpha * (1 - p) ** gamma * -torch.log(p) if t else (1 - alpha) * p**gamma * -torch.log(1 - p)


def quality_focal(x: Tensor, t: Tensor | float, beta: float = 2.0) -> Tensor:
    return (t - torch.sigmoid(x)) ** beta * cross_entropy(x, t)


# --- one box -------------------------------------------------------------------------------------------------------


def decode(anchor: Tensor, delta: Tensor, stds: Sequence[float]) -> Tensor:
    x1, y1, x2, y2 = anchor
    dx, dy, dw, dh = (d * std for d, std in zip(delta, stds, strict=True))
    x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
    w, h = (x2 - x1) * torch.exp(dw), (y2 - y1) * torch.exp(dh)
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def encode(anchor: Tensor, box: Tensor, stds: Sequence[float]) -> Tensor:
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (box[0] + box[2] - anchor[0] - anchor[2]) / 2 / w, (box[1] + box[3] - anchor[1] - anchor[3]) / 2 / h
    code = torch.stack([x, y, torch.log((box[2] - box[0]) / w), torch.log((box[3] - box[1]) / h)])
    return code / torch.tensor(stds, dtype=code.dtype)


def centerness(anchor: Tensor, box: Tensor) -> float:
    x, y = float(anchor[0] + anchor[2]) / 2, float(anchor[1] + anchor[3]) / 2
    left, top, right, bottom = x - float(box[0]), y - float(box[1]), float(box[2]) - x, float(box[3]) - y
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return (min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)) ** 0.5


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union."""
    width = torch.clamp(torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0]), min=0)
    height = torch.clamp(torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1]), min=0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union, union


def giou(a: Tensor, b: Tensor) -> Tensor:
    iou, union = overlap(a, b)
    width = torch.maximum(a[2], b[2]) - torch.minimum(a[0], b[0])
    height = torch.maximum(a[3], b[3]) - torch.minimum(a[1], b[1])
    return iou - 1 + union / (width * height)
