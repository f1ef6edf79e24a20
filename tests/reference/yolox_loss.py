"""The loss of YOLOX, one image and one cell at a time, from the paper, of an assignment that is given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

Maps = Sequence[Tensor]


def iou(a: Tensor, b: Tensor) -> Tensor:
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp(min=0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp(min=0)
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def cells(maps: Maps, image: int, strides: Sequence[int]) -> list[tuple[Tensor, int, int, int]]:
    """Values of every cell with its column, row and stride, level by level, row by row."""
    return [
        (each[image, :, row, column], column, row, stride)
        for each, stride in zip(maps, strides, strict=True)
        for row in range(each.shape[2])
        for column in range(each.shape[3])
    ]


def yolox(
    predictions: tuple[Maps, Maps, Maps],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    target_index: Tensor,
    quality: Tensor,
    *,
    strides: Sequence[int],
    weights: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """All four terms; ``boxes``, ``labels`` and ``weights`` are those of each image."""
    sums: dict[str, Tensor] = {name: torch.zeros(()) for name in ("loss_cls", "loss_bbox", "loss_obj", "loss_l1")}
    positives = 0.0
    for image in range(len(boxes)):
        parts = [cells(maps, image, strides) for maps in predictions]
        for p, ((logits, column, row, stride), (deltas, *_), (objectness, *_)) in enumerate(zip(*parts, strict=True)):
            index = int(target_index[image, p])
            if index == -2:
                continue
            bce = functional.binary_cross_entropy_with_logits
            if index == -1:
                sums["loss_obj"] = sums["loss_obj"] + bce(objectness[0], torch.zeros_like(objectness[0]))
                continue
            weight = 1.0 if weights is None else float(weights[image][index])
            positives += weight
            sums["loss_obj"] = sums["loss_obj"] + weight * bce(objectness[0], torch.ones_like(objectness[0]))
            wanted = torch.zeros_like(logits)
            wanted[labels[image][index]] = quality[image, p].to(logits.dtype)
            sums["loss_cls"] = sums["loss_cls"] + weight * bce(logits, wanted, reduction="sum")
            target = boxes[image][index].to(deltas.dtype)
            centre = torch.tensor([column, row], dtype=deltas.dtype) * stride + deltas[:2] * stride
            size = deltas[2:].exp() * stride
            predicted = torch.cat([centre - size / 2, centre + size / 2])
            sums["loss_bbox"] = sums["loss_bbox"] + weight * 5 * (1 - iou(predicted, target) ** 2)
            place = (target[:2] + target[2:]) / 2 / stride - torch.tensor([column, row], dtype=deltas.dtype)
            code = torch.cat([place, ((target[2:] - target[:2]) / stride).log()])
            sums["loss_l1"] = sums["loss_l1"] + weight * (deltas - code).abs().sum()
    return {name: value / max(positives, 1.0) for name, value in sums.items()}
