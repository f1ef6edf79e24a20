"""The losses of ``example/recipes`` against plain loops, their parts by the checkers, and how long both are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from reference.recipes import boxes3d as loop

from benchmarks.recipe_scenes import (
    SCENES,
    truth_of_boxes3d,
    truth_of_frame,
    truth_of_keypoints,
    truth_of_tags,
)
from benchmarks.recipes import apart, scene_of, statements_of
from example.recipes import boxes3d, keypoints, point_sets, tags, tracking
from losses.testing import check_criterion
from matchers import Predictions, Targets
from matchers.testing import check_matcher
from ragged import combine_data


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The loops call many small operations, which threads make slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("sizes", [[3, 0, 2], [1, 5], [4], [0, 0], [0]], ids=str)
@pytest.mark.parametrize("name", SCENES)
def test_terms_and_gradients_are_those_of_the_loop(name: str, sizes: list[int]) -> None:
    scene = SCENES[name](sizes, torch.Generator().manual_seed(2))
    assert scene.recipe().keys() == scene.loop().keys()
    assert apart(scene) < 1e-5


@pytest.mark.parametrize("name", SCENES)
def test_two_samples_of_the_benchmark_are_those_of_the_loop(name: str) -> None:
    assert apart(scene_of(name, 2)) < 1e-5


def test_tracks_go_on_over_several_frames() -> None:
    scene = SCENES["tracking"]([3, 0, 1], torch.Generator().manual_seed(4), frames=4)
    assert apart(scene) < 1e-5


@pytest.mark.parametrize("name", SCENES)
def test_recipe_has_no_more_statements_than_the_loop(name: str) -> None:
    recipe, plain = statements_of(name)
    assert 0 < recipe <= plain


@pytest.mark.parametrize("sizes", [[3, 0, 2], [0, 0]], ids=str)
def test_denoising_queries_and_their_mask_are_those_of_the_loop(sizes: list[int]) -> None:
    truth = truth_of_boxes3d(sizes, torch.Generator().manual_seed(0))
    targets = boxes3d.collate(truth)
    torch.manual_seed(1)
    boxes, labels = boxes3d.denoising_queries(targets)
    torch.manual_seed(1)
    wanted_boxes, wanted_labels = loop.denoising_queries(truth)
    real = targets.mask.repeat(1, 2 * boxes3d.NUM_GROUPS)
    torch.testing.assert_close(boxes[real], wanted_boxes[real])
    assert torch.equal(labels[real], wanted_labels[real])
    assert torch.equal(boxes3d.attention_mask(targets, 7), loop.attention_mask(truth, 7))


# --- parts, checked as a user would check them ---------------------------------------------------------------------


def targets_of_boxes3d(sizes: list[int], generator: torch.Generator) -> Targets:
    return boxes3d.collate(truth_of_boxes3d(sizes, generator))


def targets_of_keypoints(sizes: list[int], generator: torch.Generator) -> Targets:
    return keypoints.collate(truth_of_keypoints(sizes, generator))


def targets_of_tracking(sizes: list[int], generator: torch.Generator) -> Targets:
    return tracking.collate(truth_of_frame(sizes, generator, number=1))  # ids from 100 on: the checkers add a 0


def targets_of_point_sets(sizes: list[int], generator: torch.Generator) -> Targets:
    return Targets(fields={"points": combine_data([torch.randn(size, 2, generator=generator) for size in sizes])})


def targets_of_tags(sizes: list[int], generator: torch.Generator) -> Targets:
    return tags.collate(truth_of_tags(sizes, generator))[0]


QUERIES = 8


def logits(targets: Targets, classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*targets.batch_shape, QUERIES, classes, generator=generator)


def near(targets: Targets, name: str, seed: int, length: int | None = None) -> torch.Tensor:
    """Values of predictions: the first are those of targets, nearly, and all others are anywhere."""
    batch = targets.parts[name]
    own = batch.with_padded_set_to(0.5).tensor.nan_to_num()[..., :QUERIES, :]
    own = own if length is None else batch.with_padded_set_to(0.5).tensor[:, :QUERIES, :, :length]
    generator = torch.Generator().manual_seed(seed + 1)
    found = torch.rand(*targets.batch_shape, QUERIES, *own.shape[2:], generator=generator) * 0.5 + 0.1
    found[:, : own.shape[1]] = own + 0.02 * torch.rand(own.shape, generator=generator)
    return found


def predicted_boxes3d(targets: Targets, seed: int) -> Predictions:
    return Predictions(logits(targets, 10, seed), fields={"boxes3d": near(targets, "boxes3d", seed)})


def predicted_keypoints(targets: Targets, seed: int) -> Predictions:
    places = near(targets, "keypoints", seed, length=2)
    return Predictions(logits(targets, 1, seed), near(targets, "boxes", seed), fields={"keypoints": places})


def predicted_tracking(targets: Targets, seed: int) -> Predictions:
    ids = torch.tensor([101, -1, 99, -1, 100, -1, -1, -1]).expand(*targets.batch_shape, QUERIES)
    return Predictions(logits(targets, 3, seed), near(targets, "boxes", seed), fields={"ids": ids})


def predicted_point_sets(targets: Targets, seed: int) -> Predictions:
    return Predictions(logits(targets, 1, seed), fields={"points": near(targets, "points", seed)})


def predicted_tags(targets: Targets, seed: int) -> Predictions:
    has_tag = logits(targets, 12, seed + 1)
    return Predictions(logits(targets, tags.NUM_TOKENS, seed), near(targets, "boxes", seed), fields={"tags": has_tag})


PARTS = {
    "boxes3d": (boxes3d.criterion, targets_of_boxes3d, predicted_boxes3d),
    "keypoints": (keypoints.criterion, targets_of_keypoints, predicted_keypoints),
    "tracking": (tracking.criterion, targets_of_tracking, predicted_tracking),
    "point_sets": (point_sets.criterion, targets_of_point_sets, predicted_point_sets),
    "tags": (tags.criterion, targets_of_tags, predicted_tags),
}


@pytest.mark.parametrize("name", PARTS)
def test_matcher_keeps_what_matchers_promise(name: str) -> None:
    criterion, make_targets, predict = PARTS[name]
    names = check_matcher(criterion.matcher, make_targets=make_targets, predict=predict, without=["compilation"])
    assert names[0] == "result" and "filler" in names


@pytest.mark.hunts
@pytest.mark.parametrize("name", PARTS)
def test_criterion_keeps_what_criteria_promise(name: str) -> None:
    criterion, make_targets, predict = PARTS[name]
    names = check_criterion(criterion, make_targets=make_targets, predict=predict, without=["compilation"])
    assert {"padding", "synchronisation", "images alone", "micro-batches"} <= set(names)
