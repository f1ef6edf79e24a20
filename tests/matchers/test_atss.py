"""ATSS against a loop over targets and levels, and its rules one by one."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from reference import dense as reference

from matchers import ATSS, Predictions, read_targets


@pytest.mark.parametrize("scene", reference.FINITE_SCENES)
@pytest.mark.parametrize("options", [{}, {"topk": 1}, {"topk": 3, "min_center_margin": 0.0}, {"topk": 100}], ids=str)
@pytest.mark.parametrize("seed", [3, 4])
def test_against_a_loop(scene: str, options: dict[str, Any], seed: int) -> None:
    priors, levels = reference.anchors(), reference.level_sizes()
    made = reference.dense_scene([6, 0, 1, 20], priors, seed=seed, **reference.FINITE_SCENES[scene])
    images = reference.pictures(made, priors, levels)
    result = ATSS(**options)(made.predictions, made.targets, priors, level_sizes=levels)
    reference.compare(result, images, reference.atss, unclear=0.02, **options)


@pytest.mark.parametrize("strides", [(8,), (16, 32), (8, 16, 32), (4, 8, 16, 32)])
def test_levels(strides: tuple[int, ...]) -> None:
    priors, levels = reference.anchors(strides), reference.level_sizes(strides)
    made = reference.dense_scene([10, 0, 3], priors, seed=5)
    for level_sizes in (levels, tuple(levels), [0, *levels], [levels[0], 0, *levels[1:]]):
        result = ATSS()(made.predictions, made.targets, priors, level_sizes=level_sizes)
        reference.compare(result, reference.pictures(made, priors, levels), reference.atss)
    together = ATSS()(made.predictions, made.targets, priors)
    reference.compare(together, reference.pictures(made, priors), reference.atss)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 10])
@pytest.mark.parametrize("sizes", [[0], [1], [0, 0], [60], [5, 0, 60]])
def test_few_priors(count: int, sizes: list[int]) -> None:
    priors = reference.anchors(count=count)
    made = reference.dense_scene(sizes, priors, seed=5, ignored=0.2)
    for predictions in (None, made.predictions):
        result = ATSS()(predictions, made.targets, priors)
        reference.compare(result, reference.pictures(made, priors), reference.atss)


@pytest.mark.parametrize("layers", [(), (2,), (2, 3)])
def test_priors_of_each_image(layers: tuple[int, ...]) -> None:
    made = reference.dense_scene([6, 0, 9], reference.anchors(), seed=7, layers=layers)
    priors = torch.stack([reference.anchors() + 3 * i for i in range(3)])
    levels = reference.level_sizes()
    result = ATSS()(made.predictions, made.targets, priors, level_sizes=levels)
    assert result.target_index.shape == (*layers, 3, 84)
    reference.compare(result, reference.pictures(made, priors, levels), reference.atss)
    if not layers:
        alone = ATSS()(None, made.targets, priors, level_sizes=levels)
        assert torch.equal(alone.target_index, result.target_index)


def one(*boxes: Any) -> list[dict[str, torch.Tensor]]:
    return [{"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.zeros(len(boxes), dtype=torch.int64)}]


def test_a_single_candidate_deviates_from_nothing() -> None:
    priors = torch.tensor([[0.0, 0, 8, 8], [8.0, 0, 16, 8]])
    result = ATSS(topk=1)(None, one([9.0, 1.0, 15.0, 7.0]), priors)
    assert result.target_index.tolist() == [[-1, 0]]
    result = ATSS()(None, one([1.0, 1.0, 7.0, 7.0]), priors[:1])
    assert result.target_index.tolist() == [[0]]


def test_equally_near_priors_are_taken_in_order() -> None:
    """Four corners around the centre, of which two fit into topk; a bad one far away sets the threshold."""
    priors = torch.tensor([[8.0, 8, 16, 16], [0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16]])
    assert ATSS(topk=2)(None, one([0.0, 0.0, 16.0, 16.0]), priors).target_index.tolist() == [[0, 0, -1, -1]]
    assert ATSS(topk=3)(None, one([0.0, 0.0, 16.0, 16.0]), priors).target_index.tolist() == [[0, 0, 0, -1]]


def test_twins_and_margins() -> None:
    priors = torch.tensor([[0.0, 0, 8, 8]])
    box = [0.0, 0, 8, 8]
    assert ATSS()(None, one(box, box), priors).target_index.tolist() == [[0]]
    assert ATSS()(None, one([4.0, 0, 12, 8]), priors).target_index.tolist() == [[-1]]  # the centre is on the edge
    assert ATSS()(None, one([3.5, 0, 12, 8]), priors).target_index.tolist() == [[0]]
    assert ATSS(min_center_margin=0.6)(None, one([3.5, 0, 12, 8]), priors).target_index.tolist() == [[-1]]


def test_pairs_of_a_target_on_all_levels() -> None:
    """So many candidates from each level: a target may have more pairs than there are candidates on one."""
    box = [0.0, 0, 16, 16]
    priors, other = torch.tensor([box]).expand(3, 4), torch.tensor([[40.0, 40, 48, 48]])
    result = ATSS(topk=1)(None, one(box), torch.cat([priors, other]), level_sizes=[1, 1, 2])
    assert result.target_index.tolist() == [[0, 0, 0, -1]]
    gt, pred = result.pairs()
    assert gt.tensor.tolist() == [[0, 0, 0]] and pred.tensor.tolist() == [[0, 1, 2]]


def test_a_target_far_away_gets_nothing() -> None:
    for box in ([500.0, 500, 600, 600], [1e6, 1e6, 2e6, 2e6], [9.0, 9, 9, 9], [-1e30, -1e30, -1e29, -1e29]):
        result = ATSS()(None, one(box), reference.anchors(), level_sizes=reference.level_sizes())
        assert (result.target_index == -1).all()


def test_predictions_are_not_read() -> None:
    priors = reference.anchors()
    made = reference.dense_scene([6, 0, 9], priors, seed=7)
    boxes = torch.full_like(made.predictions.boxes, math.nan)
    expected = ATSS()(None, made.targets, priors)
    result = ATSS()(Predictions(boxes=boxes), made.targets, priors)
    assert torch.equal(result.target_index, expected.target_index)
    assert torch.equal(result.quality, expected.quality)
    assert (result.num_invalid == 0).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_priors_must_be_finite(value: float) -> None:
    priors = torch.tensor([[0.0, 0, 8, 8], [8.0, 0, 16, value], [0.0, 0, 4, 4]])
    with pytest.raises(ValueError, match=r"priors must be finite, got \[8.0, 0.0, 16.0, (nan|inf)\] at position 1"):
        ATSS()(None, one([0.0, 0, 8, 8]), priors)


def test_normalised_targets() -> None:
    priors = reference.anchors()
    made = reference.dense_scene([5, 0, 3], priors, seed=9)
    expected = ATSS()(None, made.targets, priors).target_index
    other = made.in_format(predictions="xyxy", targets="xywh", normalized=True)
    assert torch.equal(ATSS()(None, other.targets, priors).target_index, expected)
    assert torch.equal(ATSS()(other.predictions, other.targets, priors).target_index, expected)
    image = {"boxes": torch.tensor([[0.1, 0.1, 0.2, 0.2]]), "labels": torch.tensor([0])}
    with pytest.raises(ValueError, match=r"boxes are fractions of the image, but pixels are needed: .*canvas_size"):
        ATSS()(None, read_targets([image], normalized=True), priors)


def test_bad_arguments() -> None:
    priors = reference.anchors()
    made = reference.dense_scene([5, 0, 3], priors, seed=9)
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        ATSS(topk=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'k'"):
        ATSS(k=9)
    with pytest.raises(ValueError, match=r"ATSS needs priors: anchors \(P, 4\) or \(\*batch, P, 4\), xyxy in pixels"):
        ATSS()(made.predictions, made.targets)
    with pytest.raises(ValueError, match="there are neither predictions nor priors"):
        ATSS()(None, made.targets)
    with pytest.raises(ValueError, match=r"level_sizes \[64, 16\] add up to 80, but there are 84 priors"):
        ATSS()(None, made.targets, priors, level_sizes=[64, 16])
    with pytest.raises(ValueError, match=r"priors must have shape \(84, 4\) or \(3, 84, 4\), got \(80, 4\)"):
        ATSS()(made.predictions, made.targets, priors[4:])


def test_negative_level_sizes() -> None:
    priors = reference.anchors()
    made = reference.dense_scene([5], priors, seed=9)
    with pytest.raises(ValueError, match="level_sizes"):
        ATSS()(None, made.targets, priors, level_sizes=[-4, 88])


def test_no_warnings_without_targets() -> None:
    priors = reference.anchors()
    made = reference.dense_scene([0, 0], priors)
    warns_each_time = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ATSS()(None, made.targets, priors)
    finally:
        torch.set_warn_always(warns_each_time)
