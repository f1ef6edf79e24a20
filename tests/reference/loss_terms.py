"""Losses of one logit, one prediction or one sample at a time, in plain floats, from the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from reference.costs import log_sigmoid, sigmoid
from torch import Tensor

Row = Sequence[float]


# --- one logit x with its target t ---------------------------------------------------------------------------------


def bce(x: float, t: float) -> float:
    return -t * log_sigmoid(x) - (1 - t) * log_sigmoid(-x)


def focal(x: float, t: float, *, alpha: float | None = 0.25, gamma: float = 2.0) -> float:
    wrong = t * sigmoid(-x) + (1 - t) * sigmoid(x)
    weight = 1.0 if alpha is None else t * alpha + (1 - t) * (1 - alpha)
    return weight * wrong**gamma * bce(x, t)


def quality_focal(x: float, t: float, *, beta: float = 2.0) -> float:
    return abs(t - sigmoid(x)) ** beta * bce(x, t)


def varifocal(x: float, t: float, positive: bool | None = None, *, alpha: float = 0.75, gamma: float = 2.0) -> float:
    positive = t > 0 if positive is None else positive
    return t * bce(x, t) if positive else alpha * sigmoid(x) ** gamma * -log_sigmoid(-x)


def matchability_aware(x: float, t: float, positive: bool | None = None, *, gamma: float = 1.5) -> float:
    positive = t > 0 if positive is None else positive
    return bce(x, t**gamma) if positive else sigmoid(x) ** gamma * -log_sigmoid(-x)


def iou_aware(
    x: float, t: float, positive: bool | None = None, *, alpha: float = 0.25, gamma: float = 2.0, lowest: float = 0.01
) -> float:
    positive = t > 0 if positive is None else positive
    if not positive:
        return sigmoid(x) ** gamma * -log_sigmoid(-x)
    return bce(x, max(sigmoid(x) ** alpha * t ** (1 - alpha), lowest))


def focal_cost(x: float, *, alpha: float | None = 0.25, gamma: float = 2.0) -> float:
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    gain = positive * sigmoid(-x) ** gamma * -log_sigmoid(x)
    return gain - negative * sigmoid(x) ** gamma * -log_sigmoid(-x)


# --- one row of logits with its label ------------------------------------------------------------------------------


def log_softmax(row: Row) -> list[float]:
    top = max(row)
    total = math.log(math.fsum(math.exp(x - top) for x in row))
    return [x - top - total for x in row]


def cross_entropy(row: Row, label: int, weights: Row | None = None) -> float:
    return -log_softmax(row)[label] * (1.0 if weights is None else weights[label])


def softmax_focal(row: Row, label: int, weights: Row | None = None, *, gamma: float = 2.0) -> float:
    log_p = log_softmax(row)
    others = math.fsum(math.exp(x) for c, x in enumerate(log_p) if c != label)
    return others**gamma * -log_p[label] * (1.0 if weights is None else weights[label])


def negative_probability(row: Row, label: int) -> float:
    return -math.exp(log_softmax(row)[label])


# --- one sample ----------------------------------------------------------------------------------------------------


def mined(
    losses: Row, positive: Row, negative: Row | None = None, *, ratio: float, negatives_without_positives: float = 0.0
) -> list[bool]:
    """Masks are rows of 0 and 1."""
    negative = [1 - p for p in positive] if negative is None else negative
    total = sum(positive)
    allowed = (ratio * total if total > 0 else negatives_without_positives) + 1e-4
    spent, chosen = 0.0, [False] * len(losses)
    hardest_first = sorted(range(len(losses)), key=lambda p: (math.isnan(losses[p]), -losses[p], p))
    for p in hardest_first:
        if negative[p] <= 0:
            continue
        spent += negative[p]
        if spent > allowed:
            break
        chosen[p] = True
    return chosen


# --- boxes and distances -------------------------------------------------------------------------------------------


def smooth_l1(x: float, t: float, *, beta: float = 1.0) -> float:
    d = abs(x - t)
    return d * d / (2 * beta) if d < beta else d - beta / 2


def centerness(left: float, top: float, right: float, bottom: float) -> float:
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def distribution_focal(row: Row, distance: float) -> float:
    y = min(max(distance, 0.0), len(row) - 1 - 0.01)
    n = math.floor(y)
    log_p = log_softmax(row)
    return -(n + 1 - y) * log_p[n] - (y - n) * log_p[n + 1]


def fine_grained(row: Row, left: int, weight_left: float, weight_right: float, quality: float = 1.0) -> float:
    log_p = log_softmax(row)
    return -quality * (weight_left * log_p[left] + weight_right * log_p[left + 1])


def distillation(row: Row, teacher: Row, *, temperature: float = 5.0) -> float:
    log_p, log_q = (log_softmax([x / temperature for x in logits]) for logits in (row, teacher))
    return temperature**2 * math.fsum(math.exp(q) * (q - p) for p, q in zip(log_p, log_q, strict=True))


# --- tensors -------------------------------------------------------------------------------------------------------


def of_elements(loss: Callable[..., float], *values: Tensor) -> Tensor:
    """``loss`` of the elements of tensors of one shape."""
    rows = zip(*(value.flatten().tolist() for value in values), strict=True)
    return torch.tensor([loss(*row) for row in rows], dtype=torch.float64).reshape(values[0].shape)


def of_rows(loss: Callable[..., float], logits: Tensor, *values: Tensor) -> Tensor:
    """``loss`` of rows of logits (…, C) and of values (…), or rows of them (…, C)."""
    rows = logits.reshape(-1, logits.shape[-1]).tolist()
    others = [value.reshape(-1, *value.shape[logits.dim() - 1 :]).tolist() for value in values]
    results = [loss(row, *rest) for row, *rest in zip(rows, *others, strict=True)]
    return torch.tensor(results, dtype=torch.float64).reshape(logits.shape[:-1])


def of_labels(loss: Callable[..., float], logits: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """``loss(x, t, positive)`` of every class of logits (…, C), of which at most one is labelled."""
    result = torch.zeros_like(logits, dtype=torch.float64)
    flat = result.view(-1, logits.shape[-1])
    rows = logits.reshape(-1, logits.shape[-1]).tolist()
    for n, (row, label, score) in enumerate(
        zip(rows, labels.flatten().tolist(), scores.flatten().tolist(), strict=True)
    ):
        for c, x in enumerate(row):
            flat[n, c] = loss(x, score if c == label else 0.0, c == label)
    return result
