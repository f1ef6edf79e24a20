"""The coders of ``losses``: boxes relative to priors, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from reference import coders as loops
from torch import Tensor

import losses
from matchers import xyxy_to_cxcywh
from ragged import RaggedBatch
from registry.entries import SLOTS, Elsewhere, Operation, boxes, data, per_row, rows, uniform, wrapped

BINS = 8
TEST = "tests/losses/test_coders.py"


def centred(seed: int) -> RaggedBatch:
    """Ragged cxcywh boxes."""
    return boxes(seed).apply(xyxy_to_cxcywh)


def points() -> RaggedBatch:
    """Grid points: x, y and strides."""
    return wrapped(torch.cat([uniform(3, SLOTS, 2) * 5, uniform(3, SLOTS, 2, seed=1) * 2], -1))


def coder(function: Callable[..., Tensor], *arguments: Callable[[], RaggedBatch], loop: Any) -> Operation:
    return Operation(function, lambda: tuple(make() for make in arguments), reference=per_row(loop, 4), is_loop=True)


def level_maps() -> list[list[Tensor]]:
    """Of images of 16 by 16 pixels at strides 8 and 16: class scores and distributions."""
    return [[uniform(3, 5, side, side, seed=side), uniform(3, BINS, 4, side, side, seed=side)] for side in (2, 1)]


def decoded(levels: list[list[Tensor]]) -> tuple[Tensor, ...]:
    return losses.Vec2Box(image_size=(16, 16), strides=(8, 16))(levels)


def bins(up: Tensor, scale: Tensor) -> Tensor:
    return losses.weighting_function(BINS, up, scale)


def reference_bins(prior: Tensor, box: Tensor) -> tuple[Tensor, ...]:
    found = [loops.bbox2distance(p, b, BINS, 0.5, 4.0) for p, b in zip(prior.tolist(), box.tolist(), strict=True)]
    left, right, other = torch.tensor(found, dtype=torch.float64).reshape(-1, 4, 3).unbind(-1)
    return left.long(), right, other


def between(prior: Tensor, box: Tensor) -> Tensor:
    """There and back: the boxes that the bins stand for."""
    found = losses.bbox2distance(prior, box, reg_max=BINS, reg_scale=REACH, up=UP)
    values = losses.weighting_function(BINS, UP, REACH, device=box.device).to(box.dtype)
    distance = found.weight_left * values[found.left] + found.weight_right * values[found.left + 1]
    return losses.distance2bbox(prior, distance, reg_scale=REACH).detach()


# Far enough for any of the boxes.
UP, REACH = 4.0, 4.0
DELTA, SSD = losses.DeltaXYWHCoder(), losses.SSDCoder()
DISTANCE, CENTER = losses.DistanceCoder(scale_by_stride=True), losses.CenterLogSizeCoder()
DISTRIBUTION = losses.DistributionCoder(reg_max=BINS)
ZEROS, ONES = (0.0,) * 4, (1.0,) * 4

PACKAGE = "losses"
ENTRIES: dict[str, Operation | Elsewhere] = {
    "DeltaXYWHCoder": coder(DELTA.encode, boxes, lambda: boxes(1), loop=lambda p, b: loops.delta_encode(p, b)),
    "DeltaXYWHCoder.decode": coder(DELTA.decode, boxes, lambda: data(4), loop=lambda p, d: loops.delta_decode(p, d)),
    "SSDCoder": coder(
        SSD.encode, lambda: centred(0), lambda: centred(1), loop=lambda p, b: loops.ssd_encode(p, b, 0.1, 0.2)
    ),
    "SSDCoder.decode": coder(
        SSD.decode, lambda: centred(0), lambda: data(4), loop=lambda p, d: loops.ssd_decode(p, d, 0.1, 0.2)
    ),
    "DistanceCoder": Operation(
        DISTANCE.encode,
        lambda: (points(), boxes()),
        reference=lambda p, b: torch.cat([p[:, :2] - b[:, :2], b[:, 2:] - p[:, :2]], -1) / p[:, 2:].repeat(1, 2),
    ),
    "DistanceCoder.decode": Operation(
        DISTANCE.decode,
        lambda: (points(), data(4)),
        reference=lambda p, d: p[:, :2].repeat(1, 2) + d * p[:, 2:].repeat(1, 2) * torch.tensor([-1, -1, 1, 1]),
    ),
    "CenterLogSizeCoder": coder(CENTER.encode, points, boxes, loop=loops.yolox_encode),
    "CenterLogSizeCoder.decode": coder(CENTER.decode, points, lambda: data(4), loop=loops.yolox_decode),
    "DistributionCoder": Operation(DISTRIBUTION.encode, lambda: (points(), boxes())),
    "DistributionCoder.decode": Operation(
        DISTRIBUTION.decode,
        lambda: (points(), data(4, BINS)),
        reference=lambda p, x: DISTANCE.decode(p, (x.softmax(-1) * torch.arange(BINS)).sum(-1)),
    ),
    "distance2bbox": coder(
        lambda p, d: losses.distance2bbox(p, d, reg_scale=4.0),
        lambda: centred(0),
        lambda: data(4),
        loop=lambda p, d: loops.distance2bbox(p, d, 4.0),
    ),
    "bbox2distance": Operation(
        lambda p, b: tuple(losses.bbox2distance(p, b, reg_max=BINS, reg_scale=4.0, up=0.5)),
        lambda: (centred(0), centred(1)),
        reference=reference_bins,
    ),
    "BinTargets": Operation(rows(between), lambda: (centred(0), centred(1)), reference=lambda p, b: b.detach()),
    "weighting_function": Operation(
        bins,
        lambda: (torch.tensor([0.5]), torch.tensor([4.0])),
        without={"independence": "the bins are no part of a sample", "empty": "needs one number for each argument"},
    ),
    "Vec2Box": Operation(decoded, lambda: (level_maps(),)),
    "DecodedLevels": Operation(lambda levels: losses.DecodedLevels(*decoded(levels)).boxes, lambda: (level_maps(),)),
    "BoxCoder": Elsewhere(TEST, "is what a coder has to have, and computes nothing"),
}
