"""What belongs to no target: predictions in an ignored region, and filler, even such that looks like targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.pairs.predictions import Predictions
from matchers.testing.changes.moves import Move, canvas_of, cover_box, moved_boxes, moved_targets
from matchers.testing.changes.rows import with_ignored_target, with_targets_as_filler
from matchers.testing.scene import CANVAS, Scene
from matchers.testing.under_test import Parts, UnderTest, place, unless_refused
from ragged import RaggedBatch, combine_data
from ragged.testing import PropertyViolation

_LARGE = Move(scale=16.0)


def region(matcher: UnderTest, scene: Scene) -> None:
    """An ignored target that covers each image: what has a target keeps it, and all other predictions are ignored."""
    own = scene.targets
    cover = cover_box(own, canvas_of(own, CANVAS))
    first = matcher.first(scene)
    found = matcher.parts(replace(scene, targets=with_ignored_target(own, cover)))
    claim = "an ignored target that covers each image, then without"
    if "weights" in found:
        _expect_no_background(matcher, scene, found, first, claim)
        return
    index, expected = found["target_index"], first["target_index"]
    back = torch.where(index >= 0, index - 1, index)
    wanted = torch.where(expected == BACKGROUND, IGNORED, expected)
    parts = {"target_index": back, "quality": found["quality"]}
    matcher.expect_same(parts, {"target_index": wanted, "quality": first["quality"]}, claim, scene)


def _expect_no_background(matcher: UnderTest, scene: Scene, found: Parts, first: Parts, claim: str) -> None:
    matcher.expect_same({"weights": found["weights"][..., 1:]}, {"weights": first["weights"]}, claim, scene)
    free = first["background"] > first["weights"].sum(-1)
    kept = free & (found["background"] > first["background"] / 2)
    if kept.any():
        at = tuple(kept.nonzero()[0].tolist())
        raise PropertyViolation(
            f"{claim}: background of {place(at)} is {found['background'][at].item():.6g}, expected 0: it lies in an "
            "ignored region, where nothing is background"
        )


def plausible_filler(matcher: UnderTest, scene: Scene) -> None:
    """Filler of the targets that looks like targets: predictions lie on it, and other images have such targets."""
    first = matcher.first(scene)
    boxes = scene.predictions.boxes if _is_in_format_of_targets(scene) else None
    for filled, what in with_targets_as_filler(scene.targets, boxes):
        found = matcher.parts(replace(scene, targets=filled))
        if "weights" in found:
            found["weights"] = found["weights"][..., : first["weights"].shape[-1]]
        matcher.expect_same(found, first, f"filler of the targets that holds {what}, then as it was", scene)


def _is_in_format_of_targets(scene: Scene) -> bool:
    own, boxes = scene.predictions, scene.predictions.boxes
    return boxes is not None and boxes.dim() == len(scene.targets.batch_shape) + 2 and own.box_format is None


def ragged_predictions(matcher: UnderTest, scene: Scene) -> None:
    """Images with different numbers of predictions: each has what it has alone, and filler is ignored."""
    count, images = scene.predictions.num_predictions, scene.targets.batch_shape[0]
    sizes = [max(count - step, 1) for step in (0, count // 2, count - 1, count // 3)]
    sizes = [sizes[image % 4] for image in range(images)]
    for given in (scene, replace(scene, predictions=_worse_than_zeros(scene.predictions))):
        _expect_as_alone(matcher, given, sizes)


def _worse_than_zeros(predictions: Predictions) -> Predictions:
    """Unlikely predictions far away: zeros, which filler holds, seem to be better ones."""
    boxes, logits = predictions.boxes, predictions.logits
    return replace(
        predictions,
        boxes=None if boxes is None else boxes + 8 * CANVAS,
        logits=None if logits is None else logits - 8,
    )


def _expect_as_alone(matcher: UnderTest, scene: Scene, sizes: list[int]) -> None:
    found = unless_refused(lambda: matcher.parts(replace(scene, predictions=ragged_of(scene.predictions, sizes))))
    if found is None:
        return  # it takes none, and says so
    for image, size in enumerate(sizes):
        alone = scene.take([image])
        alone = replace(alone, predictions=first_predictions(alone.predictions, size))
        expected = matcher.parts(alone)
        own = {name: part[image : image + 1, :size] for name, part in found.items()}
        claim = f"image {image} of {size} predictions beside larger ones, then alone"
        matcher.expect_same(own, expected, claim, alone)
        rest = {name: part[image, size:] for name, part in found.items()}
        _expect_ignored(rest, image, size)


def _expect_ignored(rest: Parts, image: int, size: int) -> None:
    wanted = {"target_index": IGNORED, "weights": 0, "background": 0}
    for name, value in wanted.items():
        part = rest.get(name, torch.empty(0))
        wrong = part != value
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            raise PropertyViolation(
                f"ragged predictions: {name} of {place((image, at[0] + size, *at[1:]))}, which is filler, is "
                f"{part[at].item():.6g}, expected {value}; predictions.mask tells predictions from filler"
            )


def ragged_of(predictions: Predictions, sizes: list[int]) -> Predictions:
    """The first predictions of each image, so many of them."""

    def cut(leaf: Tensor) -> RaggedBatch:
        return combine_data([each[:size] for each, size in zip(leaf, sizes, strict=True)])

    parts = {name: getattr(predictions, name) for name in ("logits", "boxes", "objectness")}
    known = {name: None if part is None else cut(part) for name, part in parts.items()}
    fields = {name: cut(field) for name, field in predictions.fields.items()}
    return Predictions(
        **known,
        box_format=predictions.box_format,
        normalized=predictions.normalized,
        fields=fields,
    )


def first_predictions(predictions: Predictions, size: int) -> Predictions:
    """Those of one batch dimension, of each image the first ones."""
    found: Predictions = pytree.tree_map(lambda leaf: leaf[:, :size], predictions)
    return found


def large_images(matcher: UnderTest, scene: Scene) -> None:
    """In images of 1024 pixels and more, float16 gives what float32 gives of the same numbers: areas are beyond it."""
    own, canvas = scene.targets, canvas_of(scene.targets, CANVAS)
    predictions, priors = scene.predictions, matcher.priors
    if predictions.boxes is not None:
        boxes = moved_boxes(predictions.boxes, _LARGE, own.box_format, own.normalized, canvas)
        predictions = replace(predictions, boxes=boxes)
    if priors:
        priors = (_LARGE.priors(priors[0], canvas[0]), *priors[1:])
    half = Scene(predictions, moved_targets(own, _LARGE, canvas)).cast(torch.float16)
    full = half.cast(torch.float32)
    found, expected = matcher.parts(half, priors=priors), matcher.parts(full, priors=priors)
    same_priors = UnderTest(matcher.matcher, priors[0] if priors else None, matcher.rtol, matcher.atol)
    claim = "images of 1024 pixels and more in torch.float16, then in torch.float32"
    same_priors.expect_same(found, expected, claim, full)


REGIONS: dict[str, Callable[[UnderTest, Scene], None]] = {
    "region": region,
    "plausible filler": plausible_filler,
    "ragged predictions": ragged_predictions,
    "large images": large_images,
}
"""By the names of the properties."""
