"""Every criterion, with predictions for it: what the tests of their common contract run over.

case = EVERY_CRITERION["yolox"]
criterion, predictions = case.make(), case.predict([3, 0, 1], seed=0)
losses = criterion(predictions, case.targets([3, 0, 1], seed=0))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scenes import CANVAS, make_boxes, refilled
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from matchers import Targets, convert
from ragged import RaggedBatch

CLASSES = 5
STRIDES = (8, 16)
# What a decoder hands over to its criterion as constants.
WITHOUT_GRADIENT = ("ref_points", "teacher_corners", "teacher_logits")


@dataclass(frozen=True)
class CriterionCase:
    """A criterion and what it is called with; images are in dimension 0 of every tensor that has two at least.

    Args:
        make: ``make(reduction=…, normalizer=…)`` gives the criterion; by default "mean".
        predict: ``predict(boxes, seed)`` gives predictions for images with these target boxes, as a pytree of tensors;
            some predicted boxes should lie near the targets, or hardly anything is positive.
        box_format, normalized: Of the targets that the criterion expects.
        own_result: It returns something else than a dict of terms, see its documents; this makes a dict of it.
    """

    make: Callable[..., nn.Module]
    predict: Callable[[list[Tensor], int], Any]
    box_format: str = "xyxy"
    normalized: bool = False
    own_result: Callable[[Any], dict[str, Any]] | None = None

    def boxes(self, sizes: Sequence[int], seed: int = 0) -> list[Tensor]:
        """Target boxes of each image, xyxy in pixels."""
        generator = torch.Generator().manual_seed(seed)
        return [make_boxes(size, generator) for size in sizes]

    def predictions(self, sizes: Sequence[int], seed: int = 0) -> Any:
        """Predictions for the images of ``targets``."""
        return self.predict(self.boxes(sizes, seed), seed)

    def targets(self, sizes: Sequence[int], seed: int = 0, **layout: Any) -> Targets:
        """Targets of images with so many objects."""
        generator = torch.Generator().manual_seed(seed + 1)
        boxes = [convert(each, "xyxy", self.box_format) for each in self.boxes(sizes, seed)]
        boxes = [each / CANVAS for each in boxes] if self.normalized else boxes
        labels = [torch.randint(CLASSES, (size,), generator=generator) for size in sizes]
        fields = {"box_format": self.box_format, "normalized": self.normalized, "canvas_size": (CANVAS, CANVAS)}
        return Targets.of((boxes, labels), **(fields | layout))

    def losses(self, criterion: nn.Module, predictions: Any, targets: Any, **options: Any) -> dict[str, Any]:
        """What the criterion gives, by name."""
        result = criterion(predictions, targets, **options)
        return result if self.own_result is None else self.own_result(result)


def take(predictions: Any, images: Sequence[int]) -> Any:
    """Predictions of some of the images, in that order."""
    where = torch.tensor(list(images), dtype=torch.int64)
    return pytree.tree_map(lambda leaf: leaf[where] if is_of_images(leaf) else leaf, predictions)


def take_targets(targets: Targets, images: Sequence[int]) -> Targets:
    """Targets of some of the images, in that order, padded as before."""
    where = torch.tensor(list(images), dtype=torch.int64)
    canvas = None if targets.canvas_size is None else targets.canvas_size[where]
    fields = {
        name: RaggedBatch(batch.tensor[where], sample_sizes=batch.sample_sizes[where])
        for name in ("boxes", "labels", "weights", "ignore")
        if (batch := getattr(targets, name)) is not None
    }
    return replace(targets, **fields, canvas_size=canvas)


def padded(targets: Targets, slack: int, filler: str) -> Targets:
    """The same targets in more padding, with other filler."""
    width = targets.max_num_targets + slack
    fields = {
        name: refilled(getattr(targets, name).with_max_sample_size(width), filler) for name in ("boxes", "labels")
    }
    return replace(targets, **fields)


def is_of_images(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() >= 2


def cast(predictions: Any, dtype: torch.dtype) -> Any:
    """Floating tensors in another dtype; those that a head gets a gradient for are leaves that need one."""

    def change(path: tuple[Any, ...], leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        leaf = leaf.detach().to(dtype).clone()
        constant = any(getattr(key, "key", None) in WITHOUT_GRADIENT for key in path)
        return leaf if constant or not is_of_images(leaf) else leaf.requires_grad_()

    return pytree.tree_map_with_path(change, predictions)


def leaves_of(predictions: Any) -> list[Tensor]:
    """The tensors that a head would get a gradient for."""
    return [leaf for leaf in pytree.tree_leaves(predictions) if isinstance(leaf, Tensor) and leaf.requires_grad]


def near(boxes: list[Tensor], count: int, generator: torch.Generator, part: float = 0.6) -> Tensor:
    """Predicted boxes (B, count, 4), xyxy in pixels: about so many near a target, all others anywhere."""
    result = make_boxes(len(boxes) * count, generator).reshape(len(boxes), count, 4)
    # No coordinate equals one of a target, at the border say, where the gradient of an overlap is not defined; and no
    # side is 0, for which some coders have no code.
    result = result + torch.randn(result.shape, generator=generator) * 0.1
    result = torch.cat([result[..., :2], torch.maximum(result[..., 2:], result[..., :2] + 1)], -1)
    for image, own in enumerate(boxes):
        if len(own):
            pick = torch.randint(len(own), (count,), generator=generator)
            close = own[pick] + torch.randn(count, 4, generator=generator)
            close = torch.cat([close[:, :2], torch.maximum(close[:, 2:], close[:, :2] + 1)], -1)
            chosen = torch.rand(count, 1, generator=generator) < part
            result[image] = torch.where(chosen, close, result[image])
    return result


def near_at_points(boxes: list[Tensor], points: Tensor, generator: torch.Generator) -> Tensor:
    """Predicted boxes (B, P, 4) of a dense head: at points inside of targets, near one of these."""
    result = near(boxes, len(points), generator, part=0.0)
    for image, own in enumerate(boxes):
        for box in own.flip(0):  # the first target has the last word
            inside = ((points[:, :2] > box[:2]) & (points[:, :2] < box[2:])).all(-1, keepdim=True)
            close = box + torch.randn(len(points), 4, generator=generator)
            close = torch.cat([close[:, :2], torch.maximum(close[:, 2:], close[:, :2] + 1)], -1)
            result[image] = torch.where(inside, close, result[image])
    return result


def to_levels(values: Tensor, strides: Sequence[int] = STRIDES) -> list[Tensor]:
    """Values (B, P, K) as maps (B, K, h, w) of the canvas."""
    sides = [int(CANVAS) // stride for stride in strides]
    parts = values.split([side * side for side in sides], 1)
    return [part.mT.unflatten(-1, (side, side)).contiguous() for part, side in zip(parts, sides, strict=True)]
