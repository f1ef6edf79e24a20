"""Deterministic mode: nothing that torch calls nondeterministic is used, and two runs agree to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION, EVERY_MATCHER, ON_THE_HOST, RAISES_ON_CUDA, scene
from registry import operations
from runs import assert_same_bits, run_criterion, run_matcher, run_operation
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from losses import (
    DetectionLoss,
    FocalLoss,
    GIoULoss,
    HardMiningCrossEntropyLoss,
    L1Loss,
    hard_negative_mining,
    total,
)
from matchers import BalancedSinkhorn

SIZES = [3, 0, 1, 6]
# They give numbers, which are the same or not.
NUMBERS = ("RaggedBatch.largest_sample_size", "RaggedBatch.total_num_entries")
OPERATIONS = {name: entry for name, entry in operations() if name not in NUMBERS}
# On CUDA torch has no deterministic sum of floats up to each place.
RAISING = RAISES_ON_CUDA | {"cumsum_over_targets"}

each_device = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Uninitialised memory is filled with NaN, too, so that nothing can depend on it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def moved(values: Any, device: str) -> Any:
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, values)


def raises_on(device: str, name: str) -> bool:
    return device != "cpu" and name.partition("[")[0] in RAISING


def check(run: Callable[[], list[Tensor]], *, raises: bool = False) -> None:
    if raises:
        with pytest.raises(RuntimeError, match="cumsum"):
            run()
        return
    expected = run()
    for _ in range(2):
        assert_same_bits(run(), expected)


@each_device
@pytest.mark.parametrize("reduction", ["mean", "sample"])
@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_criteria(name: str, reduction: str, device: str) -> None:
    case = EVERY_CRITERION[name]
    criterion = case.make(reduction=reduction).to(device)
    predictions, targets = moved((case.predictions(SIZES), case.targets(SIZES)), device)
    check(lambda: run_criterion(case, criterion, predictions, targets), raises=raises_on(device, name))


@each_device
@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_matchers(name: str, device: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = moved(scene(5, 0, 30, 1), device)
    check(lambda: run_matcher(matcher, moved(priors, device), predictions, targets))


@each_device
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str, device: str) -> None:
    entry = OPERATIONS[name]
    arguments = moved((*entry.arguments(), *entry.shared), device)
    check(lambda: run_operation(entry.function, arguments), raises=raises_on(device, name))


@each_device
def test_a_prediction_of_many_targets(device: str) -> None:
    """Sums over pairs, of which a prediction has many: the order is what differs from run to run."""
    predictions, targets = moved(scene(40, 0, 25), device)
    leaves = {key: value.clone().requires_grad_() for key, value in predictions.items()}
    criterion = DetectionLoss(FocalLoss(), GIoULoss(), BalancedSinkhorn(), "none")
    plain = DetectionLoss(L1OfLogits(), L1Loss(), BalancedSinkhorn(), "none")

    def run() -> list[Tensor]:
        values = [each(leaves, targets) for each in (criterion, plain)]
        return [*values, *torch.autograd.grad(total(dict(enumerate(values))), list(leaves.values()))]

    check(run)


class L1OfLogits(torch.nn.Module):
    """A loss that is not of this toolkit."""

    reduction = "none"

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return (logits - targets).abs().sum(-1)


@each_device
def test_hard_negatives_with_ties(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    hardness = moved(torch.rand(3, 50, generator=generator).mul(4).round(), device)
    labels = moved(torch.randint(-1, 3, (3, 50), generator=generator), device)
    logits = moved(torch.randn(3, 4, 50, generator=generator).mul(2).round(), device)

    def run() -> list[Tensor]:
        mined = hard_negative_mining(hardness, labels > 0, ratio=1.5, negative=labels == 0)
        leaf = logits.clone().requires_grad_()
        value = HardMiningCrossEntropyLoss(1.5)(leaf, labels)
        return [mined, value, *torch.autograd.grad(value.sum(), leaf)]

    check(run)


class _RejectNondeterministic(TorchDispatchMode):
    """Rejects what torch calls nondeterministic on CUDA, on any device."""

    NAMES = ("index_reduce", "index_reduce_", "kthvalue", "median", "nanmedian", "histc", "put_", "bincount")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        of_floats = bool(args) and isinstance(args[0], Tensor) and args[0].is_floating_point()
        if name in self.NAMES or (name in ("cumsum", "cumsum_") and of_floats):
            raise RuntimeError(f"{name} is not deterministic on CUDA")
        return func(*args, **(kwargs or {}))


def check_on_device(run: Callable[[], list[Tensor]], name: str) -> None:
    with _RejectNondeterministic():
        if not raises_on("meta", name):
            assert run()
            return
        with pytest.raises(RuntimeError, match="cumsum is not deterministic"):
            run()


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_what_criteria_do_on_a_device(name: str) -> None:
    case = EVERY_CRITERION[name]
    criterion = case.make().to("meta")
    predictions, targets = moved((case.predictions(SIZES), case.targets(SIZES)), "meta")
    check_on_device(lambda: run_criterion(case, criterion, predictions, targets), name)


@pytest.mark.parametrize("name", [name for name in EVERY_MATCHER if name not in ON_THE_HOST])
def test_what_matchers_do_on_a_device(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = moved(scene(5, 0, 30, 1), "meta")
    check_on_device(lambda: run_matcher(matcher, moved(priors, "meta"), predictions, targets), name)


@pytest.mark.parametrize("name", [name for name, entry in OPERATIONS.items() if "synchronisation" not in entry.without])
def test_what_operations_do_on_a_device(name: str) -> None:
    entry = OPERATIONS[name]
    arguments = moved((*entry.arguments(), *entry.shared), "meta")
    check_on_device(lambda: run_operation(entry.function, arguments), name)


def test_the_mode_is_on() -> None:
    """What torch has no deterministic way for raises."""
    assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.empty(3).isnan().all()
