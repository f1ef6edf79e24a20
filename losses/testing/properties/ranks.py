"""Two ranks, without a process group: what a criterion adds up over ranks is answered by what the other has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed, nn

from losses.testing.case import CriterionCase
from losses.testing.properties.comparing import expect, expect_same
from losses.testing.properties.weighing import shares

RANKS = 2


def ranks(case: CriterionCase) -> None:
    """The mean over ranks of gradients is the gradient of the whole batch: counts are added up over the ranks."""
    criterion: Any = case.make()
    predictions, targets = case.scene([3, 6])
    alone = case.losses(criterion, predictions, targets)
    with two_ranks(criterion, lambda tensor: tensor * RANKS):
        equal = case.losses(criterion, predictions, targets)
    claim = "on one of two ranks with the same images, then alone"
    expect_same((equal, []), (alone, []), claim, 1e-4)
    with two_ranks(criterion, lambda tensor: tensor.clone()):
        beside_nothing = case.losses(criterion, predictions, targets)
    for name, share in shares(case).items():
        if share is None or abs(share - 0.5) < 1e-3:
            continue  # images are averaged, as ranks are
        found, expected = beside_nothing[name].detach().sum(), RANKS * alone[name].detach().sum()
        expect(
            bool(torch.isclose(found, expected, rtol=1e-4, atol=1e-6)),
            f"the term {name} on one of two ranks, of which the other has no target, is {found.item():.6g}, expected "
            f"{expected.item():.6g}: the count of the batch must be added up over the ranks; Normalizer does that",
        )


@contextlib.contextmanager
def two_ranks(criterion: nn.Module, summed: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """``torch.distributed`` as on rank 0 of two: ``summed`` gives the sum of a tensor over both."""

    def all_reduce(tensor: Tensor, op: Any = None, group: Any = None, async_op: bool = False) -> Any:
        found = tensor.detach()
        if op in (None, distributed.ReduceOp.SUM):
            found = summed(found)
        elif op == distributed.ReduceOp.AVG:
            found = summed(found) / RANKS
        tensor.data.copy_(found)
        return mock.Mock() if async_op else None

    def all_gather(tensors: list[Tensor], tensor: Tensor, *_: Any, **__: Any) -> None:
        for place, each in enumerate((tensor, summed(tensor.detach()) - tensor.detach())):
            tensors[place].copy_(each)

    stand_ins: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "get_world_size": lambda group=None: RANKS,
        "get_rank": lambda group=None: 0,
        "all_reduce": all_reduce,
        "all_gather": all_gather,
        "barrier": lambda *_, **__: None,
    }
    with contextlib.ExitStack() as stack:
        originals = {id(getattr(distributed, name)): stand_in for name, stand_in in stand_ins.items()}
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(distributed, name, stand_in))
        # Functions that a module of the criterion has imported by name.
        for module in {type(each).__module__ for each in criterion.modules()}:
            values = vars(sys.modules[module]) if module in sys.modules else {}
            for name, value in list(values.items()):
                if id(value) in originals and callable(value):
                    stack.enter_context(mock.patch.dict(values, {name: originals[id(value)]}))
        yield
