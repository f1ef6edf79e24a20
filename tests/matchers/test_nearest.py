"""The nearest priors, found among few tiles, are those that are found among all, ties and rounding included."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from matchers import ATSS, Assignment, Targets, anchors
from matchers.dense import nearest

SIDE = 128
SIZES = [256, 64, 16]
ANCHORS = anchors((SIDE, SIDE), [8, 16, 32])


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_MANY_PRIORS", 0)
    monkeypatch.setattr(nearest, "_MANY_PAIRS", 0)


def boxes(count: int, seed: int, *, step: float = 0.0, spread: float = 1.0) -> Tensor:
    """Around centres on a grid of so many pixels, which tie, in an image, or ``spread`` times as far around it."""
    generator = torch.Generator().manual_seed(seed)
    middle = (torch.rand(count, 2, generator=generator) - 0.5) * SIDE * spread + SIDE / 2
    sides = torch.rand(count, 2, generator=generator) * 40 + 2
    if step:
        middle, sides = (middle / step).round() * step, (sides / step).round().clamp(min=1) * step
    return torch.cat([middle - sides / 2, middle + sides / 2], -1)


def both(targets: Targets, priors: Tensor, sizes: Sequence[int] | None, *, topk: int) -> tuple[Assignment, Assignment]:
    """With tiles, and among all priors."""
    matcher = ATSS(topk=topk)
    found = matcher(None, targets, priors, level_sizes=sizes)
    with pytest.MonkeyPatch.context() as context:
        context.setattr(nearest.Nearest, "_can_be_narrowed", lambda *_: False)
        return found, matcher(None, targets, priors, level_sizes=sizes)


def check_same(found: Assignment, expected: Assignment) -> None:
    assert torch.equal(found.target_index, expected.target_index)
    assert torch.equal(found.quality, expected.quality)


@pytest.mark.parametrize("topk", [1, 9, 16, 17, 40])
@pytest.mark.parametrize("step", [0.0, 4.0])
@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_tiles_change_nothing(topk: int, step: float, spread: float) -> None:
    of_images = [boxes(count, count, step=step, spread=spread) for count in (7, 0, 30)]
    targets = Targets.of((of_images, [torch.zeros(len(each), dtype=torch.int64) for each in of_images]))
    check_same(*both(targets, ANCHORS, SIZES, topk=topk))
    check_same(*both(targets, ANCHORS, None, topk=topk))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 250])
def test_priors_in_any_order_and_number(count: int) -> None:
    shuffled = ANCHORS[torch.randperm(len(ANCHORS), generator=torch.Generator().manual_seed(count))][:count]
    targets = Targets.of(([boxes(20, 3, step=8.0)], [torch.zeros(20, dtype=torch.int64)]))
    check_same(*both(targets, shuffled, None, topk=3))


def test_the_same_centres_again_and_again() -> None:
    targets = Targets.of(([boxes(10, 5, step=8.0)], [torch.zeros(10, dtype=torch.int64)]))
    check_same(*both(targets, ANCHORS[:40].repeat_interleave(8, 0), None, topk=9))


@pytest.mark.parametrize("far", [1e17, 1e20, 3e38])
def test_squares_that_are_not_finite(far: float) -> None:
    box = torch.cat([boxes(5, 1), torch.tensor([[0.0, 0.0, far, far], [far / 2, far / 2, far, far]])])
    targets = Targets.of(([box], [torch.zeros(7, dtype=torch.int64)]))
    check_same(*both(targets, ANCHORS, SIZES, topk=9))


def test_few_pairs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a target and a prior: some of the nearest tiles, not the whole level."""
    compared: list[int] = []
    monkeypatch.setattr(
        nearest,
        "squared_center_distance",
        lambda points, gt, real=nearest.squared_center_distance: _noted(compared, real(points, gt)),
    )
    priors = anchors((1024, 1024), [8])
    targets = Targets.of(([boxes(50, 2, spread=7.0)], [torch.zeros(50, dtype=torch.int64)]))
    ATSS()(None, targets, priors)
    assert sum(compared) < 50 * len(priors) / 10


def _noted(compared: list[int], distance: Tensor) -> Tensor:
    compared.append(distance.numel())
    return distance
