"""Cheapest partners against plain loops: ties, thresholds, costs that are not finite."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from reference import transport as reference
from soft_cases import Case, assert_agrees, assert_same, cases, check_compiled, check_independence, dense, make_case

from matchers.assignments.assignment import Assignment, Plan
from matchers.by_cost.closest import ClosestPrediction, ClosestTarget, Min
from matchers.costs.terms import detr_costs
from matchers.targets.targets import Targets
from matchers.testing import make_scene

KINDS = [ClosestPrediction, ClosestTarget]
SHAPES = [([5, 0, 1, 9], 9), ([3, 7], 4), ([0, 0], 3), ([2, 1], 1), ([1], 0), ([], 4)]


def check_prediction(case: Case, **options: Any) -> None:
    matcher = ClosestPrediction(cost=case.cost, **options)
    result = matcher(case.predictions, case.targets)
    assert isinstance(result, Plan)
    expected = [
        reference.closest_prediction(
            rows, case.costs.shape[2], threshold=matcher.threshold, background=matcher.background
        )
        for rows in case.tables()
    ]
    assert_agrees(case, result, expected, 0)


def check_target(case: Case, **options: Any) -> None:
    matcher = ClosestTarget(cost=case.cost, **options)
    result = matcher(case.predictions, case.targets)
    assert isinstance(result, Assignment)
    limit = matcher.background_cost if matcher.background else None
    found = result.target_index.reshape(-1, case.costs.shape[2]) if case.costs.numel() else None
    for n, rows in enumerate(case.tables()):
        live = [g for g in range(int(case.sizes[n])) if not case.ignore[n, g]]
        wanted = reference.closest_target(rows, case.costs.shape[2], background_cost=limit)
        wanted = [live[g] if g >= 0 else -1 for g in wanted]
        assert (result.target_index[n] if found is None else found[n]).tolist() == wanted
    assert torch.equal(result.quality, (result.target_index >= 0).float())


@pytest.mark.parametrize("steps", [None, 4])
def test_agrees_with_plain_loops(steps: int | None) -> None:
    for sizes, count in SHAPES:
        case = make_case(sizes, count, steps=steps)
        for background in (True, False):
            check_prediction(case, background=background)
            check_prediction(case, background=background, threshold=0.5)
            check_target(case, background=background)
            check_target(case, background=background, background_cost=1.5)


@examples(60)
@given(case=cases())
def test_agrees_on_nasty_cases(case: Case) -> None:
    check_prediction(case)
    check_prediction(case, threshold=0.0, background=False)
    check_target(case, background_cost=0.0)
    check_target(case, background=False)


@pytest.mark.parametrize("kind", KINDS)
@examples(20)
@given(case=cases())
def test_images_do_not_depend_on_each_other(kind: Any, case: Case) -> None:
    check_independence(case, kind)


def test_ties_go_to_the_first_and_to_the_target_before_the_background() -> None:
    case = Case(torch.zeros(1, 3, 4), torch.tensor([3]), torch.zeros(1, 3, dtype=torch.bool), (1,))
    assert case.match(ClosestTarget, background_cost=0.0).target_index.tolist() == [[0, 0, 0, 0]]
    assert dense(case.match(ClosestPrediction))[0][0].tolist() == [[1, 0, 0, 0]] * 3


def test_the_threshold_keeps_what_is_cheap() -> None:
    case = make_case([2], 3)
    case.costs[0] = torch.tensor([[0.0, 1, 2], [0.75, 0.5, 2]])
    assert dense(case.match(ClosestPrediction, threshold=0.0))[0][0].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert dense(case.match(ClosestPrediction, threshold=0.5))[0][0].tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_regions(kind: Any) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [20, 20, 30, 30]])
    predicted = torch.cat([boxes, torch.tensor([[50.0, 50, 60, 60]])])[None]
    targets = Targets.of([{"boxes": boxes, "labels": torch.zeros(2).long(), "ignore": torch.tensor([False, True])}])
    cost = {"far": lambda pairs: (pairs.gt.x1 - pairs.predicted.x1).abs()}
    result = kind(cost, background_cost=5.0)({"pred_boxes": predicted}, targets)
    assignment = result if isinstance(result, Assignment) else result.assignment()
    assert assignment.target_index.tolist() == [[0, -2, -1]]
    # A prediction of a real target is that target's, also in an ignored region.
    overlapping = Targets.of(
        [{"boxes": boxes[[0, 0]], "labels": torch.zeros(2).long(), "ignore": torch.tensor([True, False])}]
    )
    result = kind(cost, background_cost=5.0)({"pred_boxes": predicted}, overlapping)
    assignment = result if isinstance(result, Assignment) else result.assignment()
    assert assignment.target_index.tolist() == [[1, -1, -1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_makes_the_same_decisions(kind: Any, dtype: torch.dtype) -> None:
    scene = make_scene([3, 0, 6], 8, steps=8).cast(dtype)
    matcher = kind(detr_costs())
    assert_same(*(matcher(each.predictions, each.targets) for each in (scene, scene.cast(torch.float32))), 0)


@pytest.mark.graphs
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_and_does_not_synchronise(kind: Any) -> None:
    check_compiled(make_case([4, 0, 2], 6, ignored=0.3, bad=0.1).padded(1, math.nan), kind)
    check_compiled(make_case([0, 0], 3), kind, background=False)


@pytest.mark.parametrize("kind", KINDS)
def test_several_batch_dims(kind: Any) -> None:
    case = make_case([4, 0, 2, 1, 3, 0], 5, batch_shape=(2, 3))
    flat = Case(case.costs, case.sizes, case.ignore, (6,))
    assert case.match(kind).num_invalid.shape == (2, 3)
    assert_same(case.match(kind), flat.match(kind), 0)


def test_min_is_either_of_them() -> None:
    assert type(Min()) is type(Min(source="target", threshold=1.0)) is ClosestPrediction
    assert type(Min(source="prediction", background_cost=1.0)) is ClosestTarget
    with pytest.raises(ValueError, match="source must be 'target' or 'prediction', got 'both'"):
        Min(source="both")
    with pytest.raises(ValueError, match="threshold is for source='target'; predictions have background_cost, got 1.0"):
        Min(source="prediction", threshold=1.0)


def test_bad_options() -> None:
    with pytest.raises(TypeError, match="threshold must be a number, got str"):
        ClosestPrediction(threshold="low")
    with pytest.raises(TypeError, match="threshold"):
        ClosestTarget(threshold=0.5)
    with pytest.raises(TypeError, match="individual"):
        ClosestPrediction(individual=True)
    with pytest.raises(ValueError, match="background_cost must be finite, got inf"):
        ClosestTarget(background_cost=math.inf)
