"""The outputs of a YOLOv9 head: all levels together, and both branches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from losses.coders.distribution import DecodedLevels, Vec2Box, means_of_bins
from losses.coders.points import DistanceCoder
from losses.functional.numerics import check_floating, check_shape
from losses.heads.class_masks import class_mask_of_points
from losses.heads.levels import stacked_as_maps
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_same_device


@dataclass(frozen=True, eq=False)
class YOLOv9Predictions:
    """Predictions at P points of all levels; with an auxiliary branch a leading dimension (2,), the main branch first.

    Args:
        logits: ``(*layers, B, P, C)``.
        distribution: ``(*layers, B, P, R * 4)``, logits of the bins, of each bin those of the four sides.
        points: (P, 4): x, y and strides, in pixels.
        boxes: ``(*layers, B, P, 4)``, xyxy in pixels; None if they are the means of the distributions.
        class_mask: (B, 1, C), which classes count in which images; None for all.
    """

    logits: Tensor
    distribution: Tensor
    points: Tensor
    boxes: Tensor | None = None
    class_mask: Tensor | None = None

    @classmethod
    def of(cls, preds: Any, vec2box: Vec2Box, *, num_classes: int, reg_max: int, name: str) -> YOLOv9Predictions:
        """Read one branch, from the maps of each level or from what ``vec2box`` made of them.

        Raises:
            TypeError: It is neither of these, or not floating.
            ValueError: Shapes do not fit the levels, ``num_classes`` or ``reg_max``; ``name`` is named.
        """
        boxes = None
        if isinstance(preds, DecodedLevels):
            logits, distribution, boxes = preds
            points = vec2box.points(boxes)
        else:
            logits, distribution, distances = vec2box.flatten(preds)
            points = vec2box.points(logits)
            if distances is not None:
                boxes = DistanceCoder(scale_by_stride=True).decode(points, distances)
        parts = {"class logits": (logits, (num_classes,)), "distributions": (distribution, (4, reg_max))}
        if boxes is not None:
            parts["boxes"] = (boxes, (4,))
        for part, (tensor, last) in parts.items():
            check_floating(tensor, f"{part} of {name}")
            wanted = (*logits.shape[:1], len(points), *last)
            if tuple(tensor.shape) != wanted:
                raise ValueError(
                    f"{part} of {name}, of all levels together, must have shape {wanted}, got {tuple(tensor.shape)}"
                )
        return cls(logits, distribution.mT.flatten(-2), points, boxes)

    @property
    def num_layers(self) -> int:
        """How many leading dimensions there are: 1 with an auxiliary branch, else 0."""
        return self.logits.dim() - 3

    def check_sizes(self, *, num_classes: int, reg_max: int) -> None:
        """Raise ``ValueError`` unless there are so many classes and bins."""
        shape = self.logits.shape[:-1]
        check_shape(self.logits, (*shape, num_classes), "class logits", f"num_classes = {num_classes}")
        check_shape(self.distribution, (*shape, reg_max * 4), "distributions", f"reg_max = {reg_max}")

    def stacked(self, aux: YOLOv9Predictions) -> YOLOv9Predictions:
        """Both branches as layers."""
        if aux.logits.shape != self.logits.shape:
            shapes = f"{tuple(self.logits.shape)} and {tuple(aux.logits.shape)}"
            raise ValueError(f"main_preds and aux_preds must agree in (B, P, C), got {shapes}")
        check_same_device(aux.logits.device, self.logits.device, name="aux_preds", reference="main_preds")
        boxes = None
        if self.boxes is not None or aux.boxes is not None:
            boxes = torch.stack([self.decoded(), aux.decoded()])
        return YOLOv9Predictions(
            stacked_as_maps(self.logits, aux.logits),
            stacked_as_maps(self.distribution, aux.distribution),
            self.points,
            boxes,
        )

    def with_class_mask(self, mask: Tensor) -> YOLOv9Predictions:
        """The same predictions; ``mask`` (B, C) says which classes count, as booleans or weights."""
        return replace(self, class_mask=class_mask_of_points(mask, self.logits))

    def decoded(self) -> Tensor:
        """The boxes, whether given or not."""
        if self.boxes is not None:
            return self.boxes
        # Read as it lies in memory, one bin after the other.
        distances = means_of_bins(self.distribution.mT.unflatten(-2, (-1, 4)), -3).mT
        return DistanceCoder(scale_by_stride=True).decode(self.points, distances)


def by_side(distribution: Tensor) -> Tensor:
    """Logits ``(…, R * 4)`` as ``(…, 4, R)``."""
    return distribution.unflatten(-1, (-1, 4)).mT


register_dataclass(YOLOv9Predictions)
