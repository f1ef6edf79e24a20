"""Targets with several labels, one image at a time, in plain loops: what a pair costs, and what a prediction learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from reference import loss_terms
from reference.boxes import giou, iou
from reference.costs import cross_entropy, log_sigmoid
from torch import Tensor

Row = Sequence[float]


def over_labels(values: Row, labels: Row, *, mean: bool = False) -> float:
    """Sum of the values of a target's labels, or their weighted mean."""
    total, weight = 0.0, 0.0
    for value, label in zip(values, labels, strict=True):
        if label > 0:
            total += label * (value if math.isfinite(value) else math.nan)
            weight += label
    return total / weight if mean and weight else total


def table(values: Tensor, labels: Tensor, *, mean: bool = False) -> Tensor:
    """Of values (P, C) and labels (n, C), (n, P)."""
    rows = [[over_labels(row, own, mean=mean) for row in values.tolist()] for own in labels.double().tolist()]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(labels), len(values))


def softmax(logits: Tensor, labels: Tensor, *, mean: bool = False) -> Tensor:
    shares = [[math.exp(x) for x in loss_terms.log_softmax(row)] for row in logits.tolist()]
    return -table(torch.tensor(shares, dtype=torch.float64).reshape(logits.shape), labels, mean=mean)


def focal(logits: Tensor, labels: Tensor, *, mean: bool = False) -> Tensor:
    costs = [[loss_terms.focal_cost(x) for x in row] for row in logits.tolist()]
    return table(torch.tensor(costs, dtype=torch.float64).reshape(logits.shape), labels, mean=mean)


def binary(logits: Tensor, labels: Tensor, objectness: Tensor | None = None) -> Tensor:
    """SimOTA's: binary cross entropy of all classes, (n, P)."""
    found = torch.zeros(len(labels), len(logits), dtype=torch.float64)
    for g, own in enumerate(labels.double().tolist()):
        for p, row in enumerate(logits.tolist()):
            rest = 0.0 if objectness is None else log_sigmoid(float(objectness[p]))
            for x, y in zip(row, own, strict=True):
                found[g, p] += cross_entropy((log_sigmoid(x) + rest) / 2, y)
    return found


def class_loss(
    loss: Callable[..., float], logits: Tensor, labels: Tensor, target_index: Row, scores: Row | None = None
) -> float:
    """Sum of a loss of one logit over the predictions (P, C) of an image, whose targets have labels (n, C)."""
    total = 0.0
    for p, row in enumerate(logits.tolist()):
        target = int(target_index[p])
        if target == -2:
            continue
        for c, x in enumerate(row):
            label = float(labels[target, c]) if target >= 0 else 0.0
            total += loss(x, label * (1.0 if scores is None else scores[p]) if label > 0 else 0.0, label > 0)
    return total


def overlaps(boxes: Tensor, gt: Tensor, target_index: Row) -> tuple[list[float], list[float]]:
    """IoU and GIoU of each prediction's xyxy box with that of its target; 0 without one."""
    rows = [(box, int(t)) for box, t in zip(boxes.tolist(), target_index, strict=True)]
    return (
        [iou(box, gt[t].tolist()) if t >= 0 else 0.0 for box, t in rows],
        [giou(box, gt[t].tolist()) if t >= 0 else 0.0 for box, t in rows],
    )
