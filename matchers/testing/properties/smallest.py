"""The smallest scene in which a matcher breaks a property."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.testing.changes.rows import images_of, kept_targets
from matchers.testing.properties.table import MATCHER_PROPERTIES
from matchers.testing.reporting.shrinking import Shrinker
from matchers.testing.scene import Scene
from matchers.testing.under_test import UnderTest
from ragged.testing import PropertyViolation

Found = tuple[Scene, Tensor | None]


def violation_of(name: str, matcher: UnderTest, scene: Scene) -> PropertyViolation | None:
    """What a property says of the matcher and this scene; None if it holds."""
    try:
        MATCHER_PROPERTIES[name](matcher, scene)
    except PropertyViolation as violation:
        return violation
    return None


def smallest_scene(name: str, matcher: UnderTest, scene: Scene) -> Found:
    """The fewest images, targets and predictions that suffice, and their priors."""
    priors = matcher.priors[0] if matcher.priors else None
    if len(scene.targets.batch_shape) != 1 or scene.predictions.sizes is not None:
        return scene, priors

    def fails(found: Found) -> bool:
        try:
            return violation_of(name, matcher.with_priors(found[1]), found[0]) is not None
        except Exception:  # what is too small to be matched at all shows nothing
            return False

    shrinker = Shrinker(fails)
    shape = scene.targets.batch_shape
    images = shrinker.fewest(range(shape[0]), 1, lambda kept: (_of_images(scene, kept), priors))
    scene = _of_images(scene, images)
    every = [(image, place) for image, size in enumerate(scene.targets.num_targets.tolist()) for place in range(size)]
    targets = shrinker.fewest(every, 0, lambda kept: (_of_targets(scene, kept), priors))
    scene = _of_targets(scene, targets) if len(targets) < len(every) else scene
    count = scene.predictions.num_predictions
    rows = shrinker.fewest(range(count), 1, lambda kept: _of_predictions(scene, priors, kept))
    found = _of_predictions(scene, priors, rows) if len(rows) < count else (scene, priors)
    for simpler in _SIMPLER:
        less = simpler(found[0])
        if less is not None and fails((less, found[1])):
            found = (less, found[1])
    return found


def _without(owner: str, part: str) -> Callable[[Scene], Scene | None]:
    def drop(scene: Scene) -> Scene | None:
        whole: Any = getattr(scene, owner)
        if getattr(whole, part) is None:
            return None
        try:
            return replace(scene, **{owner: replace(whole, **{part: None})})
        except ValueError:  # there must be something
            return None

    return drop


_SIMPLER = [_without("targets", "weights"), _without("targets", "ignore"), _without("predictions", "objectness")]


def _of_images(scene: Scene, images: list[int]) -> Scene:
    where = torch.tensor(images)
    dim = len(scene.predictions.batch_shape) - 1
    predictions = pytree.tree_map(lambda leaf: leaf.index_select(dim, where), scene.predictions)
    return Scene(predictions, images_of(scene.targets, images))


def _of_targets(scene: Scene, kept: list[tuple[int, int]]) -> Scene:
    rows = [[place for image, place in kept if image == own] for own in range(scene.targets.batch_shape[0])]
    return replace(scene, targets=kept_targets(scene.targets, rows))


def _of_predictions(scene: Scene, priors: Tensor | None, rows: list[int]) -> Found:
    where, dim = torch.tensor(rows), len(scene.predictions.batch_shape)
    predictions = pytree.tree_map(lambda leaf: leaf.index_select(dim, where), scene.predictions)
    has_rows = priors is not None and len(priors) == scene.predictions.num_predictions
    return replace(scene, predictions=predictions), priors[where] if has_rows and priors is not None else priors
