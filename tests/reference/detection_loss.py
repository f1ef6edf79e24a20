"""The detection loss one image, one prediction and one target at a time, for a plan that is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from reference.loss_terms import mined
from torch import Tensor

# Of a row of logits and its label, None for no class.
ClassLoss = Callable[[Tensor, "int | None"], Tensor]
BoxLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class MatchedImage:
    """One image, without padding: P predictions, n targets, and who has how much of whom."""

    logits: Tensor  # (P, C)
    boxes: Tensor  # (P, 4)
    gt_boxes: Tensor  # (n, 4)
    labels: list[int]
    weights: list[float]  # of the targets
    plan: list[list[float]]  # (P, n)
    background: list[float]  # (P,)


def detection_loss(
    images: Sequence[MatchedImage],
    cls_loss: ClassLoss,
    loc_loss: BoxLoss,
    *,
    background: int | None,
    class_weights: Sequence[float] | None = None,
    ratio: float | None = None,
    negatives_without_positives: float = 0.0,
) -> dict[str, Tensor]:
    """The loss of the batch with each reduction, ``"sample"`` as a list in a tensor."""
    sums, by_image = [], []
    for image in images:
        sums.append(_sums(image, cls_loss, loc_loss, background, class_weights, ratio, negatives_without_positives))
        by_image.append(_mean(sums[-1:]))
    total = sum(cls + loc for cls, loc, *_ in sums)
    assert isinstance(total, Tensor)
    return {"mean": _mean(sums), "sample": torch.stack(by_image), "sum": total}


def _mean(sums: Sequence[tuple[Tensor, Tensor, float, float]]) -> Tensor:
    cls, loc, classified, positive = (sum(column) for column in zip(*sums, strict=True))
    result = cls / max(classified, 1) + loc / max(positive, 1)
    assert isinstance(result, Tensor)
    return result


def _sums(
    image: MatchedImage,
    cls_loss: ClassLoss,
    loc_loss: BoxLoss,
    background: int | None,
    class_weights: Sequence[float] | None,
    ratio: float | None,
    negatives_without_positives: float,
) -> tuple[Tensor, Tensor, float, float]:
    cls, loc, classified, positive = image.logits.sum() * 0, image.boxes.sum() * 0, 0.0, 0.0
    weight_of = (lambda label: 1.0) if class_weights is None else (lambda label: class_weights[label])
    matched = []
    for logits, box, shares in zip(image.logits, image.boxes, image.plan, strict=True):
        matched.append(0.0)
        for target, label, weight, share in zip(image.gt_boxes, image.labels, image.weights, shares, strict=True):
            if share * weight == 0:
                continue
            cls = cls + share * weight * cls_loss(logits, label)
            loc = loc + share * weight * loc_loss(box, target)
            classified += share * weight * weight_of(label)
            matched[-1] += share * weight
        positive += matched[-1]
    negatives = [float(cls_loss(logits, background).detach()) for logits in image.logits]
    chosen = [True] * len(negatives)
    if ratio is not None:
        rank = [loss * share for loss, share in zip(negatives, image.background, strict=True)]
        chosen = mined(
            rank, matched, image.background, ratio=ratio, negatives_without_positives=negatives_without_positives
        )
    for logits, share, is_chosen in zip(image.logits, image.background, chosen, strict=True):
        if share > 0 and is_chosen:
            cls = cls + share * cls_loss(logits, background)
        if background is not None and ratio is None:
            classified += share * weight_of(background)
    return cls, loc, classified, positive


# --- losses of one row -----------------------------------------------------------------------------------------------


def cross_entropy(class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> ClassLoss:
    def loss(logits: Tensor, label: int | None) -> Tensor:
        log_p, count = logits.log_softmax(0), len(logits)
        total = logits.sum() * 0
        for c in range(count) if smoothing else [] if label is None else [label]:
            share = smoothing / count + (1 - smoothing if c == label else 0)
            total = total - share * log_p[c] * (1.0 if class_weights is None else class_weights[c])
        return total

    return loss


def negative_probability(logits: Tensor, label: int | None) -> Tensor:
    return logits.sum() * 0 if label is None else -logits.softmax(0)[label]


def focal(alpha: float | None, gamma: float = 2.0) -> ClassLoss:
    def loss(logits: Tensor, label: int | None) -> Tensor:
        total = logits.sum() * 0
        for c, x in enumerate(logits):
            p = x.sigmoid()
            if c == label:
                total = total - (1.0 if alpha is None else alpha) * (1 - p) ** gamma * p.log()
            else:
                total = total - (1.0 if alpha is None else 1 - alpha) * p**gamma * (1 - p).log()
        return total

    return loss


def focal_cost(alpha: float | None, gamma: float = 2.0) -> ClassLoss:
    def loss(logits: Tensor, label: int | None) -> Tensor:
        if label is None:
            return logits.sum() * 0
        one = logits[label : label + 1]
        return focal(alpha, gamma)(one, 0) - focal(alpha, gamma)(one, None)

    return loss


def l1(box: Tensor, target: Tensor) -> Tensor:
    return (box - target).abs().sum()


def giou(box: Tensor, target: Tensor) -> Tensor:
    def area(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
        return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)

    low, high = torch.maximum(box[:2], target[:2]), torch.minimum(box[2:], target[2:])
    intersection = area(*low, *high)
    union = area(*box) + area(*target) - intersection
    hull = area(*torch.minimum(box[:2], target[:2]), *torch.maximum(box[2:], target[2:]))
    return 1 - intersection / union + (hull - union) / hull
