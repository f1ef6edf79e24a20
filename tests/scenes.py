"""Scenes for the tests of matchers: predictions and targets of images with any number of objects, and nasty ones.

The structure is drawn by hypothesis, so that it shrinks; the many values come from a seed.

    scene = make_scene([3, 0, 1], 10, num_classes=4, seed=0)
    assignment = matcher(scene.predictions, scene.targets)
    for image in scene.images():        # plain tensors of one image, for a reference
        ...
    scene.padded(slack=3, filler="nan")  # the same scene with other padding
    scene.take([2, 0])                   # other images, in another order
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from matchers.boxes import convert, normalize
from matchers.predictions import Predictions
from matchers.targets import Targets
from ragged import RaggedBatch
from ragged.testing import FILLERS, filler_value

CANVAS = 64.0
"""Height and width of every image of a scene, unless given."""


@dataclass(frozen=True)
class Image:
    """One image, without padding: what a reference computes on."""

    logits: Tensor  # (P, C)
    boxes: Tensor  # (P, 4)
    gt_boxes: Tensor  # (n, 4)
    labels: Tensor  # (n,)
    ignore: Tensor  # (n,), bool


@dataclass(frozen=True)
class Scene:
    """Predictions ``(*batch, P, …)`` and targets ``(*own batch, G, …)``; boxes are xyxy in pixels unless converted."""

    predictions: Predictions
    targets: Targets

    def images(self) -> list[Image]:
        """Every image, layers first, batch dimensions flattened."""
        shape = self.predictions.batch_shape
        count = math.prod(shape)
        own = self.targets

        def flat(tensor: Tensor, rest: int) -> list[Tensor]:
            tail = tensor.shape[tensor.dim() - rest :]
            return list(tensor.expand(*shape, *tail).reshape(count, *tail))

        boxes, labels = flat(own.boxes.tensor, 2), flat(own.labels.tensor, 1)
        flags = own.mask.new_zeros(own.mask.shape) if own.ignore is None else own.ignore.tensor
        sizes = own.num_targets.expand(shape).reshape(-1).tolist()
        given = zip(
            flat(self.predictions.logits, 2),
            flat(self.predictions.boxes, 2),
            boxes,
            labels,
            flat(flags, 1),
            strict=True,
        )
        return [
            Image(logits, predicted, gt[:size], label[:size], flag[:size])
            for size, (logits, predicted, gt, label, flag) in zip(sizes, given, strict=True)
        ]

    def padded(self, slack: int, filler: str = "zeros") -> Scene:
        """The same with ``slack`` slots more than the largest sample needs, and other filler in all slots."""
        width = int(self.targets.num_targets.max()) + slack if self.targets.num_targets.numel() else slack
        return self._over_targets(
            lambda batch: refilled(batch.with_max_sample_size(width), filler),
        )

    def take(self, index: Sequence[int]) -> Scene:
        """Images ``index`` of the last batch dimension, in that order."""
        where = torch.tensor(list(index), dtype=torch.int64)
        dim = len(self.targets.batch_shape) - 1

        def rows(batch: RaggedBatch) -> RaggedBatch:
            return RaggedBatch(
                batch.tensor.index_select(dim, where), sample_sizes=batch.sample_sizes.index_select(dim, where)
            )

        place = len(self.predictions.batch_shape) - 1
        fields = {
            name: value.index_select(place, where)
            for name in ("logits", "boxes", "objectness")
            if (value := getattr(self.predictions, name)) is not None
        }
        taken = self._over_targets(rows)
        return replace(taken, predictions=replace(self.predictions, **fields))

    def cast(self, dtype: torch.dtype) -> Scene:
        """Floating tensors in another dtype."""
        fields = {
            name: value.to(dtype)
            for name in ("logits", "boxes", "objectness")
            if (value := getattr(self.predictions, name)) is not None
        }
        return Scene(replace(self.predictions, **fields), self.targets.to(dtype))

    def in_format(self, *, predictions: str, targets: str, normalized: bool | tuple[bool, bool] = False) -> Scene:
        """The same in other box formats and units (of predictions and of targets); targets know their canvas."""
        units = normalized if isinstance(normalized, tuple) else (normalized, normalized)
        own = self.targets
        canvas = torch.full((*own.batch_shape, 2), CANVAS) if own.canvas_size is None else own.canvas_size
        predicted = convert(self.predictions.boxes, "xyxy", predictions)
        boxes = convert(own.boxes.tensor, "xyxy", targets)
        predicted = normalize(predicted, canvas) if units[0] else predicted
        boxes = normalize(boxes, canvas) if units[1] else boxes
        return Scene(
            replace(self.predictions, boxes=predicted, box_format=predictions, normalized=units[0]),
            replace(
                own,
                boxes=own.boxes.create_with_sample_sizes_like_self(boxes),
                box_format=targets,
                normalized=units[1],
                canvas_size=canvas,
            ),
        )

    def _over_targets(self, change: Callable[[RaggedBatch], RaggedBatch]) -> Scene:
        own = self.targets
        fields: dict[str, Any] = {
            name: change(batch)
            for name in ("boxes", "labels", "weights", "ignore")
            if (batch := getattr(own, name)) is not None
        }
        canvas = own.canvas_size
        if canvas is not None and fields["boxes"].batch_shape != own.batch_shape:
            canvas = canvas.expand(*fields["boxes"].batch_shape, 2)
        return replace(self, targets=replace(own, **fields, canvas_size=canvas))


def refilled(batch: RaggedBatch, filler: str) -> RaggedBatch:
    """The batch with filler of a kind in ``strategies.FILLERS``."""
    return batch.with_padded_set_to(filler_value(filler, batch.dtype))


def make_boxes(count: int, generator: torch.Generator, *, steps: int | None = None, degenerate: float = 0.0) -> Tensor:
    """xyxy boxes ``(count, 4)`` on the canvas.

    Args:
        count: How many.
        generator: Of the random numbers.
        steps: If given, coordinates are multiples of canvas / steps: boxes coincide, touch and tie.
        degenerate: Which part of the boxes has no width, or no height, or neither.
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
        steps: If given, boxes and logits are quantised to so many values, so that there are ties and duplicates.
        degenerate: Part of boxes (predicted and true) without width or height.
        near: Part of the predictions that lie close to a target, or on it if quantised.
        bad: Part of the predictions that have a coordinate or a logit that is NaN or infinite.
        ignored: Part of the targets that are ignored; None: targets have no ignore flag.
        slack: Padding beyond the largest sample.
        filler: What is in the padding, one of ``strategies.FILLERS``.
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


