"""Seeded inputs for matchers: images of 640 pixels with objects of all sizes, and what a detector says about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from matchers import Predictions, convert, grid_points, level_sizes

CANVAS = 640
STRIDES = (8, 16, 32)
NUM_CLASSES = 80
QUERIES = 300
_SMALLEST_SIDE, _LARGEST_SIDE = 8.0, 0.8 * CANVAS

# Number of images and the most objects in one, for heads of all locations and for heads of 300 queries.
DENSE_SIZES = {"small": (2, 50), "medium": (8, 50), "large": (16, 50), "skewed": (8, 300)}
SET_SIZES = {"small": (2, 20), "medium": (8, 50), "large": (32, 100), "skewed": (8, 300)}


@dataclass(frozen=True)
class Scene:
    """Ground truth (xyxy, pixels) as lists, and predictions as a half-trained detector would make them."""

    boxes: list[Tensor]
    labels: list[Tensor]
    predictions: Predictions

    @cached_property
    def points(self) -> Tensor:
        """Grid points in the middle of the cells, (P, 4)."""
        return grid_points((CANVAS, CANVAS), STRIDES)

    @cached_property
    def anchors(self) -> Tensor:
        """Square anchors of eight strides around the points, (P, 4), xyxy."""
        half = 4 * self.points[:, 2:]
        return torch.cat([self.points[:, :2] - half, self.points[:, :2] + half], 1)

    @property
    def level_sizes(self) -> list[int]:
        """Number of points of each level."""
        return level_sizes((CANVAS, CANVAS), STRIDES)


def dense_scene(size: str, seed: int = 0) -> Scene:
    """A prediction for each grid point: near the smallest object that the point lies in, or random around the point."""
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = _objects(_counts(*DENSE_SIZES[size], size == "skewed", generator), generator)
    points = grid_points((CANVAS, CANVAS), STRIDES)
    logits = torch.randn(len(boxes), len(points), NUM_CLASSES, generator=generator) - 3
    predicted = torch.stack([_predicted(each, points, generator) for each in boxes])
    return Scene(boxes, labels, Predictions(logits, predicted, box_format="xyxy", normalized=False))


def set_scene(size: str, seed: int = 0) -> Scene:
    """300 random queries for each image; boxes cxcywh, fractions of the image."""
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = _objects(_counts(*SET_SIZES[size], size == "skewed", generator), generator)
    logits = torch.randn(len(boxes), QUERIES, NUM_CLASSES, generator=generator) - 2
    centre = torch.rand(len(boxes), QUERIES, 2, generator=generator)
    sides = torch.rand(len(boxes), QUERIES, 2, generator=generator) * 0.4 + 0.02
    return Scene(boxes, labels, Predictions(logits, torch.cat([centre, sides], -1), None, "cxcywh", True))


def normalized(scene: Scene) -> list[Tensor]:
    """The ground truth boxes as cxcywh, fractions of the image."""
    return [convert(each / CANVAS, "xyxy", "cxcywh") for each in scene.boxes]


def _counts(images: int, most: int, skewed: bool, generator: torch.Generator) -> list[int]:
    if skewed:
        return [most] + [2] * (images - 1)
    return torch.randint(most + 1, (images,), generator=generator).tolist()


def _objects(counts: list[int], generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    boxes, labels = [], []
    for count in counts:
        sides = _SMALLEST_SIDE * torch.exp(
            torch.rand(count, 2, generator=generator) * math.log(_LARGEST_SIDE / _SMALLEST_SIDE)
        )
        corner = torch.rand(count, 2, generator=generator) * (CANVAS - sides)
        boxes.append(torch.cat([corner, corner + sides], 1))
        labels.append(torch.randint(NUM_CLASSES, (count,), generator=generator))
    return boxes, labels


def _predicted(boxes: Tensor, points: Tensor, generator: torch.Generator) -> Tensor:
    centre, stride = points[:, :2], points[:, 2:]
    half = 1.5 * stride * torch.exp(0.6 * torch.randn(len(points), 2, generator=generator))
    free = torch.cat([centre - half, centre + half], 1)
    if not len(boxes):
        return free
    sides = boxes[:, 2:] - boxes[:, :2]
    holds = ((centre.unsqueeze(1) > boxes[:, :2]) & (centre.unsqueeze(1) < boxes[:, 2:])).all(-1)
    area, smallest = sides.prod(-1).masked_fill(~holds, math.inf).min(1)
    noise = 0.15 * torch.randn(len(points), 4, generator=generator) * sides[smallest].repeat(1, 2)
    near = boxes[smallest] + noise
    near = torch.cat([torch.minimum(near[:, :2], near[:, 2:] - 1), near[:, 2:]], 1)
    return torch.where(area.isfinite().unsqueeze(1), near, free)
