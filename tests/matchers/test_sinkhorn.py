"""Optimal transport of whole batches against plain iterations of one image, and what its marginals are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from reference import transport as reference
from soft_cases import Case, assert_agrees, assert_same, cases, check_compiled, check_independence, dense, make_case

from matchers.costs.terms import detr_costs
from matchers.targets.targets import Targets
from matchers.testing import make_scene
from matchers.transport.sinkhorn import BalancedSinkhorn, UnbalancedSinkhorn
from matchers.transport.transport import Iteration, Transport

KINDS = [BalancedSinkhorn, UnbalancedSinkhorn]


def expected(case: Case, matcher: Any) -> list[Any]:
    count = case.costs.shape[2]
    reg = matcher.regularization(count)
    powers = (1.0, 1.0)
    if isinstance(matcher, UnbalancedSinkhorn):
        powers = tuple(strength / (strength + reg) for strength in (matcher.reg_pred, matcher.reg_target))
    return [
        reference.sinkhorn(
            rows,
            count,
            reg=reg,
            count=matcher.num_iter,
            background_cost=matcher.background_cost if matcher.background else None,
            normalize=matcher.normalize_cost_matrix,
            powers=powers,
            tolerance=matcher.tolerance,
        )
        if count
        else ([[] for _ in rows], [])
        for rows in case.tables()
    ]


def check(case: Case, kind: Any, tolerance: float = 3e-4, **options: Any) -> Any:
    matcher = kind(cost=case.cost, **options)
    result = matcher(case.predictions, case.targets)
    assert_agrees(case, result, expected(case, matcher), tolerance)
    return result


@pytest.mark.parametrize(("kind", "count"), [(BalancedSinkhorn, 20), (UnbalancedSinkhorn, 70)])
def test_number_of_iterations(kind: Any, count: int) -> None:
    """So many by default: with a small regularisation, one less gives another plan."""
    case = make_case([5, 2], 9)
    usual, same, fewer = (
        dense(kind(cost=case.cost, reg=0.005, **given)(case.predictions, case.targets))
        for given in ({}, {"num_iter": count}, {"num_iter": count - 1})
    )
    assert torch.equal(usual[0], same[0]) and not torch.equal(usual[0], fewer[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"background": False},
        {"background_cost": 0.3},
        {"normalize_cost_matrix": False, "background_cost": 1.0},
        {"reg": 0.5},
        {"reg_dimless": 0.5, "num_iter": 3},
        {"num_iter": 1},
    ],
)
def test_agrees_with_plain_iterations(kind: Any, options: dict[str, Any]) -> None:
    for sizes, count in [([5, 0, 1, 9], 9), ([3, 7], 4), ([0, 0], 3), ([2, 1], 1), ([1], 0), ([], 4)]:
        check(make_case(sizes, count), kind, **options)


@pytest.mark.parametrize("kind", KINDS)
@examples(40)
@given(case=cases())
def test_agrees_on_nasty_cases(kind: Any, case: Case) -> None:
    check(case, kind, background_cost=0.8)
    check(case, kind, background=False)


@pytest.mark.parametrize("strengths", [(1e3, 1e-3), (1e-3, 1e3), (0.05, 0.05), (1e5, 1e5)])
def test_strengths_of_the_marginals(strengths: tuple[float, float]) -> None:
    case = make_case([4, 0, 6], 8, steps=5)
    check(case, UnbalancedSinkhorn, reg_pred=strengths[0], reg_target=strengths[1], background_cost=0.8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reg", [1e-4, 1e-3, 1e2])
def test_any_regularisation_is_finite_and_agrees(kind: Any, reg: float) -> None:
    # Costs in steps are exact in units of the regularisation, so that float32 can agree with float64.
    case = make_case([4, 0, 9], 6, steps=4, low=-1.0)
    options = {"reg_pred": 1e3, "reg_target": 1e-3} if kind is UnbalancedSinkhorn else {}
    result = check(case, kind, tolerance=2e-2, reg=reg, background_cost=1.0, **options)
    assert all(part.isfinite().all() for part in (*dense(result), result.residual))


@pytest.mark.parametrize("kind", KINDS)
def test_many_predictions_are_finite(kind: Any) -> None:
    for reg in (None, 1e-4):
        result = make_case([3, 0], 8732).match(kind, background_cost=0.8, reg=reg, num_iter=5)
        assert all(part.isfinite().all() for part in (*dense(result), result.residual))
        if kind is BalancedSinkhorn:
            assert dense(result)[1][1].sum() == pytest.approx(8732, rel=1e-3)


def test_huge_and_tiny_costs_are_finite() -> None:
    for scale in (1e-30, 1e-6, 1e30, 1e38):
        case = make_case([3, 4], 6)
        case = Case(case.costs * scale, case.sizes, case.ignore, case.batch_shape)
        for kind in KINDS:
            for normalize in (True, False):
                result = case.match(kind, normalize_cost_matrix=normalize)
                assert all(part.isfinite().all() for part in dense(result))


@examples(40)
@given(case=cases())
def test_totals_and_residual(case: Case) -> None:
    result = case.match(BalancedSinkhorn, background_cost=0.8, num_iter=30)
    weights, background = (part.double() for part in dense(result))
    count = case.costs.shape[2]
    for n, rows in enumerate(case.tables()):
        asked = torch.tensor(reference.masses(len(rows), count, True), dtype=torch.float64) * count
        live = [g for g in range(int(case.sizes[n])) if not case.ignore[n, g]]
        totals = torch.cat([weights[n][live].sum(-1), background[n].sum().reshape(1)])
        if count:
            asked = asked if rows else torch.tensor([float(count)], dtype=torch.float64)
            torch.testing.assert_close(totals, asked, atol=1e-4, rtol=1e-4)
        error = (weights[n].sum(0) + background[n] - 1).abs().max().item() if count else 0.0
        assert result.residual[n].item() == pytest.approx(error, abs=1e-3)


def test_more_iterations_come_nearer() -> None:
    case = make_case([6, 3, 12], 10)
    few, many = (case.match(BalancedSinkhorn, num_iter=count, background_cost=0.8).residual for count in (3, 2000))
    assert (many < 1e-3).all() and (few > many).all()
    few, many = (case.match(UnbalancedSinkhorn, num_iter=count).residual for count in (3, 2000))
    assert (many < 1e-4).all() and (few > many).all()


@pytest.mark.parametrize("kind", KINDS)
def test_tolerance_stops_each_image_by_itself(kind: Any) -> None:
    case = make_case([6, 0, 1, 9], 12)
    options = {"num_iter": 300, "background_cost": 0.8}
    result = case.match(kind, tolerance=0.05, **options)
    assert (result.residual <= 0.05 + 1e-4).all()
    assert (result.residual > case.match(kind, **options).residual).any(), "nothing was saved"
    check_independence(case, kind, tolerance=0.05, **options)
    if kind is BalancedSinkhorn:
        check(case, kind, tolerance=1e-3, **options)


def test_stopped_plan_is_the_one_of_the_reference() -> None:
    case = make_case([6, 0, 1, 9], 12)
    matcher = BalancedSinkhorn(cost=case.cost, num_iter=300, background_cost=0.8, tolerance=0.05)
    assert_agrees(case, matcher(case.predictions, case.targets), expected(case, matcher), 1e-3)


def transport_of(case: Case, reg: float) -> Transport:
    problem = BalancedSinkhorn(cost=case.cost).problem(case.predictions, case.targets)
    costs = case.costs.masked_fill(~problem.matchable.unsqueeze(-1), 0)
    return Transport.of(problem, costs, background_cost=0.8, reg=reg, normalize=True)


@pytest.mark.parametrize("tolerance", [None, 0.05])
@pytest.mark.parametrize("powers", [(1, 1), (0.98, 0.98), (0.999, 0.1)])
@pytest.mark.parametrize("reg", [1.0, 0.02, 0.005])
def test_scaled_iterations_are_those_in_logarithms(reg: float, powers: tuple[float, float], tolerance: Any) -> None:
    transport = transport_of(make_case([12, 0, 1, 20], 16), reg)
    for count in (1, 2, 40):
        iteration = Iteration(*powers, count, tolerance)
        slow, before = iteration._solve_in_logarithms(transport)
        fast = iteration._solve_scaled(transport)
        if fast is None:  # moved too fast: the other one is taken
            assert reg < 1 and powers != (1, 1)
            continue
        torch.testing.assert_close(fast[0], slow, atol=5e-3, rtol=1e-4)
        torch.testing.assert_close(fast[1][0], before[0], atol=5e-3, rtol=1e-4)


def test_crowds_of_equal_targets_need_no_other_path() -> None:
    case = make_case([40], 60, steps=1)
    case = Case(case.costs[:, :1].expand(1, 40, 60).contiguous(), case.sizes, case.ignore, case.batch_shape)
    transport = transport_of(case, 0.005)
    iteration = Iteration(1, 1, 30)
    fast = iteration._solve_scaled(transport)
    assert fast is not None
    torch.testing.assert_close(fast[0], iteration._solve_in_logarithms(transport)[0], atol=5e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@examples(20)
@given(case=cases())
def test_images_do_not_depend_on_each_other(kind: Any, case: Case) -> None:
    check_independence(case, kind, background_cost=0.8)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_costs_are_avoided(kind: Any) -> None:
    case = make_case([3], 6)
    case.costs[0, :, 2] = math.nan
    case.costs[0, 0, 3] = -math.inf
    result = case.match(kind, background_cost=1.0)
    weights, background = dense(result)
    assert result.num_invalid.tolist() == [4]
    assert weights[0, :, 2].max() < 1e-6 and weights[0, 0, 3] < 1e-6 and background[0, 2] > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_background_is_no_duty_in_ignored_regions(kind: Any) -> None:
    scene = make_scene([3], 5, ignored=0.0, seed=4)
    boxes = scene.targets.boxes.tensor[0]
    predicted = torch.stack([boxes[0], boxes[1], boxes[2], torch.tensor([60.0, 60, 61, 61])])
    targets = Targets.of(
        [{"boxes": boxes, "labels": torch.zeros(3).long(), "ignore": torch.tensor([False, True, False])}]
    )
    cost = {"far": lambda pairs: (pairs.gt.x1 - pairs.predicted.x1).abs()}
    result = kind(cost, background_cost=1.0)({"pred_boxes": predicted[None]}, targets)
    weights, background = dense(result)
    assert background[0, 1] == 0 and background[0, 3] > 0.5
    assert not weights[0, 1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_layers_share_targets(kind: Any) -> None:
    scene = make_scene([4, 0, 2], 8, seed=2, layers=(3,), ignored=0.3, slack=2, filler="nan")
    result = kind(detr_costs())(scene.predictions, scene.targets)
    assert result.weights.tensor.shape == (3, 3, 8, 6) and result.background.shape == (3, 3, 8)
    assert result.residual.shape == result.num_invalid.shape == (3, 3)
    for layer in range(3):
        parts = {name: getattr(scene.predictions, name)[layer] for name in ("logits", "boxes")}
        own = kind(detr_costs())({"pred_logits": parts["logits"], "pred_boxes": parts["boxes"]}, scene.targets)
        torch.testing.assert_close(result.weights.tensor[layer], own.weights.tensor)


@pytest.mark.parametrize("kind", KINDS)
def test_several_batch_dims(kind: Any) -> None:
    case = make_case([4, 0, 2, 1, 3, 0], 5, batch_shape=(2, 3))
    flat = Case(case.costs, case.sizes, case.ignore, (6,))
    assert_same(case.match(kind), flat.match(kind), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind: Any, dtype: torch.dtype) -> None:
    scene = make_scene([3, 0, 6], 8, steps=8).cast(dtype)
    half, full = (kind(detr_costs())(each.predictions, each.targets) for each in (scene, scene.cast(torch.float32)))
    assert half.weights.tensor.dtype == torch.float32
    assert_same(half, full, 1e-4)


@pytest.mark.graphs
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_compiles_and_does_not_synchronise(kind: Any, tolerance: float | None) -> None:
    case = make_case([4, 0, 2], 6, ignored=0.3, bad=0.1).padded(1, math.nan)
    check_compiled(case, kind, num_iter=3, tolerance=tolerance)


def test_nothing_is_differentiated() -> None:
    scene = make_scene([4, 0], 6)
    boxes = scene.predictions.boxes.requires_grad_()
    result = BalancedSinkhorn(detr_costs())(
        {"pred_logits": scene.predictions.logits, "pred_boxes": boxes}, scene.targets
    )
    assert not result.weights.tensor.requires_grad and not result.background.requires_grad


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reg": 0.0}, ValueError, "reg must be finite and above 0, got 0.0"),
        ({"reg": "small"}, TypeError, "reg must be a number, got str"),
        ({"reg_dimless": -1}, ValueError, "reg_dimless must be finite and above 0, got -1"),
        ({"num_iter": 0}, ValueError, "num_iter must be at least 1, got 0"),
        ({"num_iter": 1.5}, TypeError, "num_iter must be an integer, got float"),
        ({"tolerance": 0}, ValueError, "tolerance must be finite and above 0, got 0"),
        ({"background_cost": math.nan}, ValueError, "background_cost must be finite, got nan"),
        ({"compiled": True}, TypeError, "compiled"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_options(kind: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kind(**options)


def test_bad_strengths() -> None:
    with pytest.raises(ValueError, match="reg_pred must be finite and above 0, got 0"):
        UnbalancedSinkhorn(reg_pred=0)
    with pytest.raises(ValueError, match="reg_target must be finite and above 0, got inf"):
        UnbalancedSinkhorn(reg_target=math.inf)
