"""As many targets as predictions, and more: what a prediction fits perfectly, it gets, whoever else is there."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.scene import CANVAS, Scene
from matchers.testing.under_test import UnderTest
from ragged import combine_data
from ragged.testing import PropertyViolation

COUNT = 8
"""P, of which each prediction has a target of its own in a cell of its own."""
USUAL, SIZES = COUNT - 1, (1, COUNT, COUNT + 1, 2 * COUNT)


def crowd(matcher: UnderTest, scene: Scene) -> None:
    """A prediction that is its target gets it whether there are fewer targets than predictions, as many, or more."""
    classes = scene.logits.shape[-1] if scene.predictions.logits is not None else 4
    usual = _first_targets(matcher, crowd_scene(USUAL, classes))
    if usual != list(range(USUAL)):
        return  # a matcher for which a perfect prediction is not enough
    for size in SIZES:
        own = crowd_scene(size, classes)
        found = _first_targets(matcher, own)
        more = max(size - COUNT, 0)
        expected = list(range(more, size))
        if found[: len(expected)] != expected:
            violation = PropertyViolation(
                f"{size} targets and {COUNT} predictions, each with a target of its own box: the predictions have the "
                f"targets {found}, expected {expected}; with {USUAL} targets each prediction has its own"
            )
            violation.scene = own  # type: ignore[attr-defined]
            raise violation


def crowd_scene(size: int, num_classes: int) -> Scene:
    """One image: predictions that are targets, and in front of these, if there are more, targets that none is near."""
    place = torch.arange(COUNT)
    low = torch.stack([place % 4 * 16 + 2, place // 4 * 32 + 3], -1).float()
    boxes = torch.cat([low, low + torch.stack([8 + place % 3, 16 + place % 5], -1)], -1)
    labels = place % num_classes
    logits = torch.nn.functional.one_hot(labels, num_classes) * 8.0 - 4 + place.unsqueeze(-1) / 64
    corner = torch.arange(max(size - COUNT, 0)).float().unsqueeze(-1) * 8 + torch.tensor([0.0, 29.0])
    extra = torch.cat([corner, corner + 2], -1)
    others = (labels[: len(extra)] + 1) % num_classes
    own = min(size, COUNT)
    targets = Targets(
        combine_data([torch.cat([extra, boxes[:own]])]),
        combine_data([torch.cat([others, labels[:own]])]),
        canvas_size=torch.full((1, 2), CANVAS),
    )
    return Scene(Predictions(logits.unsqueeze(0), boxes.unsqueeze(0), torch.full((1, COUNT), 4.0)), targets)


def _first_targets(matcher: UnderTest, scene: Scene) -> list[int]:
    """The target of each prediction; of a plan nothing, for it decides nothing."""
    index: Tensor | None = matcher.parts(scene).get("target_index")
    return [] if index is None else index[0, : int(scene.targets.num_targets)].tolist()
