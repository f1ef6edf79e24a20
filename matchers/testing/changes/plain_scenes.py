"""Scenes for symmetries: no two things are alike, all boxes lie well inside, and no number is rounded when it moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.changes.moves import are_boxes
from matchers.testing.changes.rows import with_weights
from matchers.testing.scene import CANVAS, Scene
from ragged import RaggedBatch

STEP = 16
"""Coordinates are multiples of 1 / STEP of a pixel: areas, and centres of boxes, are exact in float32."""


def plain_boxes(count: int, generator: torch.Generator, sides: tuple[float, float] = (4.0, 24.0)) -> Tensor:
    """xyxy boxes (count, 4) of at least 4 pixels, and at least 8 away from the last edge of the canvas."""
    low, high = sides
    size = low + torch.rand(count, 2, generator=generator) * (high - low)
    corner = 1 + torch.rand(count, 2, generator=generator) * (CANVAS - 10 - size)
    return on_grid(torch.cat([corner, corner + size], -1))


def crossing_boxes(count: int, generator: torch.Generator) -> Tensor:
    """xyxy boxes (count, 4) that have a square of 2 pixels in common."""
    sides = 2 + torch.rand(count, 4, generator=generator) * 20
    return on_grid(torch.cat([25 - sides[:, :2], 27 + sides[:, 2:]], -1))


def on_grid(boxes: Tensor) -> Tensor:
    """xyxy boxes with coordinates of multiples of 1 / STEP, and sides of 2 pixels at least."""
    boxes = (boxes * STEP).round() / STEP
    return torch.cat([boxes[..., :2], torch.maximum(boxes[..., 2:], boxes[..., :2] + 2)], -1)


def plain_scene(
    sizes: Sequence[int],
    priors: Tensor | int,
    *,
    num_classes: int = 4,
    seed: int = 0,
    canvases: Sequence[tuple[float, float]] = ((CANVAS, 2 * CANVAS),),
    crossing: bool = False,
) -> Scene:
    """A scene whose predictions lie near targets: near all of them in turn, or near the one closest to their prior.

    Args:
        sizes: Numbers of targets.
        priors: What the predictions belong to, or how many there are.
        num_classes, seed: Of labels and logits, and of all numbers.
        canvases: Heights and widths of the images, in turn.
        crossing: All boxes overlap: an overlap of 0 would be a tie, where each target has to be matched.
    """
    generator = torch.Generator().manual_seed(seed)
    count = priors if isinstance(priors, int) else len(priors)
    width, images = max(sizes, default=0), len(sizes)
    make = crossing_boxes if crossing else plain_boxes
    boxes = make(images * width, generator).reshape(images, width, 4)
    labels = torch.randint(num_classes, (images, width), generator=generator)
    numbers = torch.tensor(list(sizes), dtype=torch.int64)
    found = make(images * count, generator).reshape(images, count, 4)
    logits = torch.randn(images, count, num_classes, generator=generator)
    for image, size in enumerate(sizes):
        if size:
            own = _own_targets(boxes[image, :size], priors, generator)
            jitter = (
                torch.randn(count, 4, generator=generator)
                * (boxes[image, own, 2:] - boxes[image, own, :2]).tile(2)
                / 12
            )
            near = torch.rand(count, generator=generator) < 0.8
            found[image, near] = on_grid(boxes[image, own] + jitter).clamp(0, CANVAS - 8)[near]
            logits[image, near] += 2 * torch.nn.functional.one_hot(labels[image, own], num_classes)[near]
    targets = Targets(
        RaggedBatch(boxes, sample_sizes=numbers),
        RaggedBatch(labels, sample_sizes=numbers),
        canvas_size=torch.tensor([canvases[image % len(canvases)] for image in range(images)]),
    )
    predictions = Predictions((logits * 64).round() / 64, on_grid(found), (logits.sum(-1) * 8).round() / 64)
    return Scene(predictions, with_weights(targets, seed))


def _own_targets(boxes: Tensor, priors: Tensor | int, generator: torch.Generator) -> Tensor:
    """The target of each prediction that it is to lie near."""
    if isinstance(priors, int):
        return (torch.arange(priors) + int(torch.randint(len(boxes), (), generator=generator))) % len(boxes)
    points = (priors[:, :2] + priors[:, 2:4]) / 2 if are_boxes(priors) else priors[:, :2]
    return torch.cdist(points, (boxes[:, :2] + boxes[:, 2:]) / 2).argmin(-1)


def plain_scenes(priors: Tensor | None, *, num_classes: int = 4) -> dict[str, Scene]:
    """Images of 0, 1 and 40 targets, of as many as there are predictions and of more, and 100 predictions."""
    if priors is not None:
        return {"40 targets": plain_scene([5, 0, 40, 1], priors, num_classes=num_classes)}
    sides = ((CANVAS, 2 * CANVAS), (2 * CANVAS, CANVAS), (CANVAS, CANVAS))
    return {
        "more targets than predictions": plain_scene(
            [5, 0, 40, 1, 12], 12, num_classes=num_classes, canvases=sides, crossing=True
        ),
        "100 predictions": plain_scene([3, 17], 100, num_classes=num_classes, seed=1, canvases=sides),
    }
