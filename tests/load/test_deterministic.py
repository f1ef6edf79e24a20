"""Criteria and matchers in deterministic mode; operations are in ``tests/test_registry.py``."""

from __future__ import annotations

import pytest
import torch
from cases import EVERY_CRITERION, EVERY_MATCHER, ON_THE_HOST, scene
from determinism import assert_deterministic_on_a_device, assert_repeats, deterministic, moved
from runs import run_criterion, run_matcher
from torch import Tensor

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

pytestmark = pytest.mark.hunts

SIZES = [3, 0, 1, 6]

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


@each_device
@pytest.mark.parametrize("reduction", ["mean", "sample"])
@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_criteria(name: str, reduction: str, device: str) -> None:
    case = EVERY_CRITERION[name]
    criterion = case.make(reduction=reduction).to(device)
    predictions, targets = moved((case.predictions(SIZES), case.targets(SIZES)), device)
    assert_repeats(lambda: run_criterion(case, criterion, predictions, targets), name, device)


@each_device
@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_matchers(name: str, device: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = moved(scene(5, 0, 30, 1), device)
    assert_repeats(lambda: run_matcher(matcher, moved(priors, device), predictions, targets), name, device)


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

    assert_repeats(run, "", device)


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

    assert_repeats(run, "", device)


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_what_criteria_do_on_a_device(name: str) -> None:
    case = EVERY_CRITERION[name]
    criterion = case.make().to("meta")
    predictions, targets = moved((case.predictions(SIZES), case.targets(SIZES)), "meta")
    assert_deterministic_on_a_device(lambda: run_criterion(case, criterion, predictions, targets), name)


@pytest.mark.parametrize("name", [name for name in EVERY_MATCHER if name not in ON_THE_HOST])
def test_what_matchers_do_on_a_device(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = moved(scene(5, 0, 30, 1), "meta")
    assert_deterministic_on_a_device(lambda: run_matcher(matcher, moved(priors, "meta"), predictions, targets), name)


def test_the_mode_is_on() -> None:
    """What torch has no deterministic way for raises."""
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.empty(3).isnan().all()
