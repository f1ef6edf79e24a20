"""The kernel on a CUDA device: SciPy's totals, without a synchronisation, in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reference.hungarian import made_pairs, score
from torch import Tensor

from matchers import Hungarian, Predictions, batched_linear_sum_assignment, detr_costs
from matchers.testing import make_scene

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIZES = [(208, 100, 300), (16, 300, 100), (3, 50, 50), (5, 1, 7), (2, 40, 1000), (1, 20, 8192)]


@pytest.fixture(autouse=True)
def _needs_triton() -> None:
    pytest.importorskip("triton", reason="needs Triton")


def without_synchronisation(function: Callable[..., Tensor], *arguments: Tensor | None) -> Tensor:
    function(*arguments)  # compiles the kernel
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return function(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def solve(cost: Tensor, counts: Tensor, forbidden: Tensor | None = None) -> Tensor:
    return batched_linear_sum_assignment(cost, counts, forbidden=forbidden, solver="triton")


def check_totals(found: Tensor, cost: Tensor, counts: Tensor, forbidden: Tensor | None = None) -> None:
    cost, counts = cost.cpu(), counts.cpu()
    forbidden = None if forbidden is None else forbidden.cpu()
    best = batched_linear_sum_assignment(cost, counts, forbidden=forbidden, solver="scipy")
    for sample, (own, other) in enumerate(zip(found.cpu(), best, strict=True)):
        avoid = None if forbidden is None else forbidden[sample]
        pairs, best_pairs = made_pairs(own), made_pairs(other)
        assert len({g for g, _ in pairs}) == len(pairs) == len(best_pairs)
        assert all(g < counts[sample] for g, _ in pairs)
        never, bad, total = score(cost[sample].double(), pairs, avoid)
        _, best_bad, best_total = score(cost[sample].double(), best_pairs, avoid)
        assert (never, bad) == (0, best_bad)
        assert total == pytest.approx(best_total, rel=1e-5, abs=1e-5)


def problems(size: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Costs of which the first half are random, the others alike in all rows; and numbers of targets."""
    generator = torch.Generator().manual_seed(seed)
    cost = torch.randn(size, generator=generator)
    half = size[0] // 2
    cost[half:] = cost[half:, :1] + cost[half:, :, :1] + 0.1 * cost[half:]
    counts = torch.randint(0, size[1] + 1, size[:1], generator=generator)
    counts[0] = size[1]
    return cost.cuda(), counts.cuda()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_totals_without_a_synchronisation(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    cost, counts = problems(size, 0)
    cost = cost.to(dtype)
    check_totals(without_synchronisation(solve, cost, counts), cost, counts)


def test_cells_that_are_not_finite_and_forbidden_ones() -> None:
    cost, counts = problems((8, 40, 60), 1)
    generator = torch.Generator("cuda").manual_seed(0)
    cost[torch.rand(cost.shape, generator=generator, device="cuda") < 0.2] = float("nan")
    cost[:, 3], cost[:, :, 4] = float("inf"), -float("inf")
    forbidden = torch.rand(cost.shape, generator=generator, device="cuda") < 0.3
    forbidden[:, 5], forbidden[1, :, 20:] = True, True
    check_totals(without_synchronisation(solve, cost, counts, forbidden), cost, counts, forbidden)


def test_the_kernel_is_the_default() -> None:
    cost, counts = problems((4, 10, 20), 2)
    found = without_synchronisation(batched_linear_sum_assignment, cost, counts)
    assert torch.equal(found, solve(cost, counts))
    assert torch.equal(found, solve(cost, counts))  # again the same choice
    with pytest.raises(RuntimeError, match="synchronizing"):
        without_synchronisation(lambda c, n: batched_linear_sum_assignment(c, n, solver="scipy"), cost, counts)


def test_the_hungarian_matcher_does_not_wait() -> None:
    scene = make_scene([5, 0, 1, 9], 7, seed=1)
    predictions, targets = Predictions(scene.logits.cuda(), scene.boxes.cuda()), scene.targets.to("cuda")
    matcher = Hungarian(detr_costs())
    found = without_synchronisation(
        lambda logits: matcher(Predictions(logits, predictions.boxes), targets).target_index, predictions.logits
    )
    scipy = Hungarian(detr_costs(), solver="scipy")(predictions, targets).target_index
    costs = sum(matcher.costs(predictions, targets).values())
    for own, other, cost in zip(found.cpu(), scipy.cpu(), costs.cpu().double(), strict=True):
        assert score(cost, made_pairs(own))[2] == pytest.approx(score(cost, made_pairs(other))[2], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("size", [(4, 40, 8193), (8, 100, 8400), (2, 300, 20_000)], ids=str)
def test_more_predictions_than_registers_hold(size: tuple[int, int, int]) -> None:
    cost, counts = problems(size, 4)
    found = without_synchronisation(batched_linear_sum_assignment, cost, counts)
    check_totals(found, cost, counts)
    for _ in range(20):
        assert torch.equal(solve(cost, counts), found)


def test_replayed_in_a_graph_with_other_costs() -> None:
    cost, counts = problems((208, 100, 300), 5)
    solve(cost, counts)  # compiles the kernel
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = solve(cost, counts)
    for seed in (6, 7):
        other, other_counts = problems((208, 100, 300), seed)
        cost.copy_(other)
        counts.copy_(other_counts)
        graph.replay()
        assert torch.equal(found, solve(other, other_counts))
        check_totals(found, other, other_counts)


def test_compiled_with_graphs() -> None:
    compiled = torch.compile(solve, fullgraph=True, mode="reduce-overhead")
    for seed in range(3):
        cost, counts = problems((6, 10, 20), seed)
        assert torch.equal(compiled(cost, counts), solve(cost, counts))
