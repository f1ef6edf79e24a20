"""Box coders for one prior and one box at a time, in plain floats, from the papers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reference.boxes import Box, convert
from reference.priors import pair

ZEROS, ONES = (0.0,) * 4, (1.0,) * 4


def clip(box: Box, canvas: tuple[float, float] | None) -> list[float]:
    if canvas is None:
        return list(box)
    height, width = canvas
    return [min(max(value, 0.0), limit) for value, limit in zip(box, (width, height, width, height), strict=True)]


def relative(prior: Box, box: Box) -> list[float]:
    """Both are cxcywh, and have an area."""
    px, py, pw, ph = prior
    x, y, w, h = box
    return [(x - px) / pw, (y - py) / ph, math.log(w / pw), math.log(h / ph)]


def absolute(prior: Box, delta: Box, ratio_clip: float | None = None) -> list[float]:
    px, py, pw, ph = prior
    dx, dy, dw, dh = delta
    if ratio_clip is not None:
        dw, dh = (min(max(value, math.log(ratio_clip)), -math.log(ratio_clip)) for value in (dw, dh))
    return [px + dx * pw, py + dy * ph, pw * math.exp(dw), ph * math.exp(dh)]


def delta_encode(prior: Box, box: Box, means: Sequence[float] = ZEROS, stds: Sequence[float] = ONES) -> list[float]:
    deltas = relative(convert(prior, "xyxy", "cxcywh"), convert(box, "xyxy", "cxcywh"))
    return [(value - mean) / std for value, mean, std in zip(deltas, means, stds, strict=True)]


def delta_decode(
    prior: Box,
    delta: Box,
    means: Sequence[float] = ZEROS,
    stds: Sequence[float] = ONES,
    ratio_clip: float | None = 16 / 1000,
    canvas: tuple[float, float] | None = None,
) -> list[float]:
    values = [value * std + mean for value, mean, std in zip(delta, means, stds, strict=True)]
    box = convert(absolute(convert(prior, "xyxy", "cxcywh"), values, ratio_clip), "cxcywh", "xyxy")
    return clip(box, canvas)


def ssd_encode(prior: Box, box: Box, scale_xy: float, scale_wh: float) -> list[float]:
    dx, dy, dw, dh = relative(prior, box)
    return [dx / scale_xy, dy / scale_xy, dw / scale_wh, dh / scale_wh]


def ssd_decode(prior: Box, delta: Box, scale_xy: float, scale_wh: float) -> list[float]:
    dx, dy, dw, dh = delta
    return absolute(prior, (dx * scale_xy, dy * scale_xy, dw * scale_wh, dh * scale_wh))


def distance_encode(
    point: Sequence[float], box: Box, strides: bool = False, max_distance: float | None = None
) -> list[float]:
    x, y = point[:2]
    stride_x, stride_y = point[2:] if strides else (1.0, 1.0)
    left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
    distances = [left / stride_x, top / stride_y, right / stride_x, bottom / stride_y]
    if max_distance is None:
        return distances
    return [min(max(value, 0.0), max_distance) for value in distances]


def distance_decode(
    point: Sequence[float], distances: Box, strides: bool = False, canvas: tuple[float, float] | None = None
) -> list[float]:
    x, y = point[:2]
    stride_x, stride_y = point[2:] if strides else (1.0, 1.0)
    left, top, right, bottom = distances
    box = [x - left * stride_x, y - top * stride_y, x + right * stride_x, y + bottom * stride_y]
    return clip(box, canvas)


def yolox_encode(point: Box, box: Box) -> list[float]:
    x, y, w, h = convert(box, "xyxy", "cxcywh")
    px, py, sx, sy = point
    return [(x - px) / sx, (y - py) / sy, math.log(w / sx), math.log(h / sy)]


def yolox_decode(point: Box, delta: Box) -> list[float]:
    px, py, sx, sy = point
    dx, dy, dw, dh = delta
    return convert([px + dx * sx, py + dy * sy, sx * math.exp(dw), sy * math.exp(dh)], "cxcywh", "xyxy")


def mean_of_bins(logits: Sequence[float], values: Sequence[float] | None = None) -> float:
    highest = max(logits)
    weights = [math.exp(value - highest) for value in logits]
    values = range(len(logits)) if values is None else values
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def bins(reg_max: int, up: float, reg_scale: float) -> list[float]:
    """W(n) of D-FINE over c = 1 / reg_scale, with a = up."""
    values, ratio = [], up * reg_scale + 1
    for n in range(reg_max + 1):
        if n in (0, reg_max):
            values.append(math.copysign(2 * up * reg_scale, n - 1))
        elif n < reg_max / 2:
            values.append(1 - ratio ** ((reg_max - 2 * n) / (reg_max - 2)))
        else:
            values.append(ratio ** ((2 * n - reg_max) / (reg_max - 2)) - 1)
    return values


def distance2bbox(point: Box, distances: Box, reg_scale: float) -> list[float]:
    """cxcywh in, cxcywh out."""
    x, y, w, h = point
    reach = [(reg_scale / 2 + value) * side / reg_scale for value, side in zip(distances, (w, h, w, h), strict=True)]
    return convert([x - reach[0], y - reach[1], x + reach[2], y + reach[3]], "xyxy", "cxcywh")


def bbox2distance(point: Box, box: Box, reg_max: int, up: float, reg_scale: float) -> list[tuple[int, float, float]]:
    """(left bin, weight of the right one, weight of the left one) of each side."""
    x, y, w, h = point
    x1, y1, x2, y2 = convert(box, "cxcywh", "xyxy")
    values, targets = bins(reg_max, up, reg_scale), []
    for reach, side in ((x - x1, w), (y - y1, h), (x2 - x, w), (y2 - y, h)):
        distance = reach / (side / reg_scale) - reg_scale / 2
        if distance <= values[0]:
            targets.append((0, 0.0, 1.0))
            continue
        if distance >= values[-1]:
            targets.append((reg_max - 1, 1.0, 0.0))
            continue
        left = max(n for n in range(reg_max) if values[n] <= distance)
        right = (distance - values[left]) / (values[left + 1] - values[left])
        targets.append((left, right, 1 - right))
    return targets


def vec2box(
    maps: Sequence[Sequence[Sequence[Sequence[float]]]], sizes: Sequence[tuple[int, int]], strides: Sequence[object]
) -> list[list[float]]:
    """Boxes of one image: ``maps[level][side][row][column]`` are distances in strides."""
    boxes = []
    for level, (rows, columns), stride in zip(maps, sizes, strides, strict=True):
        stride_y, stride_x = pair(stride)
        for row in range(rows):
            for column in range(columns):
                point = ((column + 0.5) * stride_x, (row + 0.5) * stride_y, stride_x, stride_y)
                boxes.append(distance_decode(point, [side[row][column] for side in level], strides=True))
    return boxes
