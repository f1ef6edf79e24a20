"""The kernel for CUDA, interpreted on CPU and compiled for devices that are not there, against SciPy."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

import pytest
import torch
from effort import examples, mostly_thorough
from hypothesis import given
from hypothesis import strategies as st
from interpreter import Interpreter, interpreter
from reference.hungarian import made_pairs, score
from torch import Tensor

import matchers
from matchers import Hungarian
from matchers import batched_linear_sum_assignment as solve
from matchers.solver import linear_assignment
from matchers.solver.linear_assignment import solve_rows

pytestmark = pytest.mark.graphs

triton = pytest.importorskip("triton", reason="needs Triton")

BAD = [math.nan, math.inf, -math.inf]
NAN = math.nan


@pytest.fixture(scope="module")
def kernel() -> Iterator[Interpreter]:
    with interpreter() as started:
        yield started


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_same_total(found: Tensor, cost: Tensor, forbidden: Tensor | None = None) -> None:
    """Of one sample: as good an assignment as SciPy's, though perhaps another one."""
    best = solve(cost[None], forbidden=None if forbidden is None else forbidden[None], solver="scipy")[0]
    assert found.dtype == torch.int64 and found.shape == best.shape
    assert found.min() >= -1 and found.max() < len(cost)
    pairs, best_pairs = made_pairs(found), made_pairs(best)
    assert len({g for g, _ in pairs}) == len(pairs) == len(best_pairs)
    never, bad, total = score(cost.double(), pairs, forbidden)
    _, best_bad, best_total = score(cost.double(), best_pairs, forbidden)
    assert (never, bad) == (0, best_bad)
    largest = max((abs(float(cost[pair])) for pair in best_pairs if cost[pair].isfinite()), default=0.0)
    assert total == pytest.approx(best_total, rel=1e-5, abs=1e-6 * largest)


def spoiled(cost: Tensor, share: float, seed: int) -> Tensor:
    for value in BAD:
        cost[torch.rand(cost.shape, generator=generator(seed)) < share] = value
        seed += 1
    return cost


# --- any problem -------------------------------------------------------------------------------------------------------


