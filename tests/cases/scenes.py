"""Scenes for matchers, and priors for those that need them: canvas of 64 by 64, two levels."""

from __future__ import annotations

import torch

from matchers import Targets, grid_points

CANVAS = 64
POINTS = grid_points((CANVAS, CANVAS), [8, 16])
ANCHORS = torch.cat([POINTS[:, :2] - 2 * POINTS[:, 2:], POINTS[:, :2] + 2 * POINTS[:, 2:]], 1)


def scene(*counts: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], Targets]:
    generator = torch.Generator().manual_seed(seed)
    images = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 20], 1)
        images.append({"boxes": boxes, "labels": torch.randint(3, (count,), generator=generator)})
    predicted = ANCHORS + torch.randn(len(counts), len(POINTS), 4, generator=generator)
    logits = torch.randn(len(counts), len(POINTS), 3, generator=generator)
    return {"pred_logits": logits, "pred_boxes": predicted}, Targets.of(images, canvas_size=(CANVAS, CANVAS))
