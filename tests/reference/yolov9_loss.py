"""The loss of YOLOv9, one image and one cell at a time, from the paper, of an assignment that is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from reference.yolox_loss import cells, iou
from torch import Tensor
from torch.nn import functional


def ciou(a: Tensor, b: Tensor, *, detached: bool = False) -> Tensor:
    overlap = iou(a, b)
    apart = (((a[:2] + a[2:]) - (b[:2] + b[2:])) / 2).square().sum()
    hull = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).square().sum()
    angle_a, angle_b = (torch.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b))
    v = 4 / math.pi**2 * (angle_a - angle_b) ** 2
    trade_off = v / (1 - overlap + v)
    return overlap - apart / hull - v * (trade_off.detach() if detached else trade_off)


def distribution_focal(logits: Tensor, distance: float) -> Tensor:
    """Of the R logits of one side."""
    y = min(max(distance, 0.0), len(logits) - 1.01)
    left = math.floor(y)
    log_p = logits.log_softmax(0)
    return -(left + 1 - y) * log_p[left] - (y - left) * log_p[left + 1]


def mean_of_bins(logits: Tensor) -> Tensor:
    return (logits.softmax(0) * torch.arange(len(logits), dtype=logits.dtype)).sum()


def yolov9(
    levels: Sequence[Sequence[Tensor]],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    target_index: Tensor,
    quality: Tensor,
    *,
    strides: Sequence[int],
    weights: Sequence[Tensor] | None = None,
    rates: tuple[float, float, float] = (0.5, 1.5, 7.5),
) -> dict[str, Tensor]:
    """The three terms of one branch; ``boxes``, ``labels`` and ``weights`` are those of each image."""
    sums: dict[str, Tensor] = {name: torch.zeros(()) for name in ("loss_cls", "loss_df", "loss_iou")}
    qualities = 0.0
    for image in range(len(boxes)):
        parts = [cells([level[k].flatten(1, -3) for level in levels], image, strides) for k in range(len(levels[0]))]
        for p, (logits, column, row, stride) in enumerate(parts[0]):
            index = int(target_index[image, p])
            if index == -2:
                continue
            wanted, weight = torch.zeros_like(logits), 1.0
            if index >= 0:
                weight = 1.0 if weights is None else float(weights[image][index])
                wanted[labels[image][index]] = quality[image, p].to(logits.dtype)
            cross_entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
            sums["loss_cls"] = sums["loss_cls"] + weight * cross_entropy
            if index < 0:
                continue
            share = weight * float(quality[image, p])
            qualities += share
            target = boxes[image][index].to(logits.dtype)
            point = (torch.tensor([column, row], dtype=logits.dtype) + 0.5) * stride
            sides = parts[1][p][0].view(-1, 4).T
            distances = torch.cat([point - target[:2], target[2:] - point]) / stride
            focal = torch.stack([distribution_focal(s, float(d)) for s, d in zip(sides, distances, strict=True)])
            sums["loss_df"] = sums["loss_df"] + share * focal.mean()
            found = parts[2][p][0] if len(parts) == 3 else torch.stack([mean_of_bins(side) for side in sides])
            predicted = torch.cat([point - found[:2] * stride, point + found[2:] * stride])
            sums["loss_iou"] = sums["loss_iou"] + share * (1 - ciou(predicted, target))
    divided = {name: value / max(qualities, 1.0) for name, value in sums.items()}
    return {name: rate * value for rate, (name, value) in zip(rates, divided.items(), strict=True)}