@examples(20)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    distinct=st.sampled_from([2, 5, 1000]),
    scale=st.sampled_from([1.0, -1.0, 1e-6, 1e6, 1e30]),
    bad=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    never=st.sampled_from([None, 0.2, 0.6, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_small_problems(
    kernel: Interpreter,
    seed: int,
    shape: tuple[int, int],
    distinct: int,
    scale: float,
    bad: float,
    never: float | None,
    dtype: torch.dtype,
) -> None:
    """Ties, cells that are not finite, forbidden ones, more targets than predictions, and samples of unequal size."""
    num_samples, (width, _) = 3, shape
    cost = torch.randint(0, distinct, (num_samples, *shape), generator=generator(seed)).to(dtype) * scale
    cost = spoiled(cost, bad, seed)
    counts = torch.randint(0, width + 1, (num_samples,), generator=generator(seed))
    forbidden = None if never is None else torch.rand(cost.shape, generator=generator(seed + 9)) < never
    found = kernel.solve(cost, counts, forbidden)
    for sample, count in enumerate(counts.tolist()):
        avoid = None if forbidden is None else forbidden[sample, :count]
        check_same_total(found[sample], cost[sample, :count], avoid)


@pytest.mark.parametrize("shape", [(64, 128), (30, 300), (24, 10), (20, 20), (1, 50), (50, 1), (3, 32), (3, 33)])
def test_larger_problems(kernel: Interpreter, shape: tuple[int, int]) -> None:
    cost = torch.randn(shape, generator=generator(0))
    check_same_total(kernel.solve(cost[None])[0], cost)


def test_larger_problem_with_everything(kernel: Interpreter) -> None:
    cost = spoiled(torch.randn(2, 20, 40, generator=generator(1)).mul(3).round(), 0.1, 3)
    forbidden = torch.rand(cost.shape, generator=generator(2)) < 0.3
    cost[:, 3], forbidden[:, 5] = NAN, True
    forbidden[1, :, 12:] = True
    for sample, found in enumerate(kernel.solve(cost, forbidden=forbidden)):
        check_same_total(found, cost[sample], forbidden[sample])


@pytest.mark.parametrize("seed", [37, 65])
def test_more_targets_than_predictions_and_little_choice(kernel: Interpreter, seed: int) -> None:
    """Bad cells that cannot be avoided: their number is part of the prices too."""
    random = generator(seed)
    cost = torch.rand(9, 8, generator=random)
    cost[torch.rand(9, 8, generator=random) < 0.6] = NAN
    forbidden = torch.rand(9, 8, generator=random) < 0.3
    check_same_total(kernel.solve(cost[None], forbidden=forbidden[None])[0], cost, forbidden)


def test_similar_rows(kernel: Interpreter) -> None:
    """All targets want the same predictions: long paths, many changes of the prices."""
    cost = torch.rand(12, 1, generator=generator(0)) + torch.rand(1, 24, generator=generator(1))
    cost = cost + 0.01 * torch.rand(12, 24, generator=generator(2))
    check_same_total(kernel.solve(cost[None])[0], cost)


# --- in tiles ----------------------------------------------------------------------------------------------------------


IN_TILES = [
    (shape, forbid, dtype)
    for shape in [(12, 100), (6, 32), (6, 33), (36, 34), (1, 70), (12, 1)]
    for forbid in (False, True)
    for dtype in (torch.float32, torch.float64)
]


@pytest.mark.parametrize(
    ("shape", "forbid", "dtype"),
    mostly_thorough(
        IN_TILES, usual=[case for case in IN_TILES if case[1] == (case[2] == torch.float64) and case[0][0] < 36]
    ),
)
def test_tiles_give_the_same(kernel: Interpreter, shape: tuple[int, int], forbid: bool, dtype: torch.dtype) -> None:
    """Bit by bit, with ties and everything that is avoided."""
    cost = torch.randn(2, *shape, generator=generator(5)).mul(4).round().to(dtype)
    cost[1] = spoiled(cost[1], 0.1, 6)
    forbidden = torch.rand(cost.shape, generator=generator(7)) < 0.3 if forbid else None
    counts = torch.tensor([shape[0], shape[0] // 2])
    found = kernel.solve(cost, counts, forbidden, in_tiles=True)
    assert torch.equal(found, kernel.solve(cost, counts, forbidden))


def test_more_predictions_than_registers_hold(kernel: Interpreter) -> None:
    cost = torch.rand(3, 1, generator=generator(0)) + torch.rand(1, 8500, generator=generator(1))
    cost = cost + 0.01 * torch.rand(3, 8500, generator=generator(2))
    check_same_total(kernel.solve(cost[None])[0], cost)


# --- what must not matter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [-1e30, NAN])
def test_samples_of_any_size(kernel: Interpreter, filler: float) -> None:
    counts = torch.tensor([3, 0, 7, 1])
    cost = torch.randint(0, 4, (4, 7, 5), generator=generator(4)).float()
    cost[0, 0, :2] = NAN
    padded = torch.where((torch.arange(7) < counts.unsqueeze(-1)).unsqueeze(-1), cost, filler)
    found = kernel.solve(padded, counts)
    for sample, count in enumerate(counts.tolist()):
        assert torch.equal(kernel.solve(cost[sample : sample + 1, :count])[0], found[sample])
        check_same_total(found[sample], cost[sample, :count])


def test_rows_of_several_samples(kernel: Interpreter) -> None:
    """Runs of rows, some of them not valid."""
    cost = torch.tensor([[1.0, 2.0], [0.0, 9.0], [NAN, NAN], [5.0, 4.0]])
    start, count = torch.tensor([0, 0, 2, 1]), torch.tensor([0, 2, 2, 3])
    valid = torch.tensor([True, True, False, True])
    found = kernel.solve_rows(cost, start, count, valid)
    assert found.tolist() == [[-1, -1], [1, 0], [-1, 1], [0, 2]]
    assert torch.equal(found, solve_rows(cost, start, count, valid))


def test_half_precision(kernel: Interpreter) -> None:
    cost = torch.randn(6, 9, generator=generator(0)).half()
    check_same_total(kernel.solve(cost[None])[0], cost)


def test_strides(kernel: Interpreter) -> None:
    cost = torch.randn(9, 6, generator=generator(0)).T
    check_same_total(kernel.solve(cost[None])[0], cost)


# --- single cases ------------------------------------------------------------------------------------------------------


def test_ties_go_to_the_lowest_index(kernel: Interpreter) -> None:
    assert kernel.solve(torch.zeros(1, 3, 5)).tolist() == [[0, 1, 2, -1, -1]]
    assert kernel.solve(torch.zeros(1, 5, 3)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("value", BAD)
def test_nothing_but_bad_cells(kernel: Interpreter, value: float) -> None:
    for shape in [(2, 3), (3, 2), (1, 1)]:
        cost = torch.full(shape, value)
        check_same_total(kernel.solve(cost[None])[0], cost)


def test_forbidden_pairs_are_never_made(kernel: Interpreter) -> None:
    cost = torch.tensor([[[1.0, 2.0], [3.0, 9.0]]])
    forbidden = torch.tensor([[[True, False], [True, False]]])
    assert kernel.solve(cost, forbidden=forbidden).tolist() == [[-1, 0]]
    assert kernel.solve(cost, forbidden=torch.ones_like(forbidden)).tolist() == [[-1, -1]]
    cost[0, 0, 1] = NAN
    assert kernel.solve(cost, forbidden=torch.tensor([[[True, False], [False, True]]])).tolist() == [[1, 0]]


def test_small_differences_next_to_much_that_is_avoided(kernel: Interpreter) -> None:
    """Penalties as large numbers would take the digits that decide here."""
    cost = 1 + 1e-6 * torch.rand(12, 12, generator=generator(3)).round(decimals=1)
    cost[:6, 6:] = NAN
    forbidden = torch.zeros(12, 12, dtype=torch.bool)
    forbidden[6:9, :6] = True
    cost[6:, 1] = NAN
    found = kernel.solve(cost[None], forbidden=forbidden[None])[0]
    shifted = (cost.double() - 1) * 1e6
    check_same_total(found, shifted, forbidden)


@pytest.mark.parametrize(("dtype", "large"), [(torch.float32, 3e38), (torch.float64, 1e308)])
def test_the_largest_numbers(kernel: Interpreter, dtype: torch.dtype, large: float) -> None:
    cost = torch.tensor([[NAN, large, large], [-large, 3.0, large], [large, -large, large]], dtype=dtype)
    for size in (2, 3):
        assert kernel.solve(cost[None, :size, :2]).tolist() == solve(cost[None, :size, :2]).tolist()
    assert kernel.solve(cost[None]).tolist() == [[1, 2, 0]]


def test_sums_of_the_largest_numbers_are_finite(kernel: Interpreter) -> None:
    cost = (torch.rand(8, 5, generator=generator(10)) * 2 - 1) * 3.4e38
    check_same_total(kernel.solve(cost[None])[0], cost)


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 2, 3), (2, 3, 0), (2, 0, 0)])
def test_nothing_to_match(kernel: Interpreter, shape: Sequence[int]) -> None:
    found = kernel.solve(torch.zeros(*shape))
    assert found.shape == (shape[0], shape[2]) and (found == -1).all()


# --- choice ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton is interpreted")
def test_a_solver_that_cannot_solve_is_an_error() -> None:
    cost = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match=r"solver 'triton' needs costs on a CUDA device that Triton supports, got cpu"):
        solve(cost, solver="triton")
    with pytest.raises(ValueError, match=r"solver must be one of 'auto', 'scipy', 'triton', 'lapx', got 'gpu'"):
        solve(cost, solver="gpu")
    with pytest.raises(ValueError, match=r"solver must be one of 'auto', 'scipy', 'triton', 'lapx', got None"):
        Hungarian(solver=None)
    scene = matchers.testing.make_scene([2], 3)
    with pytest.raises(ValueError, match="needs costs on a CUDA device"):
        Hungarian(matchers.detr_costs(), solver="triton")(scene.predictions, scene.targets)


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_assignment, "triton_kernel", lambda: None)
    cost = torch.tensor([[[2.0, 1.0]]])
    assert solve(cost).tolist() == solve(cost, solver="scipy").tolist() == [[-1, 0]]
    with pytest.raises(ImportError, match="needs the package triton"):
        solve(cost, solver="triton")
    with pytest.raises(ImportError, match="needs the package triton"):
        Hungarian(solver="triton")


