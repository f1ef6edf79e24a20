"""Seeded inputs for matchers: images of 640 pixels with objects of all sizes, and what a detector says about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers import Predictions, convert, grid_points, level_sizes

CANVAS = 640
STRIDES = (8, 16, 32)
NUM_CLASSES = 80
QUERIES = 300
_SMALLEST_SIDE, _LARGEST_SHARE = 8.0, 0.8

# Number of images and the most objects in one, for heads of all locations and for heads of 300 queries.
DENSE_SIZES = {"single": (1, 50), "small": (2, 50), "medium": (8, 50), "large": (16, 50)}
SET_SIZES = {"single": (1, 50), "small": (2, 20), "medium": (8, 50), "large": (32, 100)}
# The objects of each image.
COUNTS = {"skewed": (300, *[2] * 7), "crowded": (5000, *[2] * 7)}


@dataclass(frozen=True)
class Shape:
    """How much there is.

    Args:
        counts: Objects of each image.
        canvas: Side of the images, in pixels; with a prediction for each grid point, it says how many these are.
        queries: Predictions, where there is none for each grid point.
    """

    counts: tuple[int, ...]
    canvas: int = CANVAS
    queries: int = QUERIES


Size = str | Shape


@dataclass(frozen=True)
class Scene:
    """Ground truth (xyxy, pixels) as lists, and predictions as a half-trained detector would make them."""

    boxes: list[Tensor]
    labels: list[Tensor]
    predictions: Predictions
    canvas: int = CANVAS

    @cached_property
    def points(self) -> Tensor:
        """Grid points in the middle of the cells, (P, 4)."""
        return grid_points((self.canvas, self.canvas), STRIDES).to(self.predictions.device)

    @cached_property
    def anchors(self) -> Tensor:
        """Square anchors of eight strides around the points, (P, 4), xyxy."""
        half = 4 * self.points[:, 2:]
        return torch.cat([self.points[:, :2] - half, self.points[:, :2] + half], 1)

    def predicted_on(self, device: str) -> Scene:
        """The same, with predictions on a device; ground truth stays in lists on the host."""
        predictions = pytree.tree_map(lambda tensor: tensor.to(device), self.predictions)
        return replace(self, predictions=predictions)

    @property
    def level_sizes(self) -> list[int]:
        """Number of points of each level."""
        return level_sizes((self.canvas, self.canvas), STRIDES)


def dense_scene(size: Size, seed: int = 0) -> Scene:
    """A prediction for each grid point: near the smallest object that the point lies in, or random around the point."""
    generator = torch.Generator().manual_seed(seed)
    shape = _shape(size, DENSE_SIZES, generator)
    boxes, labels = objects(shape, generator)
    points = grid_points((shape.canvas, shape.canvas), STRIDES)
    logits = torch.randn(len(boxes), len(points), NUM_CLASSES, generator=generator) - 3
    predicted = torch.stack([_predicted(each, points, generator) for each in boxes])
    return Scene(boxes, labels, Predictions(logits, predicted, box_format="xyxy", normalized=False), shape.canvas)


def set_scene(size: Size, seed: int = 0) -> Scene:
    """Random queries for each image, 300 unless the size says otherwise; boxes cxcywh, fractions of the image."""
    generator = torch.Generator().manual_seed(seed)
    shape = _shape(size, SET_SIZES, generator)
    boxes, labels = objects(shape, generator)
    logits = torch.randn(len(boxes), shape.queries, NUM_CLASSES, generator=generator) - 2
    centre = torch.rand(len(boxes), shape.queries, 2, generator=generator)
    sides = torch.rand(len(boxes), shape.queries, 2, generator=generator) * 0.4 + 0.02
    predictions = Predictions(logits, torch.cat([centre, sides], -1), None, "cxcywh", True)
    return Scene(boxes, labels, predictions, shape.canvas)


def normalized(scene: Scene) -> list[Tensor]:
    """The ground truth boxes as cxcywh, fractions of the image."""
    return [convert(each / scene.canvas, "xyxy", "cxcywh") for each in scene.boxes]


def _shape(size: Size, sizes: Mapping[str, tuple[int, int]], generator: torch.Generator) -> Shape:
    if isinstance(size, Shape):
        return size
    if size in COUNTS:
        return Shape(COUNTS[size])
    images, most = sizes[size]
    return Shape(tuple(torch.randint(most + 1, (images,), generator=generator).tolist()))


def objects(shape: Shape, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes (xyxy, pixels) of all sizes and labels, of each image."""
    boxes, labels = [], []
    widest = math.log(_LARGEST_SHARE * shape.canvas / _SMALLEST_SIDE)
    for count in shape.counts:
        sides = _SMALLEST_SIDE * torch.exp(torch.rand(count, 2, generator=generator) * widest)
        corner = torch.rand(count, 2, generator=generator) * (shape.canvas - sides)
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
