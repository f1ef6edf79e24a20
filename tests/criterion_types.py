"""What the cases of criteria have in common: see ``losses.testing`` for the cases themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from losses.testing import cast as cast_predictions
from matchers.testing import CANVAS

CLASSES = 5
STRIDES = (8, 16)
# What a decoder hands over to its criterion as constants.
WITHOUT_GRADIENT = ("ref_points", "teacher_corners", "teacher_logits")

cast = partial(cast_predictions, constants=WITHOUT_GRADIENT)


def to_levels(values: Tensor, strides: Sequence[int] = STRIDES) -> list[Tensor]:
    """Values (B, P, K) as maps (B, K, h, w) of the canvas."""
    sides = [int(CANVAS) // stride for stride in strides]
    parts = values.split([side * side for side in sides], 1)
    return [part.mT.unflatten(-1, (side, side)).contiguous() for part, side in zip(parts, sides, strict=True)]
