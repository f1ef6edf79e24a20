"""The maps of a dense head: their sizes, and the boxes around the middle of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ragged.values.checks import check_all_positive, check_count, check_is_sequence

Stride = int | tuple[int, int]
"""Of both directions, or (stride_y, stride_x), in pixels."""
Size = float | tuple[float, float]
"""Of both sides, or (height, width), in pixels."""


def feature_sizes(image_size: tuple[int, int], strides: Sequence[Stride]) -> list[tuple[int, int]]:
    """Height and width of the feature map of each level.

    Args:
        image_size: Height and width of the (padded) image in pixels.
        strides: One for each level.

    Raises:
        TypeError: A size or a stride is not an integer.
        ValueError: A stride is not positive, or ``image_size`` is no pair.

    >>> feature_sizes((100, 64), [8, 16])
    [(13, 8), (7, 4)]
    """
    height, width = height_and_width(image_size, "image_size")
    # The floor of a negative quotient is the ceiling of the positive one, exactly.
    return [(-(-height // y), -(-width // x)) for y, x in stride_pairs(strides)]


def level_sizes(
    image_size: tuple[int, int],
    strides: Sequence[Stride],
    *,
    num_per_cell: int = 1,
    feature_sizes: Sequence[tuple[int, int]] | None = None,
) -> list[int]:
    """Number of priors of each level, in the order of ``grid_points`` and ``anchors``.

    Args:
        image_size, strides, feature_sizes: As for ``grid_points``.
        num_per_cell: Priors in one cell; for ``anchors`` the number of ratios times the number of scales.

    >>> level_sizes((100, 64), [8, 16], num_per_cell=3)
    [312, 84]
    """
    check_count(num_per_cell, "num_per_cell")
    return [rows * columns * num_per_cell for rows, columns in sizes_of_maps(image_size, strides, feature_sizes)]


def no_boxes(device: torch.device | str | None, dtype: torch.dtype) -> Tensor:
    """(0, 4), on the device and in the dtype that is computed in: coordinates do not fit half precision on the way."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating dtype, got {dtype}")
    return torch.empty(0, 4, device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)


def middles_of_cells(
    size: tuple[int, int], step: tuple[float, float], offset: float, like: Tensor
) -> tuple[Tensor, Tensor]:
    """x and y, (rows * columns,) each, row by row."""
    y, x = (
        (torch.arange(count, device=like.device, dtype=like.dtype) + offset) * along
        for count, along in zip(size, step, strict=True)
    )
    rows, columns = size
    return x.repeat(rows), y.repeat_interleave(columns, output_size=rows * columns)


def boxes_around(x: Tensor, y: Tensor, shapes: Sequence[tuple[float, float]]) -> Tensor:
    """Boxes (n * shapes, 4), xyxy, of every shape (height, width) around every centre (n,)."""
    if not shapes:
        return x.new_empty(0, 4)
    boxes = [torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1) for h, w in shapes]
    return torch.stack(boxes, 1).flatten(0, 1)


def stride_pairs(strides: Sequence[Stride]) -> list[tuple[int, int]]:
    """Strides as pairs (stride_y, stride_x), checked."""
    check_is_sequence(strides, "strides", "integers or pairs of them")
    for stride in strides:
        if isinstance(stride, str):
            raise TypeError(f"each of strides must be an integer or a pair (height, width), got {stride!r}")
    pairs = [
        height_and_width((stride, stride) if not isinstance(stride, Sequence) else stride, "strides")
        for stride in strides
    ]
    check_all_positive([side for pair in pairs for side in pair], "strides")
    return pairs


def sizes_of_maps(
    image_size: tuple[int, int], strides: Sequence[Stride], given: Sequence[tuple[int, int]] | None
) -> list[tuple[int, int]]:
    """Height and width of the map of each level: those that are given, or those of ``feature_sizes``."""
    made = feature_sizes(image_size, strides)
    if given is None:
        return made
    check_is_sequence(given, "feature_sizes", "pairs (height, width)")
    check_one_per_level(len(given), "feature_sizes", len(made))
    return [height_and_width(size, "feature_sizes") for size in given]


def height_and_width(value: Any, name: str, *, lowest: int = 0) -> tuple[int, int]:
    """A pair (height, width) of whole numbers."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} must be (height, width), got {value}")
    for side in value:
        check_count(side, name)
        if side < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")
    return value[0], value[1]


def pair_of_sides(size: Size, name: str) -> tuple[float, float]:
    """A pair (height, width) of positive numbers, from one number or two."""
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"{name} must be numbers or pairs (height, width), got {size}")
    check_all_positive(pair, name)
    return pair[0], pair[1]


def check_one_per_level(count: int, name: str, levels: int) -> None:
    """Raise ``ValueError`` unless there is one entry for each level."""
    if count != levels:
        raise ValueError(f"{name} must have one entry for each of the {levels} levels, got {count}")
