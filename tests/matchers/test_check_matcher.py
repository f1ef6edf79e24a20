"""``check_matcher`` accepts every matcher of ours, and says what is wrong with one that is not right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER, ON_THE_HOST
from effort import examples, mostly_graphs, mostly_hunts
from hypothesis import given
from torch import Tensor

from matchers import (
    Assignment,
    ClosestPrediction,
    Predictions,
    SimOTA,
    Targets,
    convert,
    denormalize,
    grid_points,
    iou,
    pairwise,
)
from matchers.testing import LAYOUTS, MATCHER_PROPERTIES, check_matcher, scenes, target_sources
from ragged.testing import PropertyViolation

TRACED = ("compilation",)
# They enlarge targets to a side in pixels.
SIDES_IN_PIXELS = {"yolov8": ["scale"], "one-to-one": ["scale"]}
# One of each kind; all others are hunts.
USUAL = {"hungarian", "closest_target", "balanced", "simota", "tood", "atss", "max_iou"}
# All others are compiled as a part of a criterion, or for themselves in their own tests.
COMPILED = mostly_graphs([name for name in EVERY_MATCHER if name not in ON_THE_HOST], usual=["tood"])


@pytest.mark.parametrize("name", mostly_hunts([*EVERY_MATCHER], usual=USUAL))
def test_every_matcher_keeps_its_promises(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    without = [*TRACED, *(["synchronisation"] if name in ON_THE_HOST else []), *SIDES_IN_PIXELS.get(name, [])]
    others = [] if priors is None else ["prediction order", "crowd", "ragged predictions"]
    names = check_matcher(matcher, priors, num_classes=3, without=without)
    assert names == tuple(prop for prop in MATCHER_PROPERTIES if prop not in (*without, *others))
    assert set(names.not_checked) == {*without, *others}


@pytest.mark.parametrize("name", COMPILED)
def test_every_matcher_compiles(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    others = [prop for prop in MATCHER_PROPERTIES if prop not in TRACED]
    assert check_matcher(matcher, priors, num_classes=3, without=others) == TRACED


def overlaps(predictions: Predictions, targets: Targets) -> Tensor:
    """(B, G, P), -1 where there is no target to match."""
    boxes = in_pixels(predictions, targets).float()
    table = pairwise(iou, targets.boxes_as("xyxy", normalized=False), boxes)
    return torch.where(targets.matchable.unsqueeze(-1), table, -1.0)


def in_pixels(predictions: Predictions, targets: Targets) -> Tensor:
    """Predicted boxes, xyxy."""
    boxes = convert(
        predictions.boxes.nan_to_num(0, 0, 0).detach(), predictions.box_format or targets.box_format, "xyxy"
    )
    is_normalized = targets.normalized if predictions.normalized is None else predictions.normalized
    return denormalize(boxes, targets.canvas_size.to(boxes)) if is_normalized else boxes


def greedy(predictions: Predictions, targets: Targets) -> Assignment:
    """A matcher that is right: each prediction goes to the target that it overlaps most, if it does by half."""
    return by_table(overlaps(predictions, targets), targets)


def by_table(table: Tensor, targets: Targets, threshold: Any = 0.5) -> Assignment:
    table = torch.nn.functional.pad(table, (0, 0, 0, 1), value=-1.0)  # one row more, for images without a slot
    quality, index = table.max(-2)
    index = torch.where(quality >= threshold, index, -1)
    quality = torch.where(index >= 0, quality, 0)
    count = targets.max_num_targets
    return Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=count, quality=quality)


def of_the_whole_batch(predictions: Predictions, targets: Targets) -> Assignment:
    table = overlaps(predictions, targets)
    return by_table(table, targets, table.relu().sum((-3, -2, -1)).unsqueeze(-1).unsqueeze(-1) / 9)


def of_filler(predictions: Predictions, targets: Targets) -> Assignment:
    """A zero in the filler does no harm, a box does."""
    lowest = targets.boxes.tensor.nan_to_num(-77, 0, 0).float().flatten(-2).sum(-1)
    return by_table(overlaps(predictions, targets), targets, 0.5 + 0.1 * (lowest % 3)[:, None])


def of_ignored(predictions: Predictions, targets: Targets) -> Assignment:
    return greedy(predictions, replace(targets, ignore=None))


def with_gradient(predictions: Predictions, targets: Targets) -> Assignment:
    result = greedy(predictions, targets)
    return replace(result, quality=result.quality * predictions.logits.nan_to_num(0, 0, 0).sigmoid().mean(-1))


def in_place(predictions: Predictions, targets: Targets) -> Assignment:
    predictions.logits.detach().zero_()
    return greedy(predictions, targets)


def not_finite(predictions: Predictions, targets: Targets) -> Assignment:
    result = greedy(predictions, targets)
    return replace(result, quality=result.quality / predictions.logits.detach().sum(-1).mul(0))


def random_order(predictions: Predictions, targets: Targets) -> Assignment:
    table = overlaps(predictions, targets)
    return by_table((table + torch.rand_like(table)) / 2, targets)


def with_a_look(predictions: Predictions, targets: Targets) -> Assignment:
    return by_table(overlaps(predictions, targets), targets, 0.5 if targets.num_targets.sum().item() else 0.6)


def without_layers(predictions: Predictions, targets: Targets) -> Assignment:
    """Takes the dimension of the layers for one of the images."""
    result = greedy(predictions, targets)
    if predictions.batch_shape == targets.batch_shape:
        return result
    return replace(result, target_index=result.target_index.flip(0), quality=result.quality.flip(0))


class Remembers:
    """Grows by what it saw."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, predictions: Predictions, targets: Targets) -> Assignment:
        self.calls += 1
        return by_table(overlaps(predictions, targets), targets, 0.4 * (self.calls % 2))


