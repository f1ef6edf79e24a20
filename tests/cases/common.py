"""What cases of criteria have in common: classes, levels, and calls for the fuzzer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from reliability.call import Call, made
from torch import Tensor

from losses import Normalizer
from losses.testing import CriterionCase
from losses.testing import cast as cast_predictions
from matchers import Targets
from matchers.testing import CANVAS

CLASSES = 5
STRIDES = (8, 16)
# What a model hands over to its criterion as constants.
WITHOUT_GRADIENT = ("ref_points", "teacher_corners", "teacher_logits", "proposals")
# Of the images of a call.
SIZES = [2, 0]

cast = partial(cast_predictions, constants=WITHOUT_GRADIENT)


def to_levels(values: Tensor, strides: Sequence[int] = STRIDES) -> list[Tensor]:
    """Values (B, P, K) as maps (B, K, h, w) of the canvas."""
    sides = [int(CANVAS) // stride for stride in strides]
    parts = values.split([side * side for side in sides], 1)
    return [part.mT.unflatten(-1, (side, side)).contiguous() for part, side in zip(parts, sides, strict=True)]


@cache
def given(case: CriterionCase) -> tuple[Any, Any]:
    """Predictions and targets of a call."""
    return case.predictions(SIZES, 0), case.targets(SIZES, 0)


def whole(kind: Callable[..., Any], case: CriterionCase, **init: Any) -> Callable[[], Call]:
    """A valid call of a criterion that is made with these options, those of all criteria beside them."""
    common = {"reduction": "mean", "normalizer": Normalizer()}
    return lambda: made(kind, init | common, *given(case), global_count=3.0)


def with_label(case: CriterionCase, label: int) -> Targets:
    """The targets of a call, all of one class."""
    own = given(case)[1]
    return Targets(own.boxes, own.labels * 0 + label, box_format=own.box_format, normalized=own.normalized)


@cache
def criterion_of(case: CriterionCase) -> Any:
    """The criterion, made once."""
    return case.make()


def call(case: CriterionCase, predictions: Any = None, of: Any = None) -> Any:
    """A criterion with wrong predictions, or wrong targets."""
    own, targets = given(case)
    return criterion_of(case)(own if predictions is None else predictions, targets if of is None else of)


def of_images(batch: Any) -> list[Tensor] | None:
    """Of each image of a ragged batch, without padding; None of None."""
    return None if batch is None else [t[:n] for t, n in zip(batch.tensor, batch.sample_sizes.tolist(), strict=True)]
