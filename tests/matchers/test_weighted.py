"""Weighted sums of matchers: by hand, and with the costs of one or of each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from soft_cases import Case, assert_same, cases, check_compiled, check_independence, dense, make_case
from torch import nn

from matchers.by_cost.closest import ClosestPrediction, ClosestTarget
from matchers.by_cost.hungarian import Hungarian
from matchers.by_cost.softmin import SoftMin
from matchers.by_cost.weighted import WeightedSum
from matchers.costs.terms import detr_costs
from matchers.testing import make_scene
from matchers.transport.sinkhorn import BalancedSinkhorn, UnbalancedSinkhorn


def modules() -> list[nn.Module]:
    return [SoftMin(reg=0.3), BalancedSinkhorn(background_cost=0.8), ClosestTarget(background_cost=1.0)]


def by_hand(case: Case, matchers: list[nn.Module], factors: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    weights, background = 0, 0
    for matcher, factor in zip(matchers, factors, strict=True):
        matcher.terms, matcher.normalized = {"cost": case.cost}, None
        one = dense(matcher(case.predictions, case.targets))
        weights, background = weights + factor * one[0], background + factor * one[1]
    return weights, background


@pytest.mark.parametrize(
    ("weights", "normalize", "factors"),
    [
        (None, True, [1 / 3, 1 / 3, 1 / 3]),
        (None, False, [1, 1, 1]),
        ([1, 0, 3], True, [0.25, 0, 0.75]),
        ([1, 0, 3], False, [1, 0, 3]),
    ],
)
def test_is_the_sum_of_the_plans(weights: Any, normalize: bool, factors: list[float]) -> None:
    for sizes, count in [([5, 0, 1, 9], 7), ([0, 0], 3), ([1], 0)]:
        case = make_case(sizes, count, bad=0.1, ignored=0.2)
        result = case.match(WeightedSum, matching_modules=modules(), weights=weights, normalize=normalize)
        for mine, theirs in zip(dense(result), by_hand(case, modules(), factors), strict=True):
            torch.testing.assert_close(mine, theirs.to(mine))
        bad = [sum(not math.isfinite(cost) for row in rows for cost in row) for rows in case.tables()]
        assert result.num_invalid.tolist() == bad


def test_the_common_cost_is_computed_once() -> None:
    case, calls = make_case([3, 1], 4), []

    def cost(pairs: Any) -> torch.Tensor:
        calls.append(len(pairs))
        return case.cost(pairs)

    WeightedSum(modules(), cost=cost)(case.predictions, case.targets)
    assert calls == [4]


def test_each_can_have_its_own_cost() -> None:
    first, second = make_case([3, 1], 4, seed=1), make_case([3, 1], 4, seed=2)
    matchers = [SoftMin(cost=first.cost), ClosestPrediction(cost=second.cost)]
    result = WeightedSum(matchers, same_cost=False)(first.predictions, first.targets)
    parts = [dense(matcher(first.predictions, first.targets)) for matcher in matchers]
    for index, mine in enumerate(dense(result)):
        torch.testing.assert_close(mine, (parts[0][index] + parts[1][index]) / 2)


def test_costs_that_are_not_finite_count_though_one_matcher_has_none() -> None:
    """Those of the matcher that has most, whichever it is."""
    case, sound = make_case([3, 1], 4, bad=0.5), make_case([3, 1], 4)
    matchers = [SoftMin(cost=case.cost), SoftMin(cost=sound.cost)]
    wanted = matchers[0](case.predictions, case.targets).num_invalid
    assert wanted.sum() > 0
    for order in (matchers, matchers[::-1]):
        found = WeightedSum(order, same_cost=False)(case.predictions, case.targets)
        assert torch.equal(found.num_invalid, wanted)


@pytest.mark.skipif(not hasattr(Hungarian, "match_costs"), reason="Hungarian has no match_costs")
def test_shares_costs_with_hungarian() -> None:
    case = make_case([3, 0, 6], 5, bad=0.1, ignored=0.2)
    shared = case.match(WeightedSum, matching_modules=[Hungarian(), SoftMin()])
    apart = WeightedSum([Hungarian(case.cost), SoftMin(case.cost)], same_cost=False)(case.predictions, case.targets)
    assert_same(shared, apart, 1e-6)


def test_hungarian_with_its_own_cost() -> None:
    scene = make_scene([4, 0, 2], 6)
    result = WeightedSum([Hungarian(detr_costs()), ClosestTarget(detr_costs())], same_cost=False)(
        scene.predictions, scene.targets
    )
    assert torch.allclose(dense(result)[0].sum(1) + dense(result)[1], torch.ones(3, 6))


def test_sums_can_be_nested() -> None:
    case = make_case([3, 1], 4)
    inner = WeightedSum(modules()[:2])
    result = case.match(WeightedSum, matching_modules=[inner, modules()[2]])
    weights, _ = by_hand(case, modules(), [0.25, 0.25, 0.5])
    torch.testing.assert_close(dense(result)[0], weights)


@examples(15)
@given(case=cases())
def test_images_do_not_depend_on_each_other(case: Case) -> None:
    check_independence(case, WeightedSum, matching_modules=modules(), weights=[1, 2, 3])


@pytest.mark.graphs
def test_compiles_and_does_not_synchronise() -> None:
    case = make_case([4, 0, 2], 6, ignored=0.3, bad=0.1).padded(1, math.nan)
    matchers = [SoftMin(), UnbalancedSinkhorn(num_iter=3), ClosestTarget()]
    check_compiled(case, WeightedSum, matching_modules=matchers, weights=[1, 2, 3])


def test_its_matchers_are_its_children() -> None:
    assert len(list(WeightedSum(modules()).children())) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"matching_modules": []}, ValueError, "must have at least one matcher, got none"),
        ({"matching_modules": [SoftMin(), "x"]}, TypeError, r"matching_modules\[1\] must be a matcher, got str"),
        ({"matching_modules": [nn.Identity()]}, TypeError, r"matching_modules\[0\], a Identity, cannot use a common"),
        ({"matching_modules": [SoftMin()], "weights": [1, 2]}, ValueError, "one number for each of 1 matchers, got 2"),
        ({"matching_modules": [SoftMin()], "weights": [math.nan]}, ValueError, r"weights\[0\] must be finite"),
        ({"matching_modules": [SoftMin()], "weights": [-1]}, ValueError, "not be negative"),
        ({"matching_modules": [SoftMin()], "weights": [0]}, ValueError, "add up to more than 0"),
        (
            {"matching_modules": [SoftMin()], "same_cost": False, "cost": detr_costs()},
            ValueError,
            "with same_cost=False each matcher has its own cost, got cost for all",
        ),
        ({"matching_modules": [SoftMin()], "background_cost": 1.0}, TypeError, "background_cost"),
    ],
)
def test_bad_options(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        WeightedSum(**arguments)