def in_half(predictions: Predictions, targets: Targets) -> Assignment:
    boxes = in_pixels(predictions, targets)
    table = pairwise(iou, targets.boxes_as("xyxy", normalized=False).to(boxes.dtype), boxes)
    quality = (boxes**2).sum(-1).unsqueeze(-2)  # which overflows
    table = torch.where(quality.isfinite(), table, 0)
    return by_table(torch.where(targets.matchable.unsqueeze(-1), table, -1.0).float(), targets)


BROKEN: dict[str, tuple[Callable[..., Any], str]] = {
    "no result": (lambda predictions, targets: predictions, "result is a Predictions, no Assignment or Plan"),
    "whole batch": (of_the_whole_batch, "independence.*target_index.*sample 0"),
    "filler": (of_filler, '^matcher, property "filler": filler '),
    "ignored": (of_ignored, "matches an ignored target"),
    "gradient": (with_gradient, "requires a gradient"),
    "in place": (in_place, "changed the predictions or the targets"),
    "not finite": (not_finite, "quality that is not finite"),
    "random": (random_order, "is another when the matcher is called again"),
    "remembers": (Remembers(), "is another when the matcher is called again"),
    "look at values": (with_a_look, "depends on data"),
    "layers": (without_layers, "of layer 0 is another beside a second layer"),
    "half": (in_half, "precision .*float16"),
}


def test_a_right_matcher_is_accepted() -> None:
    without = ["region", "ragged predictions"]  # it ignores no prediction
    assert check_matcher(greedy, without=without) == tuple(name for name in MATCHER_PROPERTIES if name not in without)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_matcher_is_found(name: str) -> None:
    matcher, message = BROKEN[name]
    with pytest.raises(PropertyViolation, match=message) as caught:
        check_matcher(matcher, without=[*TRACED, "region", "ragged predictions"])
    assert "Predictions(" in str(caught.value) or name == "look at values"


def test_unknown_properties_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown property 'speed'; there are result, repeatable"):
        check_matcher(ClosestPrediction(), without=["speed"])


@examples(10)
@given(scenes(max_targets=8, max_predictions=10, ties=False))
def test_drawn_scenes(scene: Any) -> None:
    traced = [*TRACED, "synchronisation"]
    assert "independence" in check_matcher(greedy, scenes=[scene], without=traced)


def test_priors_go_to_the_matcher() -> None:
    points = grid_points((64, 64), [16])
    assert check_matcher(SimOTA(), points, without=TRACED)
    with pytest.raises(TypeError):
        check_matcher(greedy, points)


@given(target_sources())
def test_targets_in_every_layout(drawn: Any) -> None:
    source, options, expected = drawn
    read = Targets.of(source, **options)
    assert read.box_format == expected.box_format
    assert read.num_targets.tolist() == expected.num_targets.tolist()
    for one, other in zip(read.to_dicts(), expected.to_dicts(), strict=True):
        assert torch.equal(one["labels"], other["labels"]) and torch.equal(one["boxes"], other["boxes"])


def test_layouts_are_those_that_are_read() -> None:
    assert list(LAYOUTS) == ["dicts", "lists", "flat", "padded dict", "padded tensor"]
