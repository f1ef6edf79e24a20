"""Random scenes: boxes that coincide, touch, or have no area; predictions near targets; values that are no numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.scene import CANVAS, Scene
from ragged import RaggedBatch
from ragged.testing import refilled


def make_boxes(count: int, generator: torch.Generator, *, steps: int | None = None, degenerate: float = 0.0) -> Tensor:
    """xyxy boxes ``(count, 4)`` on the canvas.

    Args:
        count: How many.
        generator: Of the random numbers.
        steps: If given, coordinates are multiples of canvas / steps: boxes coincide, touch and tie.
        degenerate: Fraction of boxes that have no width, or no height, or neither.
    """
    first, second = torch.rand(2, count, 2, generator=generator).unbind(0)
    if steps is None:
        # Mostly of the size that objects have.
        second = first + (second - 0.5) * 0.6
    else:
        first, second = (torch.round(part * steps) / steps for part in (first, second))
    first, second = first.clamp(0, 1), second.clamp(0, 1)
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    flat = torch.rand(count, 2, generator=generator) < degenerate
    return torch.cat([low, torch.where(flat, low, high)], -1) * CANVAS


def make_scene(
    sizes: Sequence[Any],
    num_predictions: int,
    num_classes: int = 4,
    seed: int = 0,
    *,
    layers: tuple[int, ...] = (),
    steps: int | None = None,
    degenerate: float = 0.0,
    near: float = 0.5,
    bad: float = 0.0,
    ignored: float | None = None,
    slack: int = 0,
    filler: str = "zeros",
) -> Scene:
    """Random images.

    Args:
        sizes: Numbers of targets, nested for several batch dimensions.
        num_predictions: P.
        num_classes: C.
        seed: Of all values.
        layers: Leading dimensions that only predictions have.
        steps: If given, boxes and logits are quantised to ``steps`` values, so that there are ties and duplicates.
        degenerate: Part of boxes (predicted and true) without width or height.
        near: Part of the predictions that lie close to a target, or on it if quantised.
        bad: Part of the predictions that have a coordinate or a logit that is NaN or infinite.
        ignored: Part of the targets that are ignored; None: targets have no ignore flag.
        slack: Padding beyond the largest sample.
        filler: What is in the padding, a kind of ``ragged.testing.FILLERS``.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(sizes, dtype=torch.int64)
    shape = tuple(counts.shape)
    width = (int(counts.max()) if counts.numel() else 0) + slack
    slots = counts.numel() * width
    gt = make_boxes(slots, generator, steps=steps, degenerate=degenerate).reshape(*shape, width, 4)
    labels = torch.randint(num_classes, (*shape, width), generator=generator)
    batch = (*layers, *shape)
    total = math.prod(batch) * num_predictions
    boxes = make_boxes(total, generator, steps=steps, degenerate=degenerate).reshape(*batch, num_predictions, 4)
    logits = torch.randn(*batch, num_predictions, num_classes, generator=generator) * 2
    if width:
        boxes, logits = _near_targets(boxes, logits, gt, labels, counts, near, steps, generator)
    if steps is not None:
        logits = logits.round()
    _spoil(boxes, logits, bad, generator)
    ragged = [RaggedBatch(tensor, sample_sizes=counts) for tensor in (gt, labels)]
    flags = None
    if ignored is not None:
        flags = RaggedBatch(torch.rand(*shape, width, generator=generator) < ignored, sample_sizes=counts)
    targets = Targets(
        refilled(ragged[0], filler),
        refilled(ragged[1], filler),
        ignore=None if flags is None else refilled(flags, filler),
    )
    return Scene(Predictions(logits, boxes), targets)


def _near_targets(
    boxes: Tensor,
    logits: Tensor,
    gt: Tensor,
    labels: Tensor,
    counts: Tensor,
    part: float,
    steps: int | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    shape = boxes.shape[:-1]
    drawn = torch.rand(shape, generator=generator)
    own = (drawn * counts.unsqueeze(-1)).long().clamp(max=gt.shape[-2] - 1)
    close = (torch.rand(shape, generator=generator) < part) & (counts.unsqueeze(-1) > 0)
    at = own.unsqueeze(-1).expand(*shape, 4)
    jitter = torch.randn(*shape, 4, generator=generator) * (0.0 if steps is not None else CANVAS / 30)
    moved = gt.expand(*shape[:-1], *gt.shape[-2:]).gather(-2, at) + jitter
    # Jitter must not turn a small box inside out.
    moved = torch.cat([moved[..., :2], torch.maximum(moved[..., :2], moved[..., 2:])], -1)
    label = labels.expand(*shape[:-1], labels.shape[-1]).gather(-1, own)
    hint = torch.nn.functional.one_hot(label, logits.shape[-1]) * 3.0
    chosen = close.unsqueeze(-1)
    return torch.where(chosen, moved, boxes), torch.where(chosen, logits + hint, logits)


def _spoil(boxes: Tensor, logits: Tensor, part: float, generator: torch.Generator) -> None:
    kinds = torch.tensor([math.nan, math.inf, -math.inf])
    for tensor in (boxes, logits):
        hit = torch.rand(tensor.shape[:-1], generator=generator) < part / 2
        where = torch.randint(tensor.shape[-1], hit.shape, generator=generator)
        value = kinds[torch.randint(3, hit.shape, generator=generator)].unsqueeze(-1)
        at = torch.nn.functional.one_hot(where, tensor.shape[-1]).bool() & hit.unsqueeze(-1)
        tensor.copy_(torch.where(at, value, tensor))
