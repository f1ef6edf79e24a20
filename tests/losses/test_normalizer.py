"""Divisors: alone, and on two ranks, where DDP's average has to be the loss and gradient of the whole batch."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from distributed_worker import launch
from effort import thorough
from torch import Tensor, nn

from losses.core.normalizer import Normalizer
from ragged.testing import assert_no_host_sync

RANKS = 2
# Objects of every image: the first half of the images belongs to rank 0.
SCENES = {
    "usual": (3, 2, 1, 4),
    "rank 1 without targets": (3, 2, 0, 0),
    "rank 0 without targets": (0, 0, 1, 4),
    "fewer targets than ranks": (0, 1, 0, 0),
    "no targets": (0, 0, 0, 0),
}
WIDTH = 5


def counts_of(images: slice, sizes: tuple[int, ...]) -> Tensor:
    return torch.tensor(sizes[images])


def features(images: slice) -> Tensor:
    whole = torch.randn(4, WIDTH, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return whole[images]


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(3, 2).double()


Loss = Callable[[Tensor, Tensor, Normalizer], Tensor]


def by_count(outputs: Tensor, sizes: Tensor, normalizer: Normalizer) -> Tensor:
    """Squares of what is predicted for the objects, divided by their number; a second term by another count."""
    mask = torch.arange(WIDTH) < sizes[:, None]
    values = outputs.square() * mask[..., None]
    first, second = normalizer([sizes.sum(), 3 * sizes.sum()])
    return values[..., 0].sum() / first + values[..., 1].sum() / second


def by_weights(outputs: Tensor, sizes: Tensor, normalizer: Normalizer) -> Tensor:
    """The same with weights that are predicted, and whose sum is what is divided by."""
    mask = torch.arange(WIDTH) < sizes[:, None]
    weights = outputs[..., 1].sigmoid() * mask
    return (outputs[..., 0].square() * weights).sum() / normalizer(weights.sum())


LOSSES: dict[str, Loss] = {"counts": by_count, "weights": by_weights}
NORMALIZERS = {"usual": Normalizer(minimum=1.0), "small minimum": Normalizer(minimum=0.01)}
CASES = [(loss, scene, kind) for loss in LOSSES for scene in SCENES for kind in NORMALIZERS]


def whole_batch(loss: str, sizes: tuple[int, ...], normalizer: Normalizer) -> list[Tensor]:
    """Value and gradients of the whole batch in one process."""
    net = model()
    value = LOSSES[loss](net(features(slice(0, 4))), counts_of(slice(0, 4), sizes), normalizer)
    return [value.detach(), *torch.autograd.grad(value, list(net.parameters()))]


# --- in each of two processes --------------------------------------------------------------------------------------


def scenarios(rank: int, num_ranks: int) -> dict[str, Any]:
    images = slice(2 * rank, 2 * rank + 2)
    results: dict[str, Any] = {}
    for loss, scene, kind in CASES:
        net = nn.parallel.DistributedDataParallel(model())
        sizes = counts_of(images, SCENES[scene])
        value = LOSSES[loss](net(features(images)), sizes, NORMALIZERS[kind])
        value.backward()
        results[f"{loss}, {scene}, {kind}"] = [value.detach(), *(each.grad for each in net.module.parameters())]
    results |= {f"accumulated, {scene}": accumulated(images, SCENES[scene]) for scene in SCENES}
    results["one reduction"] = number_of_reductions()
    results["by flag"] = Normalizer(distributed=False)([rank, 4])
    results["total"] = Normalizer().total([rank + 2, 0.25])
    results["group"] = Normalizer(group=torch.distributed.new_group([0, 1]))(torch.tensor([rank, 4]))
    results["compiled"] = compiled(rank)
    results["second derivative"] = second_derivative(rank)
    return results


def accumulated(images: slice, sizes: tuple[int, ...]) -> list[Tensor]:
    """Two micro-batches of one image each."""
    net = nn.parallel.DistributedDataParallel(model())
    own, normalizer, value = counts_of(images, sizes), Normalizer(), torch.zeros(())
    total = normalizer.total([own.sum(), 3 * own.sum()])

    class Counted:
        def __call__(self, counts: list[Tensor]) -> Tensor:
            return normalizer(counts, global_count=total)

    for image in range(2):
        one = slice(images.start + image, images.start + image + 1)
        part = by_count(net(features(one)), own[image : image + 1], Counted())  # type: ignore[arg-type]
        if image == 0:
            with net.no_sync():
                part.backward()
        else:
            part.backward()
        value = value + part.detach()
    return [value, *(each.grad for each in net.module.parameters())]


def number_of_reductions() -> int:
    reduce, calls = torch.distributed.all_reduce, []
    torch.distributed.all_reduce = lambda *given, **more: calls.append(1) or reduce(*given, **more)
    try:
        Normalizer()([torch.tensor(1), torch.tensor(2.0), 3])
    finally:
        torch.distributed.all_reduce = reduce
    return len(calls)


def compiled(rank: int) -> list[Tensor]:
    weights = torch.full((3,), rank + 1.0, requires_grad=True)

    def loss(weights: Tensor) -> Tensor:
        return (weights**2).sum() / Normalizer()(weights.sum())

    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(weights)
    return [value.detach(), *torch.autograd.grad(value, weights)]


def second_derivative(rank: int) -> Tensor:
    """Of ``W / (n_0 + n_1)`` on each rank; the second derivative of their sum is the same everywhere."""
    count = torch.tensor(1.0 + rank, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(1 / Normalizer()(count), count, create_graph=True)
    (second,) = torch.autograd.grad(first, count)
    return torch.stack([first.detach(), second])


# --- what they have to be ------------------------------------------------------------------------------------------

EXACT: dict[str, float] = {"rtol": 1e-10, "atol": 1e-12}


@thorough
def test_in_two_processes() -> None:
    """A single test, since starting the processes is what takes its time."""
    by_rank = launch({"test_normalizer:scenarios": RANKS})["test_normalizer:scenarios"]
    for loss, scene, kind in CASES:
        expected = whole_batch(loss, SCENES[scene], NORMALIZERS[kind])
        assert any(each.abs().max() > 0 for each in expected[1:]) == any(SCENES[scene])
        check_whole_batch(by_rank, f"{loss}, {scene}, {kind}", expected)
    for scene, sizes in SCENES.items():
        check_whole_batch(by_rank, f"accumulated, {scene}", whole_batch("counts", sizes, Normalizer()))
    for index, rank in enumerate(by_rank):
        assert rank["one reduction"] == 1
        assert rank["by flag"].tolist() == [1, 4]  # of this rank alone
        assert rank["group"].tolist() == [0.5, 4.0]
        assert rank["total"].tolist() == [5.0, 0.5]
        # The sums over both ranks: of squares 3 + 12, of weights 3 + 6.
        value, gradient = rank["compiled"]
        assert value.item() == pytest.approx(2 * (3, 12)[index] / 9)
        torch.testing.assert_close(gradient, torch.full((3,), 2 * (2 * (1.0, 2.0)[index] / 9 - 15 / 81)))
        # Each rank has W / N, N = 3: their sum has the derivative -W W / N², and those together 2 W W W / N³.
        torch.testing.assert_close(rank["second derivative"], torch.tensor([-4 / 9, 16 / 27], dtype=torch.float64))


def check_whole_batch(by_rank: list[dict[str, Any]], name: str, expected: list[Tensor]) -> None:
    """The mean of the values, and on each rank the gradients, are those of the whole batch."""
    results = [rank[name] for rank in by_rank]
    mean = torch.stack([own[0] for own in results]).mean(0)
    torch.testing.assert_close(mean, expected[0], **EXACT, msg=lambda text: f"{name}: {text}")
    for own in results:
        torch.testing.assert_close(own[1:], expected[1:], **EXACT, msg=lambda text: f"{name}: {text}")


# --- in two threads ------------------------------------------------------------------------------------------------


def on_threads(function: Callable[[int], Any]) -> list[Any]:
    """What ``function`` gives on each rank, where ranks are threads that add up what they have in common memory."""
    own, met = threading.local(), threading.Barrier(RANKS, timeout=60)
    values: list[Any] = [None] * RANKS

    def all_reduce(tensor: Tensor, group: Any = None) -> None:
        values[own.rank] = tensor.clone()
        met.wait()
        tensor.copy_(torch.stack(values).sum(0))
        met.wait()

    def run(rank: int) -> Any:
        own.rank = rank
        try:
            return function(rank)
        except BaseException:
            met.abort()  # the others would wait
            raise

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(RANKS) as threads:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_world_size", lambda group=None: RANKS)
        patch.setattr(torch.distributed, "all_reduce", all_reduce)
        return list(threads.map(run, range(RANKS)))


def of_rank(rank: int, net: nn.Module, loss: str, sizes: tuple[int, ...], normalizer: Normalizer) -> list[Tensor]:
    """Value and gradients of one rank, which DDP would average."""
    images = slice(2 * rank, 2 * rank + 2)
    value = LOSSES[loss](net(features(images)), counts_of(images, sizes), normalizer)
    return [value.detach(), *torch.autograd.grad(value, list(net.parameters()))]


@pytest.mark.parametrize(("loss", "scene", "kind"), CASES)
def test_the_average_is_that_of_the_whole_batch(loss: str, scene: str, kind: str) -> None:
    sizes, normalizer = SCENES[scene], NORMALIZERS[kind]
    expected = whole_batch(loss, sizes, normalizer)
    nets = [model() for _ in range(RANKS)]  # not in the threads, which have one generator
    by_rank = on_threads(lambda rank: of_rank(rank, nets[rank], loss, sizes, normalizer))
    for wanted, *found in zip(expected, *by_rank, strict=True):
        torch.testing.assert_close(sum(found) / RANKS, wanted, **EXACT)


def test_what_ranks_divide_by() -> None:
    """The minimum is one of the whole batch, of which each rank has its part."""

    def divisors(rank: int) -> list[list[float]]:
        normalizer = Normalizer()
        by_flag = Normalizer(distributed=False)
        return [each([rank, 3, 0]).tolist() for each in (normalizer, normalizer.total, by_flag)]

    shared = [[0.5, 3.0, 0.5], [1.0, 6.0, 0.0]]
    found = on_threads(divisors)
    assert found == [[*shared, [1.0, 3.0, 1.0]]] * 2


def test_second_derivative_over_ranks() -> None:
    """Each rank has W / N, N = 3: their sum has the derivative -W W / N², and those together 2 W W W / N³."""
    wanted = torch.tensor([-4 / 9, 16 / 27], dtype=torch.float64)
    for found in on_threads(second_derivative):
        torch.testing.assert_close(found, wanted)


# --- in one process ------------------------------------------------------------------------------------------------


def test_forms_of_counts() -> None:
    normalizer = Normalizer(minimum=2)
    assert normalizer(torch.tensor(5)).tolist() == 5.0
    assert normalizer(7).tolist() == 7.0
    assert normalizer(torch.tensor([[0, 3], [1, 9]])).tolist() == [[2, 3], [2, 9]]
    assert normalizer([1, torch.tensor([4.0]), torch.tensor(True), 3.5]).tolist() == [2, 4, 2, 3.5]
    assert normalizer(torch.zeros(0)).shape == (0,)
    assert normalizer([0], device="cpu").tolist() == [2]
    assert normalizer.total([0, 9]).tolist() == [0, 9]
    assert normalizer(global_count=0.5).tolist() == 2
    assert normalizer([100, 1], global_count=torch.tensor([3, 4])).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.int64, torch.float32),
        (torch.bool, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtype(dtype: torch.dtype, expected: torch.dtype) -> None:
    count = torch.ones((), dtype=dtype)
    assert Normalizer()(count).dtype == Normalizer()([1, count]).dtype == expected
    assert Normalizer()(global_count=count).dtype == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Normalizer()([count, 3]).dtype == expected


def test_gradient_stops_at_the_minimum() -> None:
    weights = torch.tensor([0.2, 0.3], requires_grad=True)
    (gradient,) = torch.autograd.grad((1 / Normalizer()(weights.sum())), weights)
    assert gradient.tolist() == [0, 0]
    (gradient,) = torch.autograd.grad((1 / Normalizer()(10 * weights.sum())), weights)
    torch.testing.assert_close(gradient, torch.full((2,), -10 / 25))


@pytest.mark.graphs
def test_compiles() -> None:
    weights = torch.rand(4, requires_grad=True)

    def loss(weights: Tensor) -> Tensor:
        first, second = Normalizer(minimum=0.1)([weights.sum(), 3])
        return (weights**2).sum() / first + weights.sum() / second

    for backend in ("eager", "aot_eager"):
        value = torch.compile(loss, fullgraph=True, backend=backend)(weights)
        torch.testing.assert_close(value, loss(weights))
        torch.testing.assert_close(torch.autograd.grad(value, weights), torch.autograd.grad(loss(weights), weights))


def test_never_waits() -> None:
    assert_no_host_sync(lambda count, weights: Normalizer()([count, weights.sum(), 3]), torch.tensor(2), torch.rand(4))
    assert_no_host_sync(lambda count: Normalizer()(count, global_count=2 * count), torch.rand(4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Normalizer(minimum=0), ValueError, "minimum must be positive, since sums are divided by it, got 0"),
        (lambda: Normalizer(minimum=float("nan")), ValueError, "minimum must be finite, got nan"),
        (lambda: Normalizer()(), TypeError, "needs counts or global_count, got neither"),
        (lambda: Normalizer()([]), ValueError, "counts must not be an empty sequence"),
        (lambda: Normalizer()("3"), TypeError, "counts must be numbers or tensors, got str"),
        (lambda: Normalizer()([None]), TypeError, "counts must be numbers or tensors, got NoneType"),
        (
            lambda: Normalizer()([torch.zeros(2)]),
            ValueError,
            "counts in a sequence must have one element each, got shape (2,)",
        ),
        (
            lambda: Normalizer()([1, 2], global_count=3),
            ValueError,
            "global_count must have the shape of counts, (2,), got ()",
        ),
        (
            lambda: Normalizer()([torch.zeros(()), torch.zeros((), device="meta")]),
            ValueError,
            "every one of counts must be on the device of the first (cpu), got meta",
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
