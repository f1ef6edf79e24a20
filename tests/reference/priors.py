"""Priors in plain loops, one location at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pair(value: object) -> tuple[float, float]:
    return (value[0], value[1]) if isinstance(value, (tuple, list)) else (value, value)  # type: ignore[return-value]


def cells(image_size: tuple[int, int], stride: object) -> list[tuple[int, int]]:
    """(row, column) of every cell that covers some of the image."""
    stride_y, stride_x = pair(stride)
    rows = [row for row in range(image_size[0]) if row * stride_y < image_size[0]]
    columns = [column for column in range(image_size[1]) if column * stride_x < image_size[1]]
    return [(row, column) for row in rows for column in columns]


def grid_points(image_size: tuple[int, int], strides: Sequence[object], offset: float) -> list[list[float]]:
    points = []
    for stride in strides:
        stride_y, stride_x = pair(stride)
        for row, column in cells(image_size, stride):
            points.append([(column + offset) * stride_x, (row + offset) * stride_y, stride_x, stride_y])
    return points


def anchors(
    image_size: tuple[int, int],
    strides: Sequence[object],
    base_sizes: Sequence[object],
    ratios: Sequence[float],
    scales: Sequence[float],
    offset: float,
) -> list[list[float]]:
    boxes = []
    for stride, base in zip(strides, base_sizes, strict=True):
        stride_y, stride_x = pair(stride)
        base_height, base_width = pair(base)
        for row, column in cells(image_size, stride):
            x, y = (column + offset) * stride_x, (row + offset) * stride_y
            for ratio in ratios:
                for scale in scales:
                    height = base_height * scale * math.sqrt(ratio)
                    width = base_width * scale / math.sqrt(ratio)
                    boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return boxes


def ssd_default_boxes(
    maps: Sequence[tuple[int, int]], scales: Sequence[float], ratios: Sequence[Sequence[float]]
) -> list[list[float]]:
    """On a square image: scales and the result are fractions of it, the result as centre and size."""
    boxes = []
    for level, (rows, columns) in enumerate(maps):
        for row in range(rows):
            for column in range(columns):
                center = [(column + 0.5) / columns, (row + 0.5) / rows]
                scale = scales[level]
                boxes.append([*center, scale, scale])
                between = math.sqrt(scale * scales[level + 1])
                boxes.append([*center, between, between])
                for ratio in ratios[level]:
                    boxes.append([*center, scale * math.sqrt(ratio), scale / math.sqrt(ratio)])
                    boxes.append([*center, scale / math.sqrt(ratio), scale * math.sqrt(ratio)])
    return boxes