@st.composite
def sizes(draw: st.DrawFn, *, max_images: int = 4, max_targets: int = 60) -> list[int]:
    """Numbers of targets: 0 and 1 often, all of them 0 sometimes, many seldom."""
    number = st.one_of(st.sampled_from([0, 1]), st.integers(0, 6), st.integers(0, max_targets))
    return draw(st.lists(number, min_size=1, max_size=max_images))


@st.composite
def scenes(
    draw: st.DrawFn,
    *,
    max_images: int = 4,
    max_targets: int = 60,
    min_predictions: int = 0,
    max_predictions: int = 100,
    layers: bool = True,
    ignore: bool = True,
    bad: bool = True,
    ties: bool = True,
    num_classes: int = 4,
) -> Scene:
    """Any scene: ties, degenerate boxes, bad predictions, ignore flags, layers, filler, as far as allowed."""
    few, some = (st.integers(min_predictions, min(most, max_predictions)) for most in (1, 12))
    count = draw(st.one_of(few, some, st.integers(min_predictions, max_predictions)))
    return make_scene(
        draw(sizes(max_images=max_images, max_targets=max_targets)),
        count,
        num_classes,
        draw(st.integers(0, 10_000)),
        layers=draw(st.sampled_from([(), (), (1,), (2,)])) if layers else (),
        steps=draw(st.sampled_from([None, 2, 4, 8])) if ties else None,
        degenerate=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        near=draw(st.sampled_from([0.0, 0.5, 1.0])),
        bad=draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])) if bad else 0.0,
        ignored=draw(st.sampled_from([None, 0.0, 0.3, 1.0])) if ignore else None,
        slack=draw(st.sampled_from([0, 0, 1, 5])),
        filler=draw(st.sampled_from(FILLERS)),
    )
