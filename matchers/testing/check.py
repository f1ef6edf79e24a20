"""What every matcher promises, checked for one in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from matchers.geometry.priors import grid_points
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.changes.plain_scenes import plain_scenes
from matchers.testing.changes.rows import with_weights
from matchers.testing.dense_scenes import SCENES, dense_scene
from matchers.testing.own_scenes import SIZES, MakeTargets, scenes_of
from matchers.testing.properties.smallest import smallest_scene, violation_of
from matchers.testing.properties.table import MATCHER_PROPERTIES, SYMMETRIES, reason_against
from matchers.testing.reporting.code import scene_as_code, without_code
from matchers.testing.reporting.report import Report, check_is_instance, check_without
from matchers.testing.scene import CANVAS, Scene
from matchers.testing.under_test import Matcher, UnderTest, parts_of
from ragged.testing import PropertyViolation

Reference = Callable[..., Any]


def check_matcher(
    matcher: Matcher,
    priors: Tensor | None = None,
    *,
    num_classes: int = 4,
    scenes: Iterable[Scene] | None = None,
    make_targets: MakeTargets | None = None,
    predict: Callable[[Targets, int], Predictions] | None = None,
    reference: Reference | None = None,
    without: Collection[str] = (),
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> Report:
    """Check all that a matcher of this package promises.

    Args:
        matcher: Called with ``Predictions``, ``Targets`` and, if there are any, ``priors``; gives an ``Assignment`` or
            a ``Plan``.
        priors: (P, ≥ 2), what the predictions belong to: boxes or points in an image of ``CANVAS`` pixels. None for a
            matcher of queries.
        num_classes: C of the predictions.
        scenes: Those to match; by default ``standard_scenes``: boxes huge, tiny, without area, the same twice, outside;
            ties; ignored targets; logits that saturate; NaN; images without targets, and with more than predictions.
            Symmetries are looked for in scenes of their own, without ties, and not at all if you give yours.
        make_targets, predict: For targets of your own, such as keypoints: the scenes are ``scenes_of(make_targets,
            predict)``.
        reference: Called as the matcher is, in plain loops perhaps; its results must be the same in the scenes without
            ties.
        without: Names of ``MATCHER_PROPERTIES`` that the matcher does not promise.
        rtol, atol: Tolerances for qualities and weights.

    Returns:
        The names of the properties that were checked. The attribute ``not_checked`` says which were not, and why.

    Raises:
        PropertyViolation: With the property, the image, the position, both values, and the smallest scene that shows
            it, as code. An exception in the matcher is reported as a violation, with the exception as its cause.
        TypeError: The matcher is a class, or ``without`` a string.

    >>> from matchers import Hungarian
    >>> check_matcher(Hungarian(), without=["compilation"])[:3]
    ('result', 'repeatable', 'randomness')
    """
    check_is_instance(matcher, "matcher", "check_matcher")
    check_without(without, MATCHER_PROPERTIES)
    _check_signature(matcher, priors)
    if make_targets is not None or predict is not None:
        if make_targets is None or predict is None or scenes is not None:
            raise ValueError("make_targets and predict go together, and make the scenes: give both, and no scenes")
        scenes = own = list(scenes_of(make_targets, predict).values())
        plain = [replace(own[0], targets=with_weights(own[0].targets))]
    else:
        plain = [] if scenes is not None else list(plain_scenes(priors, num_classes=num_classes).values())
    given = list(standard_scenes(priors, num_classes=num_classes).values() if scenes is None else scenes)
    under_test = UnderTest(matcher, priors, rtol, atol)
    skipped = dict.fromkeys(without, "without=")
    names = []
    for name in MATCHER_PROPERTIES:
        if name in without:
            continue
        reason = _reason(name, under_test, plain)
        if reason is not None:
            skipped[name] = reason
            continue
        for scene in _scenes_for(name, given, plain):
            _check(name, under_test, scene)
        names.append(name)
    if reference is not None:
        for scene in plain or given:
            _check_reference(under_test, reference, scene)
        names.append("reference")
    return Report(names, skipped)


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


def _reason(name: str, matcher: UnderTest, plain: list[Scene]) -> str | None:
    if name in SYMMETRIES and not plain:
        return "the scenes are yours, and may hold ties"
    return reason_against(name, matcher, plain[0]) if plain else None


def _scenes_for(name: str, given: list[Scene], plain: list[Scene]) -> list[Scene]:
    """Tracing takes seconds. The first scene has no flags, the last has ignored targets."""
    if name in SYMMETRIES:
        return plain
    traced = {"compilation": given[:1], "synchronisation": [given[0], given[-1]]}
    return traced.get(name, [*given, *plain] if name in ("result", "ignored") else given)


def _check(name: str, matcher: UnderTest, scene: Scene) -> None:
    first = violation_of(name, matcher, scene)
    if first is None:
        return
    priors = matcher.priors[0] if matcher.priors else None
    own = getattr(first, "scene", None)
    if own is not None:
        raise _with_scene(name, first, own, priors)
    if name != "compilation":
        scene, priors = smallest_scene(name, matcher, scene)
    found = violation_of(name, matcher.with_priors(priors), scene) or first
    raise _with_scene(name, found, scene, priors) from (found.__cause__ or first.__cause__)


def _check_reference(matcher: UnderTest, reference: Reference, scene: Scene) -> None:
    expected = parts_of(reference(scene.predictions, scene.targets, *matcher.priors))
    try:
        matcher.expect_same(matcher.first(scene), expected, "the matcher, then the reference")
    except PropertyViolation as violation:
        raise _with_scene("reference", violation, scene, matcher.priors[0] if matcher.priors else None) from None


def _with_scene(name: str, found: PropertyViolation, scene: Scene, priors: Tensor | None) -> PropertyViolation:
    values: dict[str, Any] = {"predictions": scene.predictions, "targets": scene.targets}
    if priors is not None:
        values["priors"] = priors
    scene_code = scene_as_code(f"matcher({', '.join(values)})", **values)
    advice = f'If the matcher does not promise this: without=["{name}"].\n' if name in MATCHER_PROPERTIES else ""
    return PropertyViolation(f'matcher, property "{name}": {without_code(str(found))}\n{advice}{scene_code}')


def _check_signature(matcher: Matcher, priors: Tensor | None) -> None:
    """Raise ``TypeError`` if the matcher cannot be called with predictions, targets and, if there are any, priors."""
    names = ["predictions", "targets", *([] if priors is None else ["priors"])]
    try:
        signature = inspect.signature(getattr(matcher, "forward", matcher))
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        raise TypeError(f"the matcher must take ({', '.join(names)}): {error}") from error
