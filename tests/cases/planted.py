"""Matchers as operations that bugs are planted into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from matchers import Targets, grid_points
from matchers.testing import make_scene
from tests.mutation.planting import Case

_POINTS = grid_points((64, 64), [16])
_ANCHORS = torch.cat([_POINTS[:, :2] - 16, _POINTS[:, :2] + 16], 1)


def points() -> tuple[Tensor]:
    return (_POINTS,)


def anchors() -> tuple[Tensor]:
    return (_ANCHORS,)


def scenes(**options: Any) -> list[tuple[Tensor, Tensor, Targets]]:
    """Two batches of images."""
    found = [make_scene([4, 1, 0, 3], len(_POINTS), seed=seed, slack=1, **options) for seed in (1, 2)]
    found = [each.in_format(predictions="xyxy", targets="xyxy") for each in found]
    return [(each.predictions.logits, each.predictions.boxes, each.targets) for each in found]


def of_matcher(
    kind: type[Any],
    priors: Callable[[], tuple[Tensor, ...]] = tuple,
    given: Callable[[], Any] = scenes,
    without: frozenset[str] = frozenset(),
    **options: Any,
) -> Case:
    """Logits, boxes and targets to what a matcher gives; ``options`` are those of the matcher."""

    def operation(code: Callable[[str], Any]) -> Callable[..., Any]:
        match = getattr(code(kind.__module__), kind.__name__)(**options)

        def op(logits: Tensor, boxes: Tensor, targets: Targets, *priors: Tensor) -> Any:
            return match({"pred_logits": logits, "pred_boxes": boxes}, targets, *priors)

        return op

    return Case(operation, given, shared=priors, without=without)
