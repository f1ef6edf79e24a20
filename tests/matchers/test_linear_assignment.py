"""The exact solver: optimal, whatever the shapes, and bad cells only where there is no other way."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.hungarian import best_total, brute_force, made_pairs, score
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from matchers import Hungarian, detr_costs
from matchers import batched_linear_sum_assignment as solve
from matchers.solver import linear_assignment
from matchers.solver.linear_assignment import solve_rows
from matchers.testing import make_scene
from ragged.testing import FILLERS, filler_value

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
BAD = [math.nan, math.inf, -math.inf]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_is_matching(target_index: Tensor, num_targets: int) -> None:
    """Every target at most once, and as many pairs as there can be."""
    found = [g for g in target_index.tolist() if g >= 0]
    assert target_index.dtype == torch.int64
    assert target_index.min() >= -1 if target_index.numel() else True
    assert len(set(found)) == len(found) == min(num_targets, len(target_index))
    assert all(g < num_targets for g in found)


@st.composite
def problems(draw: st.DrawFn, max_size: int = 5) -> tuple[Tensor, Tensor]:
    """Costs (G, P) and forbidden cells: few values, so many ties; some not finite."""
    shape = (draw(st.integers(1, max_size)), draw(st.integers(1, max_size)))
    seed = generator(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([1.0, -1.0, 1e-6, 1e6, 1e30]))
    cost = torch.randint(0, draw(st.sampled_from([2, 5, 1000])), shape, generator=seed).float() * scale
    for value in BAD:
        cost[torch.rand(shape, generator=seed) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))] = value
    forbidden = torch.rand(shape, generator=seed) < draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))
    return cost, forbidden


@pytest.fixture(params=["scipy", "lapx"])
def solver(request: pytest.FixtureRequest) -> str:
    """Those of the host; the kernel for CUDA has tests of its own."""
    if request.param == "lapx":
        pytest.importorskip("lap", reason="needs lapx")
    return request.param


@settings(examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems())
def test_best_of_all_assignments(solver: str, problem: tuple[Tensor, Tensor]) -> None:
    cost, forbidden = problem
    solved = solve(cost[None], solver=solver)[0]
    check_is_matching(solved, len(cost))
    _, bad, total = score(cost, made_pairs(solved))
    _, best_bad, best = brute_force(cost)
    assert bad == best_bad
    assert total == pytest.approx(best, rel=1e-9, abs=1e-12)
    pairs = made_pairs(solve(cost[None], forbidden=forbidden[None], solver=solver)[0])
    never, bad, total = score(cost, pairs, forbidden)
    most, best_bad, best = brute_force(cost, forbidden)
    assert never == 0
    assert len(pairs) == min(cost.shape) - most
    assert bad == best_bad
    assert total == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (30, 30), (1, 50), (50, 1)])
def test_optimal_total(solver: str, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    cost = torch.randn(3, *shape, generator=generator(0)).to(dtype)
    cost[1] = cost[1].round()  # ties
    solved = solve(cost, solver=solver)
    assert solved.shape == (3, shape[1])
    for sample, row in zip(cost, solved, strict=True):
        check_is_matching(row, shape[0])
        assert score(sample, made_pairs(row))[2] == pytest.approx(best_total(sample)[1], rel=1e-9)


@given(
    st.integers(0, 10_000), st.lists(st.sampled_from([0, 1, 3, 8]), min_size=1, max_size=4), st.sampled_from(FILLERS)
)
def test_samples_of_any_size(seed: int, sizes: Sequence[int], filler: str) -> None:
    """Filler, the amount of it, batch-mates and their order change nothing."""
    num_predictions, width = 6, max(sizes) + 2
    cost = torch.randint(0, 4, (len(sizes), width, num_predictions), generator=generator(seed)).float()
    counts = torch.tensor(sizes)
    if seed % 3 == 0:
        cost[0, :1, :2] = math.nan  # must not change how others are solved
    alone = [solve(cost[i : i + 1, :size])[0] for i, size in enumerate(sizes)]
    for row, size in zip(alone, sizes, strict=True):
        check_is_matching(row, size)
    is_filler = (torch.arange(width) >= counts.unsqueeze(-1)).unsqueeze(-1)
    padded = cost.masked_fill(is_filler, filler_value(filler, cost.dtype))
    solved = solve(padded, counts)
    assert torch.equal(solved, torch.stack(alone))
    assert torch.equal(solve(padded, counts, forbidden=torch.zeros_like(padded, dtype=torch.bool)), solved)
    assert torch.equal(solve(padded.flip(0), counts.flip(0)), solved.flip(0))
    more = torch.cat([padded, padded.new_full((len(sizes), 3, num_predictions), math.nan)], 1)
    assert torch.equal(solve(more, counts), solved)


def test_batch_dimensions() -> None:
    cost = torch.randn(2, 3, 4, 5, generator=generator(0))
    counts = torch.tensor([[0, 1, 4], [2, 3, 4]])
    solved = solve(cost, counts)
    assert torch.equal(solved, solve(cost.flatten(0, 1), counts.flatten()).reshape(2, 3, 5))
    assert torch.equal(solve(cost.transpose(2, 3).contiguous().transpose(2, 3), counts.int()), solved)  # strides
    assert (solved[0, 0] == -1).all()


@pytest.mark.parametrize("value", BAD)
def test_nothing_but_bad_cells(value: float) -> None:
    for shape in [(2, 3), (3, 2), (1, 1)]:
        check_is_matching(solve(torch.full((1, *shape), value))[0], shape[0])


def test_avoids_bad_cells() -> None:
    nan, inf = math.nan, math.inf
    assert solve(torch.tensor([[[nan, 5.0], [1.0, 9.0]]])).tolist() == [[1, 0]]
    assert solve(torch.tensor([[[-inf, 5.0]]])).tolist() == [[-1, 0]]
    assert solve(torch.tensor([[[-inf, 5.0]], [[inf, -1e30]], [[1e30, nan]]])).tolist() == [[-1, 0], [-1, 0], [0, -1]]


def test_forbidden_pairs_are_never_made() -> None:
    cost = torch.tensor([[[1.0, 2.0], [3.0, 9.0]]])
    forbidden = torch.tensor([[[True, False], [True, False]]])
    assert solve(cost, forbidden=forbidden).tolist() == [[-1, 0]]  # prediction 0 has no partner; the cheaper one stays
    assert solve(cost, forbidden=torch.ones_like(forbidden)).tolist() == [[-1, -1]]
    # Rather a cost that is not finite than a target without a prediction.
    cost[0, 0, 1] = math.nan
    assert solve(cost, forbidden=torch.tensor([[[True, False], [False, True]]])).tolist() == [[1, 0]]


def test_the_largest_numbers_do_not_raise() -> None:
    cost = torch.tensor([[[math.nan, 1e308], [-1e308, 3.0]]], dtype=torch.float64)
    assert solve(cost).tolist() == [[1, 0]]


def test_the_largest_float32_numbers() -> None:
    assert solve(torch.tensor([[[math.nan, 3e38], [-3e38, 3.0]]])).tolist() == [[1, 0]]


def test_many_targets_in_one_image() -> None:
    cost = torch.randn(3, 5000, 50, generator=generator(3))
    counts = torch.tensor([5000, 0, 2])
    solved = solve(cost, counts)
    check_is_matching(solved[0], 5000)
    assert score(cost[0], made_pairs(solved[0]))[2] == pytest.approx(best_total(cost[0])[1])
    assert (solved[1] == -1).all()
    assert torch.equal(solved[2:], solve(cost[2:, :2]))
    assert torch.equal(solve(cost, counts), solved)


def test_nothing_to_match(solver: str) -> None:
    assert solve(torch.zeros(2, 0, 3), solver=solver).tolist() == [[-1] * 3] * 2
    assert solve(torch.zeros(0, 2, 3), solver=solver).shape == (0, 3)
    assert solve(torch.zeros(2, 4, 3), torch.tensor([0, 0]), solver=solver).tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize("shape", [(2, 3, 0), (2, 0, 0), (2, 2, 3, 0)])
def test_no_predictions(solver: str, shape: tuple[int, ...]) -> None:
    assert solve(torch.zeros(shape), solver=solver).shape == (*shape[:-2], 0)


@pytest.mark.parametrize("found", [None, types.SimpleNamespace()], ids=["missing", "another package of this name"])
def test_without_lapx(found: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lap", found)
    linear_assignment.lapx_solver.cache_clear()
    with pytest.raises(ImportError, match="solver 'lapx' needs the package lapx: pip install"):
        solve(torch.zeros(1, 2, 3), solver="lapx")
    with pytest.raises(ImportError, match="needs the package lapx"):
        Hungarian(solver="lapx")
    assert solve(torch.zeros(1, 1, 1)).tolist() == [[0]]


def test_the_matcher_hands_its_solver_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def solve_one(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shapes.append(cost.shape)
        return linear_sum_assignment(cost)

    monkeypatch.setattr(linear_assignment, "lapx_solver", lambda: solve_one)
    scene = make_scene([4, 0, 9], 7, seed=2)
    found = Hungarian(detr_costs(), solver="lapx")(scene.predictions, scene.targets)
    assert shapes == [(4, 7), (0, 7), (9, 7)]
    expected = Hungarian(detr_costs())(scene.predictions, scene.targets)
    assert torch.equal(found.target_index, expected.target_index)


def test_costs_are_not_changed_nor_differentiated() -> None:
    cost = torch.tensor([[[math.nan, 1.0], [2.0, 3.0]]], requires_grad=True)
    copy = cost.detach().clone()
    assert not solve(cost).requires_grad
    torch.testing.assert_close(cost.detach(), copy, equal_nan=True)


def test_rows_of_several_samples() -> None:
    """The operation itself: runs of rows, some of them not valid."""
    cost = torch.tensor([[1.0, 2.0], [0.0, 9.0], [math.nan, math.nan], [5.0, 4.0]])
    start, count = torch.tensor([0, 0, 2]), torch.tensor([0, 2, 2])
    valid = torch.tensor([True, True, False, True])
    assert solve_rows(cost, start, count, valid).tolist() == [[-1, -1], [1, 0], [-1, 1]]


def test_bad_input() -> None:
    cost = torch.zeros(2, 3, 4)
    with pytest.raises(TypeError, match="cost must be a torch.Tensor, got list"):
        solve([[1.0]])
    with pytest.raises(
        TypeError, match=r"cost must be a floating tensor of shape \(\*batch, G, P\), got .*torch.int64"
    ):
        solve(cost.long())
    with pytest.raises(ValueError, match=r"cost must be a floating tensor of shape .*got \(3, 4\)"):
        solve(cost[0])
    with pytest.raises(ValueError, match=r"num_targets must have shape \(2,\), or its last dimensions, got \(3,\)"):
        solve(cost, torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"num_targets must lie between 0 and 3, got 4 for sample 1"):
        solve(cost, torch.tensor([1, 4]))
    with pytest.raises(ValueError, match=r"got -1 for sample 0"):
        solve(cost, torch.tensor([-1, 2]))
    with pytest.raises(TypeError, match="forbidden must be a boolean tensor"):
        solve(cost, forbidden=cost)
    with pytest.raises(ValueError, match=r"forbidden must have the shape \(2, 3, 4\) of cost, or .*, got \(2, 4, 3\)"):
        solve(cost, forbidden=torch.zeros(2, 4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"num_targets must be on the device of cost \(cpu\), got meta"):
        solve(cost, torch.zeros(2, dtype=torch.int64, device="meta"))


def test_counts_must_be_integers() -> None:
    with pytest.raises(TypeError, match="num_targets must be integers"):
        solve(torch.zeros(1, 3, 4), torch.tensor([1.5]))


def test_small_numbers_next_to_bad_cells() -> None:
    nan = math.nan
    rows = [[7, 7, nan, nan, nan], [6, 7, nan, 0, nan], [8, nan, nan, 7, nan], [1, 8, nan, nan, nan]]
    cost = torch.tensor(rows, dtype=torch.float64) * 1e-17
    assert score(cost, made_pairs(solve(cost[None])[0]))[2] == pytest.approx(brute_force(cost)[2], rel=1e-9, abs=0)


@pytest.mark.filterwarnings("error")
def test_bad_cells_do_not_warn() -> None:
    solve(torch.tensor([[[math.inf, -math.inf], [1.0, 2.0]]]))
