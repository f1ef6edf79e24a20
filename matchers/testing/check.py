"""What every matcher promises, checked for one in one line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments.assignment import Assignment, Plan
from matchers.assignments.parts import IGNORED
from matchers.geometry.priors import grid_points
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.dense_scenes import SCENES, dense_scene
from matchers.testing.own_scenes import SIZES, MakeTargets, scenes_of
from matchers.testing.scene import CANVAS, Scene
from ragged.testing import (
    PropertyViolation,
    as_code,
    assert_batch_equivariant,
    assert_compiles,
    assert_dtype_stable,
    assert_filler_invariant,
    assert_no_host_sync,
    assert_padding_invariant,
    assert_sample_independent,
)

Matcher = Callable[..., Assignment | Plan]


def check_matcher(
    matcher: Matcher,
    priors: Tensor | None = None,
    *,
    num_classes: int = 4,
    scenes: Iterable[Scene] | None = None,
    make_targets: MakeTargets | None = None,
    predict: Callable[[Targets, int], Predictions] | None = None,
    without: Collection[str] = (),
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> tuple[str, ...]:
    """Check all that a matcher of this package promises.

    Args:
        matcher: Called with ``Predictions``, ``Targets`` and, if there are any, ``priors``; gives an ``Assignment`` or
            a ``Plan``.
        priors: (P, ≥ 2), what the predictions belong to: boxes or points in an image of ``CANVAS`` pixels. None for a
            matcher of queries.
        num_classes: C of the predictions.
        scenes: Those to match; by default ``standard_scenes``: boxes huge, tiny, without area, the same twice, outside;
            ties; ignored targets; logits that saturate; NaN; images without targets, and with more than predictions.
        make_targets, predict: For targets of your own, such as keypoints: the scenes are ``scenes_of(make_targets,
            predict)``.
        without: Names of ``MATCHER_PROPERTIES`` that the matcher does not promise.
        rtol, atol: How far qualities and weights may differ where sums are made in another order.

    Returns:
        The names of the properties that were checked.

    Raises:
        PropertyViolation: With the property, the image, the position, both values, and the scene as code.

    >>> from matchers import Hungarian
    >>> check_matcher(Hungarian(), without=["compilation"])[:3]
    ('result', 'repeatable', 'ignored')
    """
    unknown = set(without) - MATCHER_PROPERTIES.keys()
    if unknown:
        raise ValueError(f"unknown property {min(unknown)!r}; there are {', '.join(MATCHER_PROPERTIES)}")
    if make_targets is not None or predict is not None:
        if make_targets is None or predict is None or scenes is not None:
            raise ValueError("make_targets and predict go together, and make the scenes: give both, and no scenes")
        scenes = scenes_of(make_targets, predict).values()
    given = list(standard_scenes(priors, num_classes=num_classes).values() if scenes is None else scenes)
    names = [name for name in MATCHER_PROPERTIES if name not in without]
    for name in names:
        # Tracing takes seconds. The first scene has no flags, the last has ignored targets.
        traced = {"compilation": given[:1], "synchronisation": [given[0], given[-1]]}
        for scene in traced.get(name, given):
            MATCHER_PROPERTIES[name](matcher, scene, () if priors is None else (priors,), rtol, atol)
    return tuple(names)


def standard_scenes(priors: Tensor | None = None, *, num_classes: int = 4) -> dict[str, Scene]:
    """The scenes that ``check_matcher`` runs over, by name."""
    points = grid_points((int(CANVAS), int(CANVAS)), [16])[:12] if priors is None else priors
    return {
        f"{name}, {sizes} targets": _on_canvas(dense_scene(sizes, points, number, num_classes=num_classes, **options))
        for number, (name, options) in enumerate(SCENES.items())
        for sizes in (SIZES if name in ("plain", "ignored") else SIZES[:1])
    }


def _on_canvas(scene: Scene) -> Scene:
    """The scene with targets that know the size of their images, for a matcher that computes on fractions."""
    size = torch.full((*scene.targets.batch_shape, 2), CANVAS)
    return replace(scene, targets=replace(scene.targets, canvas_size=size))


def _result(matcher: Matcher, scene: Scene, priors: Any, rtol: float, atol: float) -> None:
    """Shapes, ranges, and no gradient."""
    predictions = _with_gradient(scene.predictions)
    leaves = [leaf.detach() for leaf in _leaves((predictions, scene.targets))]
    before = [leaf.clone() for leaf in leaves]
    result = matcher(predictions, scene.targets, *priors)
    _expect(isinstance(result, (Assignment, Plan)), f"is a {type(result).__name__}, no Assignment or Plan", scene)
    shape = (*scene.predictions.batch_shape, scene.predictions.num_predictions)
    if isinstance(result, Assignment):
        index = result.target_index
        _expect(index.shape == shape, f"has target_index of shape {tuple(index.shape)}, expected {shape}", scene)
        _expect(result.quality.shape == shape, f"has quality of shape {tuple(result.quality.shape)}", scene)
        count = scene.targets.num_targets.unsqueeze(-1)
        _expect(bool(((index >= IGNORED) & (index < count)).all()), "has a target_index that is no target", scene)
        _expect(bool(result.quality.isfinite().all()), "has a quality that is not finite", scene)
    else:
        width = (*shape, scene.targets.max_num_targets)
        _expect(result.weights.shape == width, f"has weights of shape {tuple(result.weights.shape)}", scene)
        entries = result.weights.with_padded_set_to(0).tensor
        _expect(bool(((entries >= 0) & entries.isfinite()).all()), "has a weight that is negative or NaN", scene)
    needs = any(leaf.requires_grad for leaf in _leaves(result))
    _expect(not needs, "requires a gradient: matching is not differentiated", scene)
    same = all(torch.equal(now.nan_to_num(7), then.nan_to_num(7)) for now, then in zip(leaves, before, strict=True))
    _expect(same, "changed the predictions or the targets that it was given", scene)


def _repeatable(matcher: Matcher, scene: Scene, priors: Any, rtol: float, atol: float) -> None:
    """Twice the same, bit by bit."""
    first, second = (matcher(scene.predictions, scene.targets, *priors) for _ in range(2))
    same = all(torch.equal(a, b) for a, b in zip(_leaves(first), _leaves(second), strict=True))
    _expect(same, "is another when the matcher is called again", scene)


def _ignored(matcher: Matcher, scene: Scene, priors: Any, rtol: float, atol: float) -> None:
    """No prediction is matched with an ignored target, nor with filler."""
    result = matcher(scene.predictions, scene.targets, *priors)
    plan = result.plan() if isinstance(result, Assignment) else result
    dead = ~scene.targets.matchable.unsqueeze(-2)
    matched = (plan.weights.tensor != 0) & dead & plan.weights.aligned_mask
    _expect(not bool(matched.any()), "matches an ignored target", scene)


def _layers(matcher: Matcher, scene: Scene, priors: Any, rtol: float, atol: float) -> None:
    """Two layers of predictions in one call give what each gives in a call of its own."""
    if len(scene.predictions.batch_shape) != len(scene.targets.batch_shape):
        return
    other = scene.take(list(range(scene.predictions.batch_shape[-1]))[::-1]).predictions
    stacked = pytree.tree_map(lambda a, b: torch.stack([a, b]), scene.predictions, other)
    both = _leaves(matcher(stacked, scene.targets, *priors))
    for place, predictions in enumerate((scene.predictions, other)):
        alone = _leaves(matcher(predictions, scene.targets, *priors))
        for one, whole in zip(alone, both, strict=True):
            part = whole[place] if whole.dim() > one.dim() else whole
            same = part.shape == one.shape and torch.allclose(part, one, rtol=rtol, atol=atol, equal_nan=True)
            _expect(same, f"of layer {place} is another beside a second layer", scene)


def _by_kit(checker: Callable[..., None], exact: bool = False) -> Callable[..., None]:
    """A checker of operations, for the matcher as an operation on predictions and targets."""

    def check(matcher: Matcher, scene: Scene, priors: Any, rtol: float, atol: float) -> None:
        options = {} if exact else {"rtol": rtol, "atol": atol}
        scene = _one_layer(scene)
        arguments = (scene.predictions, scene.targets)
        if checker is assert_compiles:
            checker(matcher, *arguments, shared=priors, **options)
        else:  # matching is not differentiated: gradients of a matcher that forgets to detach are its own affair
            checker(lambda *given: matcher(*_detached(given)), *arguments, shared=priors, **options)

    return check


def _synchronisation(matcher: Matcher, scene: Scene, priors: Any, rtol: float, atol: float) -> None:
    assert_no_host_sync(matcher, scene.predictions, scene.targets, *priors)


MATCHER_PROPERTIES: Mapping[str, Callable[..., None]] = {
    "result": _result,
    "repeatable": _repeatable,
    "ignored": _ignored,
    "layers": _layers,
    "filler": _by_kit(assert_filler_invariant, exact=True),
    "padding": _by_kit(assert_padding_invariant),
    "order": _by_kit(assert_batch_equivariant),
    "independence": _by_kit(assert_sample_independent),
    "precision": _by_kit(assert_dtype_stable),
    "synchronisation": _synchronisation,
    "compilation": _by_kit(assert_compiles),
}
"""What ``check_matcher`` checks, by the names that its ``without`` takes."""


def _one_layer(scene: Scene) -> Scene:
    """Without the batch dimensions that only predictions have."""
    extra = len(scene.predictions.batch_shape) - len(scene.targets.batch_shape)
    if not extra:
        return scene
    first: Predictions = pytree.tree_map(lambda leaf: leaf[(0,) * extra], scene.predictions)
    return Scene(first, scene.targets)


def _with_gradient(predictions: Predictions) -> Predictions:
    return pytree.tree_map(_leaf_with_gradient, predictions)


def _leaf_with_gradient(leaf: Tensor) -> Tensor:
    return leaf.detach().clone().requires_grad_(leaf.is_floating_point())


def _detached(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _expect(ok: bool, problem: str, scene: Scene) -> None:
    if not ok:
        given = as_code((scene.predictions, scene.targets))
        raise PropertyViolation(f"matcher: the result {problem}\nReproduce with\n    predictions, targets = {given}")
