"""What a criterion says to the other ranks: one sum of a handful of numbers in a step, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION
from cases.common import cast
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from losses import total

RANKS = 2
SIZES = [[3, 0, 2], [0, 5, 1]]
# D-FINE has the most counts: 7.
MOST_BYTES = 64

Collectives = list[tuple[str, int]]


class Listening(TorchDispatchMode):
    """Notes name and bytes of every collective, whoever calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Collectives = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "c10d" in func.namespace:
            tensors = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]
            self.heard.append((func.name().partition("::")[2], sum(each.nbytes for each in tensors)))
        return func(*args, **(kwargs or {}))


def on_rank(rank: int, num_ranks: int) -> dict[str, Collectives]:
    found = {}
    for name, case in EVERY_CRITERION.items():
        predictions, targets = cast(case.predictions(SIZES[rank]), torch.float32), case.targets(SIZES[rank])
        with Listening() as listening:
            total(case.losses(case.make(), predictions, targets)).backward()
        found[name] = listening.heard
    with Listening() as listening:
        torch.distributed.all_reduce(torch.zeros(3))
        torch.distributed.broadcast(torch.zeros(2, dtype=torch.int64), 0)
    found["two of our own"] = listening.heard
    return found


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_one_small_sum_in_a_step(name: str, by_rank: list[dict[str, Collectives]]) -> None:
    for found in by_rank:
        ((operation, num_bytes),) = found[name]
        assert operation == "allreduce_"
        assert 0 < num_bytes <= MOST_BYTES


def test_every_collective_is_heard(by_rank: list[dict[str, Collectives]]) -> None:
    assert by_rank[0]["two of our own"] == [("allreduce_", 12), ("broadcast_", 16)]
