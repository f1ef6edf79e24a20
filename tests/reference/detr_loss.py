"""The losses of detection transformers, one image, one query, one class or one side at a time, from the papers.

Everything is a tensor without dimensions, so that there are gradients to compare with. Boxes are cxcywh.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from reference.coders import bbox2distance
from torch import Tensor
from torch.nn.functional import logsigmoid

Matches = Sequence[Sequence[int]]
"""Of each image, the target of each query, or a negative number."""


def corners(box: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y, w, h = box.unbind()
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def iou_and_giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = corners(a), corners(b)
    width = torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)
    height = torch.minimum(ay2, by2) - torch.maximum(ay1, by1)
    shared = width.clamp(min=0) * height.clamp(min=0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    hull = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)) * (torch.maximum(ay2, by2) - torch.minimum(ay1, by1))
    return shared / union, shared / union - (hull - union) / hull


def varifocal(x: Tensor, score: Tensor | None, alpha: float, gamma: float) -> Tensor:
    """Of one class; ``score`` is that of the labelled class, None for all others."""
    if score is None:
        return -alpha * x.detach().sigmoid() ** gamma * logsigmoid(-x)
    return -score * (score * logsigmoid(x) + (1 - score) * logsigmoid(-x))


def matchability(x: Tensor, score: Tensor | None, _: float, gamma: float) -> Tensor:
    if score is None:
        return -(x.detach().sigmoid() ** gamma) * logsigmoid(-x)
    return -(score**gamma * logsigmoid(x) + (1 - score**gamma) * logsigmoid(-x))


def focal(x: Tensor, score: Tensor | None) -> Tensor:
    """With alpha 0.25 and gamma 2; a labelled class is one, whatever its box."""
    if score is None:
        return -0.75 * x.sigmoid() ** 2 * logsigmoid(-x)
    return -0.25 * (-x).sigmoid() ** 2 * logsigmoid(x)


def iou_aware(x: Tensor, score: Tensor | None) -> Tensor:
    """With alpha 0.25 and gamma 2."""
    if score is None:
        return -(x.sigmoid() ** 2) * logsigmoid(-x)
    mixed = max(float(x.detach().sigmoid()) ** 0.25 * float(score) ** 0.75, 0.01)
    return -mixed * logsigmoid(x) - (1 - mixed) * logsigmoid(-x)


def softmax_sums(
    layer: Mapping[str, Tensor], images: Any, matches: Matches, eos_coef: float, mask: Any = None
) -> tuple[Any, float]:
    """Sums of the cross entropy and of its weights, the background being the last class."""
    total: Any = 0.0
    mass = 0.0
    for place, (logits, image, targets) in enumerate(zip(layer["pred_logits"], images, matches, strict=True)):
        for row, target in zip(logits, targets, strict=True):
            if target == -2:
                continue
            label = int(image["labels"][target]) if target >= 0 else len(row) - 1
            weight = image["weights"][target] if target >= 0 and "weights" in image else 1.0
            weight = weight * (1.0 if target >= 0 else eos_coef)
            seen = [c for c in range(len(row)) if c in (label, len(row) - 1) or mask is None or mask[place][c]]
            total = total + weight * (torch.stack([row[c] for c in seen]).logsumexp(0) - row[label])
            mass += float(weight)
    return total, mass


def class_sum(
    layer: Mapping[str, Tensor],
    images: Sequence[Mapping[str, Tensor]],
    matches: Matches,
    loss: Any,
    mask: Any = None,
) -> Any:
    """Sum of a class loss over images, queries and classes; ``mask[image][class]`` is how much a class counts."""
    total: Any = 0.0
    for place, (logits, boxes, image, targets) in enumerate(
        zip(layer["pred_logits"], layer["pred_boxes"], images, matches, strict=True)
    ):
        for row, box, target in zip(logits, boxes, targets, strict=True):
            weight = 1.0 if target < 0 or "weights" not in image else image["weights"][target]
            if target == -2:
                continue
            for label, x in enumerate(row):
                own = target >= 0 and int(image["labels"][target]) == label
                score = iou_and_giou(box, image["boxes"][target])[0].detach() if own else None
                total = total + weight * loss(x, score) * (1.0 if mask is None else float(mask[place][label]))
    return total


def matched(layer: Mapping[str, Tensor], images: Sequence[Mapping[str, Tensor]], matches: Matches) -> Any:
    """(image index, query index, predicted box, target box, weight) of every match."""
    for place, (boxes, image, targets) in enumerate(zip(layer["pred_boxes"], images, matches, strict=True)):
        for query, target in enumerate(targets):
            if target >= 0:
                weight = image["weights"][target] if "weights" in image else 1.0
                yield place, query, boxes[query], image["boxes"][target], weight


def box_sums(layer: Mapping[str, Tensor], images: Any, matches: Matches) -> tuple[Any, Any]:
    """Sums of L1 and of ``1 - GIoU``."""
    l1: Any = 0.0
    giou: Any = 0.0
    for _, _, pred, target, weight in matched(layer, images, matches):
        l1 = l1 + weight * sum((pred[k] - target[k]).abs() for k in range(4))
        giou = giou + weight * (1 - iou_and_giou(pred, target)[1])
    return l1, giou


def fgl_sum(
    layer: Mapping[str, Tensor], images: Any, matches: Matches, *, reg_max: int, up: float, reg_scale: float
) -> Any:
    """Sum of the fine-grained localisation loss."""
    total: Any = 0.0
    for place, query, pred, target, weight in matched(layer, images, matches):
        bins = bbox2distance(layer["ref_points"][place, query].tolist(), target.tolist(), reg_max, up, reg_scale)
        quality = iou_and_giou(pred, target)[0].detach()
        sides = layer["pred_corners"][place, query].view(4, reg_max + 1).log_softmax(-1)
        for log_p, (left, right_weight, left_weight) in zip(sides, bins, strict=True):
            total = total - weight * quality * (left_weight * log_p[left] + right_weight * log_p[left + 1])
    return total


def ddf(
    layer: Mapping[str, Tensor],
    images: Any,
    matches: Matches,
    *,
    reg_max: int,
    temperature: float,
    numbers: tuple[float, float] | None = None,
) -> Any:
    """The distillation loss; ``numbers`` are how many queries are matched and not, if not those of this layer."""
    found = {(place, query): pair for place, query, *pair in matched(layer, images, matches)}
    sums: list[Any] = [0.0, 0.0]
    counts = [0.0, 0.0]
    for place, targets in enumerate(matches):
        for query, target in enumerate(targets):
            if target == -2:
                continue
            shape = (4, reg_max + 1)
            student = (layer["pred_corners"][place, query].view(shape) / temperature).log_softmax(-1)
            teacher = (layer["teacher_corners"][place, query].view(shape) / temperature).log_softmax(-1)
            divergence = temperature**2 * (teacher.exp() * (teacher - student)).sum(-1).mean()
            if (place, query) in found:
                pred, box, weight = found[place, query]
                counts[0] += float(weight)
                sums[0] = sums[0] + weight * iou_and_giou(pred, box)[0].detach() * divergence
            else:
                counts[1] += 1
                sums[1] = sums[1] + layer["teacher_logits"][place, query].sigmoid().max() * divergence
    n, m = (math.sqrt(number) for number in (numbers or counts))
    means = [total / max(count, 1) for total, count in zip(sums, counts, strict=True)]
    return (means[0] * n + means[1] * m) / max(n + m, 1)
