"""The outputs of the heads of YOLOv8 and its successors: all levels together, and a pair of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from losses.coders.distribution import means_of_bins
from losses.functional.numerics import check_floating, check_shape
from losses.heads.class_masks import class_mask_of_points
from losses.heads.levels import check_same_predictions, flatten_levels, image_size_of, level_maps, stacked_as_maps
from matchers.geometry.maps import Stride, stride_pairs
from matchers.geometry.priors import known_points
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_same_device
from ragged.values.keys import KnownKeys
from ragged.values.precision import wide

PAIR = ("one2many", "one2one")
"""The keys of a pair of heads, in the order of its layers."""
_KEYS = KnownKeys(("boxes", "scores", "feats"))
_FORMS = (
    "maps (B, 4 * R + C, h, w), one for each level; (class scores, boxes), each a list of maps; or a dict with "
    "'scores' (B, C, A), 'boxes' (B, 4 * R, A) and 'feats', the maps that say how the cells lie"
)


@dataclass(frozen=True, eq=False)
class YOLOv8Predictions:
    """Predictions at P points of all levels; of a pair of heads with a leading dimension (2,), one-to-many first.

    Args:
        logits: ``(*layers, B, P, C)``.
        sides: ``(*layers, B, P, 4 * R)``, of each side the logits of its bins; if R is 1, its distance in strides.
        points: (P, 4): x, y and strides, in pixels.
        image_size: Height and width in pixels: the first map by its stride.
        class_mask: (B, 1, C), which classes count in which images; None for all.
    """

    logits: Tensor
    sides: Tensor
    points: Tensor
    image_size: tuple[int, int]
    class_mask: Tensor | None = None

    @classmethod
    def of(
        cls, preds: Any, *, num_classes: int, reg_max: int, strides: Sequence[Stride], name: str = "predictions"
    ) -> YOLOv8Predictions:
        """Read one head.

        Args:
            preds: See ``YOLOv8Criterion``.
            num_classes, reg_max, strides: C, R, and the strides of the levels.
            name: Of the predictions, for messages.

        Raises:
            TypeError: It has no known form, or is not floating.
            KeyError: A dict has a key that nobody reads, or misses one.
            ValueError: Numbers of levels, cells, classes or bins do not fit.
        """
        scores, boxes, maps = _parts(preds, num_classes, 4 * reg_max, strides, name)
        logits = _flat(scores, num_classes, f"class scores of {name}")
        sides = _flat(boxes, 4 * reg_max, f"boxes of {name}")
        check_same_predictions([("class scores", logits), ("boxes", sides)])
        points = known_points(image_size_of(maps, strides), strides, device=logits.device)
        if len(points) != logits.shape[1]:
            cells = [tuple(each.shape[-2:]) for each in maps]
            raise ValueError(f"{name} must be for the {len(points)} cells of maps {cells}, got {logits.shape[1]}")
        down, across = stride_pairs(strides)[0]
        return cls(logits, sides, points, (maps[0].shape[-2] * down, maps[0].shape[-1] * across))

    @property
    def num_layers(self) -> int:
        """How many leading dimensions there are: 1 for a pair of heads, else 0."""
        return self.logits.dim() - 3

    def check_sizes(self, *, num_classes: int, reg_max: int, layers: int) -> None:
        """Raise ``ValueError`` unless there are so many classes, bins and leading dimensions."""
        shape = self.logits.shape[:-1]
        check_shape(self.logits, (*shape, num_classes), "class scores", f"num_classes = {num_classes}")
        check_shape(self.sides, (*shape, 4 * reg_max), "boxes", f"reg_max = {reg_max}")
        if self.num_layers != layers:
            wanted = "a pair of heads, (2, B, P, C)" if layers else "one head, (B, P, C)"
            raise ValueError(f"predictions must be those of {wanted}, got {tuple(self.logits.shape)}")

    def stacked(self, other: YOLOv8Predictions) -> YOLOv8Predictions:
        """Both heads as layers."""
        if self.logits.shape != other.logits.shape or self.image_size != other.image_size:
            shapes = f"{tuple(self.logits.shape)} and {tuple(other.logits.shape)}"
            raise ValueError(f"both heads must agree in (B, P, C) and in their maps, got {shapes}")
        check_same_device(other.logits.device, self.logits.device, name=PAIR[1], reference=PAIR[0])
        logits = stacked_as_maps(self.logits, other.logits)
        return replace(self, logits=logits, sides=stacked_as_maps(self.sides, other.sides))

    def with_class_mask(self, mask: Tensor) -> YOLOv8Predictions:
        """The same, of which some classes count in some images only; see ``Criterion.forward``."""
        return replace(self, class_mask=class_mask_of_points(mask, self.logits))

    def layer(self, index: int) -> YOLOv8Predictions:
        """One head of a pair."""
        return replace(self, logits=self.logits[index], sides=self.sides[index])

    def decoded(self) -> Tensor:
        """Boxes ``(*layers, B, P, 4)``, xyxy in pixels: read as they lie in memory, one channel after the other."""
        point, stride = self.points[:, :2], self.points[:, 2:]
        corners, steps = torch.cat([point, point], -1), torch.cat([-stride, stride], -1)
        return torch.addcmul(corners, distances(self.sides), steps)


def distances(sides: Tensor) -> Tensor:
    """Distances ``(…, P, 4)`` in strides of ``(…, P, 4 * R)``: the means of the distributions, or given if R is 1."""
    if sides.shape[-1] == 4:
        return wide(sides)
    return means_of_bins(sides.mT.unflatten(-2, (4, -1)), -2).mT


def pair_of(preds: Any) -> tuple[Any, Any]:
    """The one-to-many and the one-to-one head.

    Raises:
        TypeError: It is no dict with both, nor a sequence of two.
        KeyError: A dict has another key, or misses one.
    """
    preds = _without_detections(preds)
    if isinstance(preds, Mapping):
        KnownKeys(PAIR).check(preds, "predictions")
        return _needed(preds, PAIR[0], "predictions"), _needed(preds, PAIR[1], "predictions")
    if isinstance(preds, Sequence) and len(preds) == 2:
        return preds[0], preds[1]
    got = f"{len(preds)} entries" if isinstance(preds, Sequence) else type(preds).__name__
    raise TypeError(f"predictions must be a dict with {PAIR[0]!r} and {PAIR[1]!r}, or both heads; got {got}")


def _without_detections(preds: Any) -> Any:
    """The heads, where a model that is evaluated gives its detections beside them."""
    is_evaluated = isinstance(preds, tuple) and len(preds) == 2 and isinstance(preds[0], Tensor)
    return preds[1] if is_evaluated and isinstance(preds[1], (Mapping, list)) else preds


def _parts(
    preds: Any, num_classes: int, channels: int, strides: Sequence[Stride], name: str
) -> tuple[Any, Any, Sequence[Tensor]]:
    """Class scores, boxes, and maps that say how the cells lie."""
    preds = _without_detections(preds)
    if isinstance(preds, Mapping):
        _KEYS.check(preds, name)
        scores, boxes = _needed(preds, "scores", name), _needed(preds, "boxes", name)
        if not isinstance(scores, Tensor) and not isinstance(boxes, Tensor):
            scores, boxes = level_maps((scores, boxes), ("scores", "boxes"), strides)
            return scores, boxes, scores
        maps: Any = _needed(preds, "feats", name)
        (maps,) = level_maps((maps,), ("feats",), strides)
        return scores, boxes, maps
    if not isinstance(preds, Sequence) or not preds:
        raise TypeError(f"{name} must be {_FORMS}; got {type(preds).__name__}")
    if isinstance(preds[0], Tensor):
        (maps,) = level_maps((preds,), (name,), strides)
        own = (channels, num_classes)
        for level, each in enumerate(maps):
            check_floating(each, f"the map of level {level} of {name}")
            if each.dim() != 4 or each.shape[1] != sum(own):
                raise ValueError(
                    f"the map of level {level} of {name} must have shape (B, {channels} + {num_classes}, h, w), got "
                    f"{tuple(each.shape)}"
                )
        whole = flatten_levels(maps, channels=sum(own), name=name)
        boxes, scores = whole.mT.split(own, 1)
        return scores, boxes, maps
    scores, boxes = level_maps(preds, ("class scores", "boxes"), strides)
    return scores, boxes, scores


def _needed(preds: Mapping[str, Any], key: str, name: str) -> Any:
    if preds.get(key) is None:
        raise KeyError(f"{name} must have {key!r}, got {list(preds)}; a head gives {_FORMS}")
    return preds[key]


def _flat(maps: Any, channels: int, name: str) -> Tensor:
    """(B, P, K) of all levels, of flat maps (B, K, A) or of maps of the levels."""
    if not isinstance(maps, Tensor):
        return flatten_levels(maps, channels=channels, name=name)
    check_floating(maps, name)
    if maps.dim() != 3 or maps.shape[1] != channels:
        raise ValueError(f"{name}, flat, must have shape (B, {channels}, A), got {tuple(maps.shape)}")
    return maps.mT


register_dataclass(YOLOv8Predictions, constants=("image_size",))
