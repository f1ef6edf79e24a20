"""Symmetries of matchers: the same scene, written down in another way, has the same result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from matchers.testing.changes.moves import (
    FORMATS,
    MOVES,
    boxes_in,
    canvas_of,
    corner_box,
    moved_boxes,
    moved_targets,
    targets_in,
)
from matchers.testing.changes.rows import (
    class_order,
    in_target_order,
    renamed_columns,
    renamed_labels,
    reversed_order,
    with_ignored_target,
    with_other_ignored,
)
from matchers.testing.scene import CANVAS, Scene
from matchers.testing.under_test import REFUSALS, Parts, UnderTest
from ragged.testing import PropertyViolation


def target_order(matcher: UnderTest, scene: Scene) -> None:
    """The targets of each image in another order: the same targets get the same predictions."""
    order = reversed_order(scene.targets)
    found = matcher.parts(replace(scene, targets=in_target_order(scene.targets, order)))
    claim = "the targets of each image in reversed order, then as they were"
    matcher.expect_same(in_former_targets(found, order), matcher.first(scene), claim, scene)


def prediction_order(matcher: UnderTest, scene: Scene) -> None:
    """The predictions of all images in another order."""
    count = scene.predictions.num_predictions
    order = torch.arange(count).flip(0)
    found = matcher.parts(replace(scene, predictions=in_prediction_order(scene, order)))
    back = {name: part.index_select(1, order.argsort()) for name, part in found.items()}
    matcher.expect_same(back, matcher.first(scene), "the predictions in reversed order, then as they were", scene)


def in_prediction_order(scene: Scene, order: Tensor) -> Predictions:
    """The predictions ``order`` (P,) of all images."""
    dim = len(scene.targets.batch_shape)
    found: Predictions = pytree.tree_map(lambda leaf: leaf.index_select(dim, order), scene.predictions)
    return found


def classes(matcher: UnderTest, scene: Scene) -> None:
    """Classes with other numbers, in logits and labels alike."""
    order = class_order(scene.logits.shape[-1])
    predictions = replace(scene.predictions, logits=renamed_columns(scene.logits, order))
    found = matcher.parts(Scene(predictions, renamed_labels(scene.targets, order)))
    claim = f"classes renamed to {order.tolist()} in logits and labels, then as they were"
    matcher.expect_same(found, matcher.first(scene), claim, scene)


def formats(matcher: UnderTest, scene: Scene) -> None:
    """Boxes of predictions and targets in each format and unit.

    A cost may see boxes in the unit of the targets. Lengths of x and y then weigh differently in fractions of an image
    that is no square: such forms are compared with fractions, and fractions with pixels in squares.
    """
    expected = {False: matcher.first(scene)}
    if not matcher.priors:
        square = replace(scene, targets=replace(scene.targets, canvas_size=_squares(scene.targets)))
        for form in (("xyxy", True), ("cxcywh", False)):
            _expect_same_in_format(matcher, square, form, form, matcher.parts(square))
        expected[True] = matcher.parts(in_format(scene, ("xyxy", True), ("xyxy", True)))
    for of_predictions, of_targets in _PAIRS_OF_FORMS:
        known = expected.get(of_targets[1], expected[False])
        _expect_same_in_format(matcher, scene, of_predictions, of_targets, known)


def _squares(targets: Targets) -> Tensor:
    canvas = canvas_of(targets, CANVAS)
    return canvas.amax(-1, keepdim=True).expand_as(canvas)


def in_format(scene: Scene, of_predictions: tuple[str, bool], of_targets: tuple[str, bool]) -> Scene:
    """The scene with boxes in other formats and units; predictions that are like the targets do not say theirs."""
    own, source = scene.targets, (scene.targets.box_format, scene.targets.normalized)
    canvas = canvas_of(own, CANVAS)
    boxes = None if scene.predictions.boxes is None else boxes_in(scene.boxes, source, of_predictions, canvas)
    said: dict[str, Any] = {"box_format": of_predictions[0], "normalized": of_predictions[1]}
    if of_predictions == of_targets:  # which None stands for
        said = {"box_format": None, "normalized": None}
    return Scene(replace(scene.predictions, boxes=boxes, **said), targets_in(own, *of_targets, canvas))


def _expect_same_in_format(
    matcher: UnderTest, scene: Scene, of_predictions: tuple[str, bool], of_targets: tuple[str, bool], expected: Parts
) -> None:
    """In one unit of the priors at least: they may be in pixels always, or in the unit of the targets."""
    changed = in_format(scene, of_predictions, of_targets)
    unit = "fractions" if of_targets[1] and not matcher.priors else "pixels"
    words = f"predictions {_in_words(of_predictions)} and targets {_in_words(of_targets)}, then both xyxy in {unit}"
    given: list[tuple[Tensor, ...]] = [matcher.priors]
    if matcher.priors and changed.targets.normalized:
        size = canvas_of(changed.targets, CANVAS)[0].flip(-1).tile(2)
        in_pixels = matcher.priors[0]
        given.append((in_pixels / size[: in_pixels.shape[-1]],))
    problem = None
    for priors in given:
        try:
            found = matcher.parts(changed, priors=priors)
            return matcher.expect_same(found, expected, words, scene)
        except PropertyViolation as violation:
            if isinstance(violation.__cause__, REFUSALS):
                return None  # it does not take them, and says so
            problem = problem or violation
    assert problem is not None
    raise problem


_FORMS = [(name, unit) for unit in (False, True) for name in FORMATS]
_PAIRS_OF_FORMS = [
    *zip(_FORMS, [_FORMS[place] for place in (4, 5, 3, 1, 2, 0)], strict=True),
    (_FORMS[4], _FORMS[4]),
    (_FORMS[2], _FORMS[2]),
]


def _in_words(form: tuple[str, bool]) -> str:
    return f"{form[0]} in {'fractions' if form[1] else 'pixels'}"


def moved(name: str) -> Callable[[UnderTest, Scene], None]:
    """A property that one of ``MOVES`` changes nothing."""
    move, words = MOVES[name]

    def check(matcher: UnderTest, scene: Scene) -> None:
        own = scene.targets
        canvas = canvas_of(own, CANVAS)
        predictions, priors = scene.predictions, matcher.priors
        if predictions.boxes is not None:
            boxes = moved_boxes(predictions.boxes, move, own.box_format, own.normalized, canvas)
            predictions = replace(predictions, boxes=boxes)
        if priors:
            priors = (move.priors(priors[0], canvas[0]), *priors[1:])
        found = matcher.parts(Scene(predictions, moved_targets(own, move, canvas)), priors=priors)
        matcher.expect_same(found, matcher.first(scene), f"{words}, then as they were", scene)

    check.__doc__ = f"{words[0].upper()}{words[1:]}."
    return check


def repetition(matcher: UnderTest, scene: Scene) -> None:
    """Each image twice in the batch."""
    count = scene.targets.batch_shape[0]
    found = matcher.parts(scene.take([*range(count), *range(count)]))
    expected = matcher.first(scene)
    for half in (slice(None, count), slice(count, None)):
        part = {name: values[half] for name, values in found.items()}
        matcher.expect_same(part, expected, "each image twice in the batch, then once", scene)


def ignored_target(matcher: UnderTest, scene: Scene) -> None:
    """A target more that is ignored and far from all others; other labels and weights of ignored targets."""
    own = scene.targets
    box = None if own.boxes is None else corner_box(own, canvas_of(own, CANVAS))
    added = matcher.parts(replace(scene, targets=with_ignored_target(own, box)))
    first = matcher.first(scene)
    without = {name: _without_first(name, part) for name, part in added.items()}
    matcher.expect_same(without, first, "an ignored target more in front of each image, then without", scene)
    other = matcher.parts(replace(scene, targets=with_other_ignored(own)))
    matcher.expect_same(other, first, "other labels and weights of ignored targets, then as they were", scene)


def _without_first(name: str, part: Tensor) -> Tensor:
    if name == "target_index":
        return torch.where(part >= 0, part - 1, part)  # -1 where the ignored one was matched: another quality, then
    return part[..., 1:] if name == "weights" else part


def weights(matcher: UnderTest, scene: Scene) -> None:
    """Weights of targets decide nothing: they are for the loss, and a target of weight 0 is matched as others are."""
    given = scene.targets.weights
    if given is None:
        return
    first = matcher.first(scene)
    without = matcher.parts(replace(scene, targets=replace(scene.targets, weights=None)))
    matcher.expect_same(without, first, "targets without weights, then with weights", scene)
    zeros = given.apply(torch.zeros_like)
    found = matcher.parts(replace(scene, targets=replace(scene.targets, weights=zeros)))
    matcher.expect_same(found, first, "targets of weight 0, then of other weights", scene)


def in_former_targets(found: Parts, order: Tensor) -> Parts:
    """A result for targets of which the j-th was at ``order[:, j]``, as one for the targets as they were."""
    back = dict(found)
    if "target_index" in found:
        index = found["target_index"]
        if order.shape[-1]:
            back["target_index"] = torch.where(index >= 0, order.gather(-1, index.clamp(0, order.shape[-1] - 1)), index)
    if "weights" in found:
        where = order.unsqueeze(-2).expand_as(found["weights"])
        back["weights"] = torch.zeros_like(found["weights"]).scatter(-1, where, found["weights"])
    return back
