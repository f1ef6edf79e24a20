"""Softmax of the costs over predictions or targets against plain floats."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from reference import transport as reference
from soft_cases import Case, assert_agrees, assert_same, cases, check_compiled, check_independence, dense, make_case

from matchers.by_cost.softmin import SoftMin
from matchers.costs.terms import detr_costs
from matchers.targets.targets import Targets
from matchers.testing import make_scene

SOURCES = ["target", "prediction"]


def check(case: Case, **options: Any) -> Any:
    matcher = SoftMin(cost=case.cost, **options)
    result = matcher(case.predictions, case.targets)
    count = case.costs.shape[2]
    expected = [
        reference.softmin(
            rows,
            count,
            source=matcher.source,
            reg=matcher.reg,
            background_cost=matcher.background_cost if matcher.background else None,
            background_weight=matcher.background_weight,
        )
        if count
        else ([[] for _ in rows], [])
        for rows in case.tables()
    ]
    assert_agrees(case, result, expected, 1e-5)
    return result


@pytest.mark.parametrize(
    ("source", "background", "weight", "reg"),
    list(itertools.product(SOURCES, [True, False], [True, False], [1.0, 0.05, 1e-4])),
)
def test_agrees_with_plain_floats(source: str, background: bool, weight: bool, reg: float) -> None:
    options = {"source": source, "background": background, "background_weight": weight, "reg": reg}
    for sizes, count in [([5, 0, 1, 9], 9), ([3, 7], 4), ([0, 0], 3), ([2, 1], 1), ([1], 0), ([], 4)]:
        # Exact in float32, also in units of a small regularisation.
        check(make_case(sizes, count, steps=4), background_cost=0.75, **options)


@pytest.mark.parametrize("source", SOURCES)
@examples(40)
@given(case=cases())
def test_agrees_on_nasty_cases(source: str, case: Case) -> None:
    check(case, source=source, background_cost=0.8, reg=0.3)
    check(case, source=source, background=False)


@examples(30)
@given(case=cases())
def test_each_source_gives_one(case: Case) -> None:
    weights, background = dense(case.match(SoftMin, source="prediction"))
    assert torch.allclose(weights.sum(1) + background, torch.ones_like(background), atol=1e-5)
    weights, background = dense(case.match(SoftMin, source="target"))
    for n, rows in enumerate(case.tables()):
        good = sum(any(map(math.isfinite, row)) for row in rows)
        assert weights[n].sum().item() == pytest.approx(good, abs=1e-4)
        left = max(case.costs.shape[2] - len(rows), 0)
        assert background[n].sum().item() == pytest.approx(left, abs=1e-4)


@pytest.mark.parametrize("source", SOURCES)
@examples(20)
@given(case=cases())
def test_images_do_not_depend_on_each_other(source: str, case: Case) -> None:
    check_independence(case, SoftMin, source=source, reg=0.3)


@pytest.mark.parametrize("source", SOURCES)
def test_bad_costs_have_no_weight_at_all(source: str) -> None:
    case = make_case([3], 5)
    case.costs[0, :, 2], case.costs[0, 1] = math.nan, -math.inf
    result = case.match(SoftMin, source=source)
    weights, background = dense(result)
    assert not weights[0, :, 2].any() and not weights[0, 1].any() and background.isfinite().all()
    assert result.num_invalid.tolist() == [7]


def test_background_is_no_duty_in_ignored_regions() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [20, 20, 30, 30]])
    targets = Targets.of([{"boxes": boxes, "labels": torch.zeros(2).long(), "ignore": torch.tensor([False, True])}])
    cost = {"far": lambda pairs: (pairs.gt.x1 - pairs.predicted.x1).abs()}
    weights, background = dense(SoftMin(cost)({"pred_boxes": boxes[None]}, targets))
    assert background[0, 0] > 0 and background[0, 1] == 0 and not weights[0, 1].any()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(source: str, dtype: torch.dtype) -> None:
    scene = make_scene([3, 0, 6], 8, steps=8).cast(dtype)
    matcher = SoftMin(detr_costs(), source=source)
    half, full = (matcher(each.predictions, each.targets) for each in (scene, scene.cast(torch.float32)))
    assert half.weights.tensor.dtype == torch.float32
    assert_same(half, full, 1e-5)


@pytest.mark.graphs
@pytest.mark.parametrize("source", SOURCES)
def test_compiles_and_does_not_synchronise(source: str) -> None:
    check_compiled(make_case([4, 0, 2], 6, ignored=0.3, bad=0.1).padded(1, math.nan), SoftMin, source=source)
    check_compiled(make_case([0, 0], 3), SoftMin, source=source, background=False)


@pytest.mark.parametrize("source", SOURCES)
def test_several_batch_dims(source: str) -> None:
    case = make_case([4, 0, 2, 1, 3, 0], 5, batch_shape=(2, 3))
    flat = Case(case.costs, case.sizes, case.ignore, (6,))
    assert case.match(SoftMin, source=source).background.shape == (2, 3, 5)
    assert_same(case.match(SoftMin, source=source), flat.match(SoftMin, source=source), 0)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="source must be 'target' or 'prediction', got 'pred'"):
        SoftMin(source="pred")
    with pytest.raises(ValueError, match="reg must be finite and above 0, got 0"):
        SoftMin(reg=0)
    with pytest.raises(TypeError, match="individual"):
        SoftMin(individual=True)
