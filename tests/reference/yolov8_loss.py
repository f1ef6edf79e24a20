"""The loss of YOLOv8 and YOLO26, one image and one cell at a time, from the papers, of an assignment that is given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from reference.yolov9_loss import ciou, distribution_focal, mean_of_bins
from reference.yolox_loss import cells
from torch import Tensor
from torch.nn import functional


def yolov8(
    maps: Sequence[Tensor],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    target_index: Tensor,
    quality: Tensor,
    *,
    reg_max: int,
    strides: Sequence[int],
    weights: Sequence[Tensor] | None = None,
    rates: tuple[float, float, float] = (0.5, 1.5, 7.5),
) -> dict[str, Tensor]:
    """The three terms of one head, of maps (B, 4 * R + C, h, w); ``boxes`` and so on are those of each image."""
    names = ("loss_cls", "loss_df" if reg_max > 1 else "loss_l1", "loss_iou")
    sums: dict[str, Tensor] = {name: torch.zeros(()) for name in names}
    qualities = 0.0
    height, width = (maps[0].shape[side] * strides[0] for side in (2, 3))
    for image in range(len(boxes)):
        for p, (channels, column, row, stride) in enumerate(cells(maps, image, strides)):
            index = int(target_index[image, p])
            if index == -2:
                continue
            logits, wanted, weight = channels[4 * reg_max :], torch.zeros_like(channels[4 * reg_max :]), 1.0
            if index >= 0:
                weight = 1.0 if weights is None else float(weights[image][index])
                wanted[labels[image][index]] = quality[image, p].to(logits.dtype)
            cross_entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
            sums[names[0]] = sums[names[0]] + weight * cross_entropy
            if index < 0:
                continue
            share = weight * float(quality[image, p])
            qualities += share
            target = boxes[image][index].to(logits.dtype)
            point = (torch.tensor([column, row], dtype=logits.dtype) + 0.5) * stride
            distances = torch.cat([point - target[:2], target[2:] - point]) / stride
            if reg_max > 1:
                sides = [channels[k * reg_max : (k + 1) * reg_max] for k in range(4)]
                found = torch.stack([mean_of_bins(side) for side in sides])
                each = [distribution_focal(side, float(d)) for side, d in zip(sides, distances, strict=True)]
            else:
                found = channels[:4]
                sizes = (width, height, width, height)
                each = [abs(f - d) * stride / size for f, d, size in zip(found, distances, sizes, strict=True)]
            sums[names[1]] = sums[names[1]] + share * torch.stack(each).mean()
            predicted = torch.cat([point - found[:2] * stride, point + found[2:] * stride])
            sums["loss_iou"] = sums["loss_iou"] + share * (1 - ciou(predicted, target, detached=True))
    return {name: rate * value / max(qualities, 1.0) for rate, (name, value) in zip(rates, sums.items(), strict=True)}
