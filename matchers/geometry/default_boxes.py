"""The default boxes of SSD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.geometry.boxes import check_format, convert
from matchers.geometry.maps import (
    Stride,
    boxes_around,
    check_one_per_level,
    height_and_width,
    middles_of_cells,
    no_boxes,
    pair_of_sides,
    stride_pairs,
)
from ragged.values.checks import check_all_positive, check_flag, check_is_sequence


def ssd_default_boxes(
    feature_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    *,
    sizes: Sequence[float] | None = None,
    scale_range: tuple[float, float] = (0.2, 0.9),
    aspect_ratios: Sequence[float] | Sequence[Sequence[float]] = (2.0, 3.0),
    strides: Sequence[Stride] | None = None,
    box_format: str = "cxcywh",
    clip: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The default boxes of SSD, as fractions of the image (Liu et al., 2016, section 2.2).

    The sizes of m levels grow evenly, ``s_k = s_min + (s_max - s_min) (k - 1) / (m - 1)`` (equation 4). The boxes of a
    cell are, in this order: the square of ``s_k``, the square of ``sqrt(s_k s_{k+1})``, and for each aspect ratio r the
    box ``s_k sqrt(r)`` wide and ``s_k / sqrt(r)`` high, and the same box rotated by 90°.

    Args:
        feature_sizes: Height and width of the feature map of each level.
        image_size: Height and width of the image in pixels.
        sizes: ``s_1 … s_{m+1}`` in pixels, one more than there are levels. By default those of equation 4, times the
            shorter side of the image; the one after the last follows the same rule.
        scale_range: ``s_min`` and ``s_max``, as fractions of the shorter side, if ``sizes`` is not given.
        aspect_ratios: Width over height, besides 1, either the same for all levels or a sequence for each.
        strides: Distance of the centres in pixels, for each level. Default, as in the paper: image size / number of
            cells.
        box_format: ``"cxcywh"``, ``"xyxy"`` or ``"xywh"``.
        clip: Whether the boxes are clipped to the image.
        device, dtype: Of the result.

    Returns:
        ``(P, 4)``, in fractions of the image.

    Raises:
        TypeError: A size or a stride is not an integer.
        ValueError: A number is not positive, the numbers of levels differ, or ``box_format`` is unknown.

    >>> maps = [(n, n) for n in (38, 19, 10, 5, 3, 1)]
    >>> ratios = [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]
    >>> ssd_default_boxes(maps, (300, 300), sizes=(30, 60, 111, 162, 213, 264, 315), aspect_ratios=ratios).shape
    torch.Size([8732, 4])
    """
    check_format(box_format)
    check_flag(clip, "clip")
    height, width = height_and_width(image_size, "image_size", lowest=1)
    check_is_sequence(feature_sizes, "feature_sizes", "pairs (height, width)")
    maps = [height_and_width(size, "feature_sizes") for size in feature_sizes]
    if sizes is None:
        pair_of_sides(scale_range, "scale_range")
        sizes = [scale * min(height, width) for scale in _even_scales(len(maps), *scale_range)]
    check_is_sequence(sizes, "sizes", "numbers")
    if len(sizes) != len(maps) + 1:
        raise ValueError(f"sizes must have {len(maps) + 1} entries, one more than there are levels, got {len(sizes)}")
    check_all_positive(sizes, "sizes")
    steps: Sequence[tuple[float, float]] = (
        [(height / max(rows, 1), width / max(columns, 1)) for rows, columns in maps]
        if strides is None
        else stride_pairs(strides)
    )
    check_one_per_level(len(steps), "strides", len(maps))
    like, levels = no_boxes(device, dtype), []
    for k, ratios in enumerate(_ratios_by_level(aspect_ratios, len(maps))):
        shapes = _default_shapes(sizes[k], sizes[k + 1], ratios)
        levels.append(boxes_around(*middles_of_cells(maps[k], steps[k], 0.5, like), shapes))
    x1, y1, x2, y2 = torch.cat([like, *levels]).unbind(-1)
    boxes = torch.stack([x1 / width, y1 / height, x2 / width, y2 / height], -1)
    return convert(boxes.clamp(0, 1) if clip else boxes, "xyxy", box_format).to(dtype)


def _even_scales(count: int, low: float, high: float) -> list[float]:
    """The scales of equation 4, and the one that follows. One level alone has the lowest, and the highest after it."""
    step = (high - low) / max(count - 1, 1)
    return [low + step * k for k in range(count + 1)]


def _default_shapes(size: float, following: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    both = (size * following) ** 0.5
    lying = [(size / r**0.5, size * r**0.5) for r in ratios]
    return [(size, size), (both, both), *(shape for h, w in lying for shape in ((h, w), (w, h)))]


def _ratios_by_level(ratios: Sequence[Any], levels: int) -> list[Sequence[float]]:
    check_is_sequence(ratios, "aspect_ratios", "numbers, or of lists of them")
    own = [ratio for ratio in ratios if isinstance(ratio, Sequence)]
    if own and len(own) < len(ratios):
        raise TypeError(f"aspect_ratios must be numbers, or a sequence of them for each level, got {ratios}")
    by_level = own or [ratios] * levels
    check_one_per_level(len(by_level), "aspect_ratios", levels)
    for each in by_level:
        check_all_positive(each, "aspect_ratios")
    return by_level
