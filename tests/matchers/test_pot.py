"""The solvers of Python Optimal Transport, against our own ones, which are written from the same equations."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from soft_cases import assert_same, dense, make_case

from matchers.transport.pot import BalancedPOT, UnbalancedPOT
from matchers.transport.sinkhorn import BalancedSinkhorn, UnbalancedSinkhorn

KINDS = [BalancedPOT, UnbalancedPOT]


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_package_the_message_says_how_to_get_it(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r'pip install "ragged-batch\[pot\]"'):
        kind()


@pytest.mark.parametrize("kind", KINDS)
def test_bad_options(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"method must be one of 'sinkhorn', .*, got 'greedy'"):
        kind(method="greedy")
    with pytest.raises(TypeError, match="balanced"):
        kind(balanced=True)
    with pytest.raises(ValueError, match="tolerance must be finite and above 0, got 0"):
        kind(tolerance=0)


def cases() -> list[Any]:
    return [
        make_case([4, 0, 1, 9], 7, bad=0.1, ignored=0.2),
        make_case([4, 0, 3, 1], 7, batch_shape=(2, 2)),
        make_case([0, 0], 3),
        make_case([1], 0),
        make_case([], 4),
    ]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("method", BalancedPOT.methods)
def test_balanced_is_what_ours_converges_to(method: str, background: bool) -> None:
    pytest.importorskip("ot")
    for case in cases():
        options = {"background": background, "background_cost": 0.8, "reg": 0.1}
        theirs = case.match(BalancedPOT, method=method, num_iter=1000, **options)
        ours = case.match(BalancedSinkhorn, num_iter=2000, **options)
        assert_same(theirs, ours, 5e-3)
        assert theirs.num_invalid.tolist() == ours.num_invalid.tolist()
        assert theirs.residual.shape == ours.residual.shape and (theirs.residual < 5e-3).all()


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("method", UnbalancedPOT.methods)
@pytest.mark.filterwarnings("ignore:Method not implemented")
def test_unbalanced_is_what_ours_converges_to(method: str, background: bool) -> None:
    pytest.importorskip("ot")
    for case in cases():
        options = {"background": background, "background_cost": 0.8, "reg": 0.1}
        theirs = case.match(UnbalancedPOT, method=method, reg_pred_target=0.5, tolerance=1e-9, **options)
        ours = case.match(UnbalancedSinkhorn, reg_pred=0.5, reg_target=0.5, num_iter=500, **options)
        assert_same(theirs, ours, 1e-3)


def test_a_method_that_fails_shows_in_the_residual() -> None:
    pytest.importorskip("ot")
    case = make_case([4, 2], 6)
    with pytest.warns(UserWarning, match="umerical errors"):
        result = case.match(BalancedPOT, method="sinkhorn", reg=1e-5, background_cost=2.0)
    assert all(part.isfinite().all() for part in dense(result)) and (result.residual > 0.1).any()


def test_defaults_agree_for_small_problems() -> None:
    pytest.importorskip("ot")
    case = make_case([3, 1], 5)
    assert_same(case.match(BalancedPOT), case.match(BalancedSinkhorn, num_iter=2000), 1e-3)
    assert_same(case.match(UnbalancedPOT), case.match(UnbalancedSinkhorn, num_iter=2000), 1e-3)
    assert case.match(BalancedPOT).weights.tensor.dtype == torch.float32
