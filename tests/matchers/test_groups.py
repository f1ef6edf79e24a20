"""Groups of images: matched apart, and the same as together."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from soft_cases import Case, assert_same, cases, make_case

from matchers import BalancedSinkhorn, ClosestPrediction, ClosestTarget, SoftMin, UnbalancedSinkhorn, WeightedSum
from matchers.by_cost import groups
from matchers.pairs.problem import Problem

CASE = make_case([1, 12, 0, 5, 5, 0], 7, bad=0.1, ignored=0.2, batch_shape=(2, 3))
KINDS: dict[str, Any] = {
    "closest target": ClosestTarget,
    "closest prediction": ClosestPrediction,
    "softmin of targets": SoftMin,
    "softmin of predictions": partial(SoftMin, source="prediction"),
    "balanced": partial(BalancedSinkhorn, background_cost=1.0),
    "balanced, tolerance": partial(BalancedSinkhorn, background_cost=1.0, tolerance=1e-3),
    "unbalanced": UnbalancedSinkhorn,
    "sum": partial(WeightedSum, [SoftMin(), ClosestTarget(background_cost=1.0)]),
}


@pytest.mark.parametrize("kind", KINDS)
@given(case=cases())
@examples(15)
def test_an_image_at_a_time(kind: str, case: Case) -> None:
    for each in (case, CASE):
        together = each.match(KINDS[kind])
        with mock.patch.object(groups, "_PAIRS", 1):
            apart = each.match(KINDS[kind])
        assert_same(together, apart, tolerance=1e-5)
        assert torch.equal(together.num_targets, apart.num_targets)
        assert torch.equal(together.num_invalid, apart.num_invalid)
        residual = getattr(together, "residual", None)
        if residual is not None:
            torch.testing.assert_close(apart.residual, residual, atol=1e-4, rtol=1e-3)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 9), st.integers(1, 10_000))
@examples(60)
def test_groups_are_of_all_images_and_not_large(sizes: list[int], columns: int, most_pairs: int) -> None:
    case = make_case(sizes, columns)
    with mock.patch.object(groups, "_PAIRS", most_pairs):
        found = groups.groups_of(Problem.of(case.predictions, case.targets))
    assert sorted(torch.cat([group.images for group in found]).tolist()) == list(range(len(sizes)))
    for images, most in found:
        assert most == max(sizes[image] for image in images.tolist())
        assert len(images) == 1 or len(images) * most * columns <= most_pairs


def test_a_crowded_image_is_matched_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others are not padded to it."""
    case, shapes = make_case([2, 60, 1], 7), []

    class Watched(SoftMin):
        def match_costs(self, problem: Problem, cost: torch.Tensor) -> Any:
            shapes.append(tuple(cost.shape))
            return super().match_costs(problem, cost)

    monkeypatch.setattr(groups, "_PAIRS", 60 * 7)
    case.match(Watched)
    assert shapes == [(1, 60, 7), (2, 2, 7)]
