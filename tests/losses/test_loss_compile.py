"""Every unreduced loss compiles to one graph, forward and backward."""

from __future__ import annotations

import pytest
import torch
from loss_cases import EVERY_LOSS, Case, generator, gradients
from torch import Tensor

from losses.mining import hard_negative_mining
from ragged.testing import assert_no_host_sync

# Hyper-parameters make little difference to a graph.
ONE_OF_EACH: dict[str, Case] = {
    f"{each.values[0].function.__name__}[{each.values[0].make.__name__}]": each.values[0] for each in EVERY_LOSS
}


@pytest.mark.parametrize("loss", ONE_OF_EACH.values(), ids=ONE_OF_EACH)
def test_compiles_as_one_graph(loss: Case) -> None:
    torch._dynamo.reset()
    inputs, constants = loss.make((4,), 7)

    def call(inputs: tuple[Tensor, ...], constants: dict[str, Tensor]) -> Tensor:
        return loss.function(*inputs, **constants, **loss.options)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    leaves = tuple(each.clone().requires_grad_() for each in inputs)
    values = compiled(leaves, constants)
    torch.testing.assert_close(values, loss(*inputs, **constants))
    found = torch.autograd.grad(values.sum(), leaves)
    for one, other in zip(found, gradients(loss, inputs, constants), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("soft", [False, True])
def test_mining_compiles_and_does_not_synchronise(soft: bool) -> None:
    torch._dynamo.reset()
    losses = torch.rand(3, 20, generator=generator(0))
    positive = torch.rand(3, 20, generator=generator(1))
    positive = positive if soft else positive > 0.8
    call = lambda losses, positive: hard_negative_mining(losses, positive, ratio=2.0)  # noqa: E731
    assert torch.equal(torch.compile(call, fullgraph=True, backend="eager")(losses, positive), call(losses, positive))
    assert_no_host_sync(call, losses, positive)