# --- compiled ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton is interpreted")
@pytest.mark.parametrize(
    ("cost", "block", "forbidden", "wide"),
    mostly_thorough(
        [
            *[("fp32", 32, False, False), ("fp32", 512, True, False), ("fp64", 8192, True, False)],
            *[("fp32", 2048, False, True), ("fp32", 2048, True, True), ("fp64", 2048, True, True)],
        ],
        usual=[("fp32", 512, True, False), ("fp32", 2048, True, True)],
    ),
)
def test_compiles_for_cuda(
    cost: str, block: int, forbidden: bool, wide: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """Types must fit where the interpreter does not look; this needs no device."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from matchers.solver.triton_narrow import num_warps, solve_narrow
    from matchers.solver.triton_wide import NUM_WARPS, TILE, solve_wide

    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton has no compiler for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = {"cost": f"*{cost}", "forbidden": "*i1", "valid": "*i1", "start": "*i64", "count": "*i64"}
    pointers["matched"] = "*i64"
    if wide:
        pointers |= {"whole": "*i64", "numbers": f"*{cost}"}
        assert block == TILE
    signature = {**pointers, "num_columns": "i32", "BLOCK": "constexpr", "FORBIDDEN": "constexpr"}
    source = ASTSource(solve_wide if wide else solve_narrow, signature, {"BLOCK": block, "FORBIDDEN": forbidden})
    for capability in (75, 80, 90):
        options = {"num_warps": NUM_WARPS if wide else num_warps(block), "enable_fp_fusion": False}
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert compiled.asm["cubin"]
        # One in a round of the search; without tiles, two where columns change their owners.
        assert compiled.asm["ttir"].count('"tt.reduce"') == (1 if wide else 3)
