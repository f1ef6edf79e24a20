"""The smallest scene in which a criterion breaks a property."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis.errors import HypothesisException
from torch.utils import _pytree as pytree

from losses.testing.case import SIZES, CriterionCase
from losses.testing.properties.batches import MORE_SIZES
from losses.testing.properties.symmetries import CROWDED, inside
from losses.testing.properties.table import CRITERION_PROPERTIES, DECLARED
from losses.testing.roles import in_order, take
from matchers import Targets
from matchers.testing.changes.moves import MOVES
from matchers.testing.changes.rows import images_of, kept_targets
from matchers.testing.reporting.shrinking import Shrinker
from ragged.testing import PropertyViolation

Scene = tuple[Any, Targets]
_SIZES = (list(SIZES), *MORE_SIZES, [3, 6], [3, 1], [4], list(CROWDED))


def violation_of(name: str, case: CriterionCase) -> PropertyViolation | None:
    """What a property says of a criterion; None if it holds."""
    try:
        (CRITERION_PROPERTIES.get(name) or DECLARED[name])(case)
    except PropertyViolation as violation:
        return violation
    except HypothesisException:
        raise
    except Exception as error:
        raised = PropertyViolation(f"the criterion raises {type(error).__name__}: {error}")
        raised.__cause__ = error
        return raised
    return None


def smallest_scene(name: str, case: CriterionCase) -> tuple[Scene, PropertyViolation] | None:
    """The fewest images, targets and, of queries, predictions that suffice, and what is said of them.

    None if the property is broken by no single scene of ours.
    """

    def fails(scene: Scene) -> bool:
        try:
            return violation_of(name, replace(case, fixed=scene)) is not None
        except Exception:  # what is too small to be computed on shows nothing
            return False

    def scene_of(sizes: Sequence[int]) -> Scene:
        found = case.scene(sizes)
        return inside(case, *found) if name in MOVES else found

    scene = next((found for sizes in _SIZES if fails(found := scene_of(sizes))), None)
    if scene is None:
        return None
    shrinker = Shrinker(fails)
    first = scene
    images = shrinker.fewest(range(len(first[1].num_targets)), 1, lambda kept: _of_images(first, kept))
    second = _of_images(first, images)
    sizes = second[1].num_targets.tolist()
    every = [(image, place) for image, size in enumerate(sizes) for place in range(size)]
    kept = shrinker.fewest(every, 0, lambda rows: _of_targets(second, rows))
    third = _of_targets(second, kept) if len(kept) < len(every) else second
    if case.is_of_queries():
        third = _fewest_queries(shrinker, third)
    for simpler in (replace(third[1], weights=None), replace(third[1], weights=None, ignore=None)):
        third = (third[0], simpler) if fails((third[0], simpler)) else third
    shown = violation_of(name, replace(case, fixed=third))
    return None if shown is None else (third, shown)


def _fewest_queries(shrinker: Shrinker, scene: Scene) -> Scene:
    count = max(leaf.shape[1] for leaf in _tensors(scene[0]))
    rows = shrinker.fewest(range(count), 1, lambda kept: (in_order(scene[0], torch.tensor(kept)), scene[1]))
    return in_order(scene[0], torch.tensor(rows)), scene[1]


def _tensors(predictions: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(predictions)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim() >= 2]


def _of_images(scene: Scene, images: list[int]) -> Scene:
    return take(scene[0], images), images_of(scene[1], images)


def _of_targets(scene: Scene, kept: list[tuple[int, int]]) -> Scene:
    rows = [[place for image, place in kept if image == own] for own in range(len(scene[1].num_targets))]
    return scene[0], kept_targets(scene[1], rows)
