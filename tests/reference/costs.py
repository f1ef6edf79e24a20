"""Costs of one target with one prediction at a time, in plain floats, from the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from reference import boxes as box_reference
from torch import Tensor

LOWEST_LOG = -100.0


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def cross_entropy(log_p: float, target: float) -> float:
    """Of a probability given by its logarithm; logarithms bounded from below, as torch does."""
    rest = -math.expm1(log_p)
    log_rest = math.log(rest) if rest > 0 else -math.inf
    return -target * max(log_p, LOWEST_LOG) - (1 - target) * max(log_rest, LOWEST_LOG)


def softmax(logits: Sequence[float], label: int) -> float:
    top = max(logits)
    return -math.exp(logits[label] - top) / sum(math.exp(x - top) for x in logits)


def focal(logits: Sequence[float], label: int, *, alpha: float = 0.25, gamma: float = 2.0) -> float:
    x = logits[label]
    p = sigmoid(x)
    return -alpha * (1 - p) ** gamma * log_sigmoid(x) + (1 - alpha) * p**gamma * log_sigmoid(-x)


def binary(logits: Sequence[float], label: int, objectness: float | None = None) -> float:
    """SimOTA: binary cross entropy of sqrt(p_class p_object) with the one-hot label, summed over classes."""
    own = 0.0 if objectness is None else log_sigmoid(objectness)
    return sum(cross_entropy((log_sigmoid(x) + own) / 2, float(c == label)) for c, x in enumerate(logits))


def softlabel(logits: Sequence[float], label: int, overlap: float) -> float:
    """RTMDet: binary cross entropy with the soft label, scaled by the squared error."""
    total = 0.0
    for c, x in enumerate(logits):
        y = overlap if c == label else 0.0
        total += (-y * log_sigmoid(x) - (1 - y) * log_sigmoid(-x)) * (y - sigmoid(x)) ** 2
    return total


def alignment(logits: Sequence[float], label: int, overlap: float, *, alpha: float = 1.0, beta: float = 6.0) -> float:
    return sigmoid(logits[label]) ** alpha * overlap**beta


def l1(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


def center_size_l1(a: Sequence[float], b: Sequence[float]) -> float:
    """Of xyxy boxes."""
    return l1(*(box_reference.convert(box, "xyxy", "cxcywh") for box in (a, b)))


def class_table(cost: Callable[..., float], logits: Tensor, labels: Tensor, *more: Tensor) -> Tensor:
    """Class costs (n, P) of one image: logits (P, C), labels (n,), and further values, (n, P) or (P,)."""
    table = torch.zeros(len(labels), len(logits), dtype=torch.float64)
    rows = logits.double().tolist()
    for g, label in enumerate(labels.tolist()):
        for p, row in enumerate(rows):
            rest = [float(value[g, p] if value.dim() == 2 else value[p]) for value in more]
            table[g, p] = cost(row, label, *rest) if all(map(math.isfinite, row)) else math.nan
    return table


def detr(
    logits: Tensor, labels: Tensor, boxes: Tensor, gt_boxes: Tensor, *, classes: str, weights: Sequence[float]
) -> Tensor:
    """Weighted sum of class, L1 and GIoU costs (n, P) of one image, xyxy boxes; NaN for unusable predictions."""
    class_cost = class_table({"focal": focal, "softmax": softmax}[classes], logits, labels)
    distance = box_reference.table(center_size_l1, gt_boxes, boxes)
    overlap = box_reference.table(box_reference.giou, gt_boxes, boxes)
    return weights[0] * class_cost + weights[1] * distance + weights[2] * (1 - overlap)
