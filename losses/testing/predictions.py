"""Predictions of a head for images whose targets are known: some near the targets, all others anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.geometry.boxes import convert
from matchers.testing import CANVAS, make_boxes


def near(boxes: list[Tensor], count: int, generator: torch.Generator, part: float = 0.6) -> Tensor:
    """Predicted boxes (B, count, 4), xyxy in pixels: about ``part`` of them near a target."""
    result = make_boxes(len(boxes) * count, generator).reshape(len(boxes), count, 4)
    # No coordinate equals one of a target, at the border say, where the gradient of an overlap is not defined; and no
    # side is 0, for which some coders have no code.
    result = result + torch.randn(result.shape, generator=generator) * 0.1
    result = torch.cat([result[..., :2], torch.maximum(result[..., 2:], result[..., :2] + 1)], -1)
    for image, own in enumerate(boxes):
        if len(own):
            pick = torch.randint(len(own), (count,), generator=generator)
            close = own[pick] + torch.randn(count, 4, generator=generator)
            close = torch.cat([close[:, :2], torch.maximum(close[:, 2:], close[:, :2] + 1)], -1)
            chosen = torch.rand(count, 1, generator=generator) < part
            result[image] = torch.where(chosen, close, result[image])
    return result


def near_at_points(boxes: list[Tensor], points: Tensor, generator: torch.Generator) -> Tensor:
    """Predicted boxes (B, P, 4) of a dense head: at points inside of targets, near one of these."""
    result = near(boxes, len(points), generator, part=0.0)
    for image, own in enumerate(boxes):
        for box in own.flip(0):  # the first target has the last word
            inside = ((points[:, :2] > box[:2]) & (points[:, :2] < box[2:])).all(-1, keepdim=True)
            close = box + torch.randn(len(points), 4, generator=generator)
            close = torch.cat([close[:, :2], torch.maximum(close[:, 2:], close[:, :2] + 1)], -1)
            result[image] = torch.where(inside, close, result[image])
    return result


def queries(
    boxes: list[Tensor],
    seed: int,
    *,
    count: int = 12,
    num_classes: int = 5,
    box_format: str = "xyxy",
    normalized: bool = False,
) -> dict[str, Tensor]:
    """Predictions of a query decoder: ``"pred_logits"`` (B, P, C) and ``"pred_boxes"`` (B, P, 4).

    Args:
        boxes: Target boxes (n, 4) of each image, xyxy in pixels.
        seed: Random seed.
        count: P.
        num_classes: C.
        box_format, normalized: Of the predicted boxes.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    predicted = convert(near(boxes, count, generator), "xyxy", box_format) / (CANVAS if normalized else 1.0)
    logits = torch.randn(len(boxes), count, num_classes, generator=generator)
    return {"pred_logits": logits, "pred_boxes": predicted}
