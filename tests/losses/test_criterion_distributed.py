"""Criteria in several processes: the average over the ranks is the loss, and the gradient, of the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION
from cases.common import cast
from distributed_worker import launch
from torch import Tensor

from losses import Normalizer, total
from losses.testing import leaves_of, take, take_targets

RANKS = 2
SCENES = {
    "usual": [3, 0, 1, 6],
    "rank 1 without targets": [3, 0, 2, 0],
    "fewer targets than ranks": [0, 1, 0, 0],
    "no targets": [0, 0, 0, 0],
}

Result = tuple[dict[str, Tensor], list[Tensor]]


def of_images(name: str, sizes: list[int], images: list[int], normalizer: Normalizer | None = None) -> Result:
    case = EVERY_CRITERION[name]
    predictions = cast(take(case.predictions(sizes), images), torch.float64)
    targets = take_targets(case.targets(sizes).to(torch.float64), images)
    losses = case.losses(case.make(normalizer=normalizer), predictions, targets)
    gradients = torch.autograd.grad(total(losses), leaves_of(predictions))
    return {key: value.detach() for key, value in losses.items()}, list(gradients)


def on_rank(rank: int, num_ranks: int) -> dict[tuple[str, str], Result]:
    own = list(range(rank, len(SCENES["usual"]), num_ranks))
    return {(name, scene): of_images(name, sizes, own) for name in EVERY_CRITERION for scene, sizes in SCENES.items()}


@pytest.fixture(scope="module")
def by_rank() -> list[Any]:
    return launch("test_criterion_distributed:on_rank", RANKS)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_average_over_ranks(name: str, scene: str, by_rank: list[Any]) -> None:
    sizes = SCENES[scene]
    values, gradients = of_images(name, sizes, list(range(len(sizes))), Normalizer(distributed=False))
    found = [rank[name, scene] for rank in by_rank]
    for key, value in values.items():
        torch.testing.assert_close(sum(each[0][key] for each in found) / RANKS, value, rtol=1e-9, atol=1e-12)
    for index, gradient in enumerate(gradients):
        whole = torch.empty_like(gradient)
        for rank, each in enumerate(found):
            whole[rank::RANKS] = each[1][index] / RANKS
        torch.testing.assert_close(whole, gradient, rtol=1e-9, atol=1e-12)
