"""Priors: the places and boxes that dense detectors predict from, as plain tensors.

A feature map of stride s has ``ceil(size / s)`` cells along each side: the last ones may reach beyond the image.
Pairs are always (height, width), as images are: a stride is a number, or a pair (stride_y, stride_x). Levels come in
the order of ``strides``, the cells of a level row by row, the priors of a cell next to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from matchers.geometry.maps import (
    Size,
    Stride,
    boxes_around,
    check_one_per_level,
    middles_of_cells,
    no_boxes,
    pair_of_sides,
    sizes_of_maps,
    stride_pairs,
)
from ragged.values.checks import check_all_positive, check_is_sequence, check_number
from ragged.values.once import made_once


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
        strides: Stride of each level, an integer or (stride_y, stride_x), in pixels.
        offset: Position of the point in its cell: 0.5 is the centre (FCOS, YOLOX's assigner, YOLOv8), 0 the upper left
            corner.
        feature_sizes: Height and width of the feature map of each level, where they are not ``ceil(size / stride)``.
        device, dtype: Of the result.

    Returns:
        ``(P, 4)``: rows ``[x, y, stride_x, stride_y]``, in pixels.

    Raises:
        TypeError: A size or a stride is not an integer.
        ValueError: A stride is not positive, or ``feature_sizes`` has another number of levels.

    >>> grid_points((8, 16), [8])
    tensor([[ 4.,  4.,  8.,  8.],
            [12.,  4.,  8.,  8.]])
    """
    check_number(offset, "offset", low=None)
    like, levels = no_boxes(device, dtype), []
    maps = sizes_of_maps(image_size, strides, feature_sizes)
    for (stride_y, stride_x), size in zip(stride_pairs(strides), maps, strict=True):
        x, y = middles_of_cells(size, (stride_y, stride_x), offset, like)
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
        scales: Factors of the base size. RetinaNet uses three per octave: ``[4 * 2 ** (i / 3) for i in range(3)]``.
        offset: Position of the centre in its cell. Many implementations of RetinaNet, Faster R-CNN and ATSS use 0.
        device, dtype: Of the result.

    Returns:
        ``(P, 4)``, xyxy, in pixels, not clipped to the image.

    Raises:
        TypeError: A size or a stride is not an integer.
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
    bases = pairs if base_sizes is None else [pair_of_sides(size, "base_sizes") for size in base_sizes]
    check_one_per_level(len(bases), "base_sizes", len(pairs))
    check_is_sequence(ratios, "ratios", "numbers")
    check_is_sequence(scales, "scales", "numbers")
    check_all_positive(ratios, "ratios")
    check_all_positive(scales, "scales")
    check_number(offset, "offset", low=None)
    like, levels = no_boxes(device, dtype), []
    for stride, size, base in zip(pairs, sizes_of_maps(image_size, strides, feature_sizes), bases, strict=True):
        shapes = [(base[0] * s * r**0.5, base[1] * s / r**0.5) for r in ratios for s in scales]
        levels.append(boxes_around(*middles_of_cells(size, stride, offset, like), shapes))
    return torch.cat([like, *levels]).to(dtype)


def known_points(
    image_size: Sequence[int],
    strides: Sequence[Stride],
    *,
    offset: float = 0.5,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``grid_points``, made once for all images of a size, and not to be written into."""
    return _points(tuple(image_size), tuple(stride_pairs(strides)), offset, device, dtype)


def known_anchors(
    image_size: Sequence[int], strides: Sequence[Stride], *, scale: float, offset: float = 0.5, device: torch.device
) -> Tensor:
    """``anchors`` of one shape, made once for all images of a size, and not to be written into."""
    return _anchors(tuple(image_size), tuple(stride_pairs(strides)), scale, offset, device)


@made_once
def _points(
    image_size: tuple[int, int],
    strides: tuple[tuple[int, int], ...],
    offset: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    return grid_points(image_size, strides, offset=offset, device=device, dtype=dtype)


@made_once
def _anchors(
    image_size: tuple[int, int],
    strides: tuple[tuple[int, int], ...],
    scale: float,
    offset: float,
    device: torch.device,
) -> Tensor:
    return anchors(image_size, strides, scales=(scale,), offset=offset, device=device)
