"""A scene of detection: predictions and targets of images with any number of objects.

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
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.geometry.boxes import convert, normalize
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.testing import refilled

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

    @property
    def logits(self) -> Tensor:
        """``(*batch, P, C)``, those of the predictions, which every scene of boxes has."""
        return self.predictions.logits

    @property
    def boxes(self) -> Tensor:
        """``(*batch, P, 4)``, the predicted ones, which every scene of boxes has."""
        return self.predictions.boxes

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
            flat(self.logits, 2),
            flat(self.boxes, 2),
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
        predictions = pytree.tree_map(lambda value: value.index_select(place, where), self.predictions)
        canvas = self.targets.canvas_size
        canvas = None if canvas is None else canvas.index_select(dim, where)
        return Scene(predictions, with_batches(self.targets, rows, canvas_size=canvas))

    def cast(self, dtype: torch.dtype) -> Scene:
        """Floating tensors in another dtype."""
        predictions = pytree.tree_map(
            lambda value: value.to(dtype) if value.is_floating_point() else value, self.predictions
        )
        return Scene(predictions, self.targets.to(dtype))

    def in_format(self, *, predictions: str, targets: str, normalized: bool | tuple[bool, bool] = False) -> Scene:
        """The same in other box formats and units (of predictions and of targets); targets know their canvas."""
        units = normalized if isinstance(normalized, tuple) else (normalized, normalized)
        own = self.targets
        canvas = torch.full((*own.batch_shape, 2), CANVAS) if own.canvas_size is None else own.canvas_size
        predicted = convert(self.boxes, "xyxy", predictions)
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
        own, canvas = self.targets, self.targets.canvas_size
        shape = change(own.reference).batch_shape
        if canvas is not None and shape != own.batch_shape:
            canvas = canvas.expand(*shape, 2)
        return replace(self, targets=with_batches(own, change, canvas_size=canvas))


def with_batches(targets: Targets, change: Callable[[RaggedBatch], RaggedBatch], **others: Any) -> Targets:
    """The same targets with every ragged batch changed, those of fields too, and with other attributes."""
    parts: dict[str, Any] = {name: change(batch) for name, batch in targets.parts.items()}
    fields = {name: parts.pop(name) for name in targets.fields}
    return replace(targets, fields=fields, **parts, **others)
