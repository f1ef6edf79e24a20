"""Priors: the places and boxes that dense detectors predict from, as plain tensors.

A feature map of stride s has ``ceil(size / s)`` cells along each side: the last ones may reach beyond the image.
Pairs are always (height, width), as images are: a stride is a number, or a pair (stride_y, stride_x). Levels come in
the order of ``strides``, the cells of a level row by row, the priors of a cell next to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.geometry.boxes import check_format, convert
from ragged.values.checks import check_all_positive, check_count, check_flag, check_is_sequence, check_number

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
        TypeError: A size or a stride is no whole number.
        ValueError: A stride is not positive, or ``image_size`` is no pair.

    >>> feature_sizes((100, 64), [8, 16])
    [(13, 8), (7, 4)]
    """
    height, width = _size(image_size, "image_size")
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
    return [rows * columns * num_per_cell for rows, columns in _maps(image_size, strides, feature_sizes)]


def grid_points(
    image_size: tuple[int, int],
    strides: Sequence[Stride],
    *,
    offset: float = 0.5,
    feature_sizes: Sequence[tuple[int, int]] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The points that anchor-free detectors predict from, with the strides of their levels.

    ``x = (column + offset) * stride_x``, ``y = (row + offset) * stride_y``.

    Args:
        image_size: Height and width of the (padded) image in pixels.
        strides: One for each level.
        offset: Of the point in its cell: 0.5 is the centre (FCOS, YOLOX's assigner, YOLOv8), 0 the upper left corner.
        feature_sizes: Height and width of the feature map of each level, where they are not ``ceil(size / stride)``.
        device, dtype: Of the result.

    Returns:
        ``(P, 4)``: rows ``[x, y, stride_x, stride_y]``, in pixels.

    Raises:
        TypeError: A size or a stride is no whole number.
        ValueError: A stride is not positive, or ``feature_sizes`` has another number of levels.

    >>> grid_points((8, 16), [8])
    tensor([[ 4.,  4.,  8.,  8.],
            [12.,  4.,  8.,  8.]])
    """
    check_number(offset, "offset", low=None)
    like, levels = _no_boxes(device, dtype), []
    maps = _maps(image_size, strides, feature_sizes)
    for (stride_y, stride_x), size in zip(stride_pairs(strides), maps, strict=True):
        x, y = _centers(size, (stride_y, stride_x), offset, like)
        levels.append(torch.stack([x, y, torch.full_like(x, stride_x), torch.full_like(y, stride_y)], -1))
    return torch.cat([like, *levels]).to(dtype)


def anchors(
    image_size: tuple[int, int],
    strides: Sequence[Stride],
    *,
    base_sizes: Sequence[Size] | None = None,
    ratios: Sequence[float] = (1.0,),
    scales: Sequence[float] = (1.0,),
    offset: float = 0.5,
    feature_sizes: Sequence[tuple[int, int]] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Anchor boxes around the points of ``grid_points`` (Ren et al., Faster R-CNN, 2015; Lin et al., RetinaNet, 2017).

    ``height = base * scale * sqrt(ratio)``, ``width = base * scale / sqrt(ratio)``: a ratio keeps the area. The anchors
    of a cell are those of the first ratio with all scales, then those of the second ratio, and so on.

    Args:
        image_size, strides, feature_sizes: As for ``grid_points``.
        base_sizes: Side, or height and width, of the anchor of ratio 1 and scale 1 of each level, in pixels; by default
            the stride.
        ratios: Height over width.
        scales: Factors of the base size. RetinaNet has three to an octave: ``[4 * 2 ** (i / 3) for i in range(3)]``.
        offset: Of the centre in its cell. Many implementations of RetinaNet, Faster R-CNN and ATSS take 0.
        device, dtype: Of the result.

    Returns:
        ``(P, 4)``, xyxy, in pixels, not clipped to the image.

    Raises:
        TypeError: A size or a stride is no whole number.
        ValueError: A stride, base size, ratio or scale is not positive, or the numbers of levels differ.

    >>> anchors((8, 16), [8], ratios=[1.0, 4.0])
    tensor([[ 0.,  0.,  8.,  8.],
            [ 2., -4.,  6., 12.],
            [ 8.,  0., 16.,  8.],
            [10., -4., 14., 12.]])
    """
    pairs = stride_pairs(strides)
    if base_sizes is not None:
        check_is_sequence(base_sizes, "base_sizes", "numbers or pairs (height, width)")
    bases = pairs if base_sizes is None else [_both(size, "base_sizes") for size in base_sizes]
    _check_levels(len(bases), "base_sizes", len(pairs))
    check_is_sequence(ratios, "ratios", "numbers")
    check_is_sequence(scales, "scales", "numbers")
    check_all_positive(ratios, "ratios")
    check_all_positive(scales, "scales")
    check_number(offset, "offset", low=None)
    like, levels = _no_boxes(device, dtype), []
    for stride, size, base in zip(pairs, _maps(image_size, strides, feature_sizes), bases, strict=True):
        shapes = [(base[0] * s * r**0.5, base[1] * s / r**0.5) for r in ratios for s in scales]
        levels.append(_boxes_around(*_centers(size, stride, offset, like), shapes))
    return torch.cat([like, *levels]).to(dtype)


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
    box ``s_k sqrt(r)`` wide and ``s_k / sqrt(r)`` high, and the same on its side.

    Args:
        feature_sizes: Height and width of the feature map of each level.
        image_size: Height and width of the image in pixels.
        sizes: ``s_1 … s_{m+1}`` in pixels, one more than there are levels. By default those of equation 4, times the
            shorter side of the image; the one after the last follows the same rule.
        scale_range: ``s_min`` and ``s_max``, as fractions of the shorter side, if ``sizes`` is not given.
        aspect_ratios: Width over height, besides 1, either the same for all levels or a sequence for each.
        strides: Distance of the centres in pixels, for each level; by default as the paper has it, the image divided
            into as many equal parts as there are cells.
        box_format: ``"cxcywh"``, ``"xyxy"`` or ``"xywh"``.
        clip: Whether the boxes are cut off at the border of the image.
        device, dtype: Of the result.

    Returns:
        ``(P, 4)``, in fractions of the image.

    Raises:
        TypeError: A size or a stride is no whole number.
        ValueError: A number is not positive, the numbers of levels differ, or ``box_format`` is unknown.

    >>> maps = [(n, n) for n in (38, 19, 10, 5, 3, 1)]
    >>> ratios = [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]
    >>> ssd_default_boxes(maps, (300, 300), sizes=(30, 60, 111, 162, 213, 264, 315), aspect_ratios=ratios).shape
    torch.Size([8732, 4])
    """
    check_format(box_format)
    check_flag(clip, "clip")
    height, width = _size(image_size, "image_size", lowest=1)
    check_is_sequence(feature_sizes, "feature_sizes", "pairs (height, width)")
    maps = [_size(size, "feature_sizes") for size in feature_sizes]
    if sizes is None:
        _both(scale_range, "scale_range")
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
    _check_levels(len(steps), "strides", len(maps))
    like, levels = _no_boxes(device, dtype), []
    for k, ratios in enumerate(_ratios_by_level(aspect_ratios, len(maps))):
        shapes = _default_shapes(sizes[k], sizes[k + 1], ratios)
        levels.append(_boxes_around(*_centers(maps[k], steps[k], 0.5, like), shapes))
    x1, y1, x2, y2 = torch.cat([like, *levels]).unbind(-1)
    boxes = torch.stack([x1 / width, y1 / height, x2 / width, y2 / height], -1)
    return convert(boxes.clamp(0, 1) if clip else boxes, "xyxy", box_format).to(dtype)


# --- geometry ------------------------------------------------------------------------------------------------------


def _no_boxes(device: torch.device | str | None, dtype: torch.dtype) -> Tensor:
    """(0, 4), on the device and in the dtype that is computed in: coordinates do not fit half precision on the way."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating dtype, got {dtype}")
    return torch.empty(0, 4, device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)


def _centers(size: tuple[int, int], step: tuple[float, float], offset: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """x and y, (rows * columns,) each, row by row."""
    y, x = (
        (torch.arange(count, device=like.device, dtype=like.dtype) + offset) * along
        for count, along in zip(size, step, strict=True)
    )
    rows, columns = size
    return x.repeat(rows), y.repeat_interleave(columns, output_size=rows * columns)


def _boxes_around(x: Tensor, y: Tensor, shapes: Sequence[tuple[float, float]]) -> Tensor:
    """Boxes (n * shapes, 4), xyxy, of every shape (height, width) around every centre (n,)."""
    if not shapes:
        return x.new_empty(0, 4)
    boxes = [torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1) for h, w in shapes]
    return torch.stack(boxes, 1).flatten(0, 1)


def _even_scales(count: int, low: float, high: float) -> list[float]:
    """The scales of equation 4, and the one that follows. One level alone has the lowest, and the highest after it."""
    step = (high - low) / max(count - 1, 1)
    return [low + step * k for k in range(count + 1)]


def _default_shapes(size: float, following: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    both = (size * following) ** 0.5
    lying = [(size / r**0.5, size * r**0.5) for r in ratios]
    return [(size, size), (both, both), *(shape for h, w in lying for shape in ((h, w), (w, h)))]


# --- arguments -----------------------------------------------------------------------------------------------------


def stride_pairs(strides: Sequence[Stride]) -> list[tuple[int, int]]:
    """Strides as pairs (stride_y, stride_x), checked."""
    check_is_sequence(strides, "strides", "integers or pairs of them")
    for stride in strides:
        if isinstance(stride, str):
            raise TypeError(f"each of strides must be an integer or a pair (height, width), got {stride!r}")
    pairs = [_size((stride, stride) if not isinstance(stride, Sequence) else stride, "strides") for stride in strides]
    check_all_positive([side for pair in pairs for side in pair], "strides")
    return pairs


def _maps(
    image_size: tuple[int, int], strides: Sequence[Stride], given: Sequence[tuple[int, int]] | None
) -> list[tuple[int, int]]:
    made = feature_sizes(image_size, strides)
    if given is None:
        return made
    check_is_sequence(given, "feature_sizes", "pairs (height, width)")
    _check_levels(len(given), "feature_sizes", len(made))
    return [_size(size, "feature_sizes") for size in given]


def _ratios_by_level(ratios: Sequence[Any], levels: int) -> list[Sequence[float]]:
    check_is_sequence(ratios, "aspect_ratios", "numbers, or of lists of them")
    own = [ratio for ratio in ratios if isinstance(ratio, Sequence)]
    if own and len(own) < len(ratios):
        raise TypeError(f"aspect_ratios must be numbers, or a sequence of them for each level, got {ratios}")
    by_level = own or [ratios] * levels
    _check_levels(len(by_level), "aspect_ratios", levels)
    for each in by_level:
        check_all_positive(each, "aspect_ratios")
    return by_level


def _size(value: Any, name: str, *, lowest: int = 0) -> tuple[int, int]:
    """A pair (height, width) of whole numbers."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} must be (height, width), got {value}")
    for side in value:
        check_count(side, name)
        if side < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")
    return value[0], value[1]


def _both(size: Size, name: str) -> tuple[float, float]:
    """A pair (height, width) of positive numbers, from one number or two."""
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"{name} must be numbers or pairs (height, width), got {size}")
    check_all_positive(pair, name)
    return pair[0], pair[1]


def _check_levels(count: int, name: str, levels: int) -> None:
    if count != levels:
        raise ValueError(f"{name} must have one entry for each of the {levels} levels, got {count}")
