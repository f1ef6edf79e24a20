"""Every operation in one graph, whatever the sizes, with the values and gradients of eager execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ragged_ops import OPERATIONS, Operation, batch, indices
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree as pytree

from ragged import RaggedBatch, batched_indexing_access, sum_over_targets

SIZES = (7, 9, 100, 3, 1, 0, 2, 50)
# One for the first size, one for all others, and one each for 0 and 1, which torch always treats apart.
MOST_GRAPHS = 5


@pytest.fixture(autouse=True)
def _forget_graphs() -> None:
    torch._dynamo.reset()


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Tensor]:
    """The results, and the gradient of the first argument if it has one; filler does not count."""
    leaves, structure = pytree.tree_flatten(arguments)
    first = leaves[0]
    if first.dtype.is_floating_point:
        first = leaves[0] = first.detach().requires_grad_()
    result = function(*pytree.tree_unflatten(leaves, structure))
    parts = [
        part.with_padded_set_to(0).tensor if isinstance(part, RaggedBatch) else part
        for part in pytree.tree_leaves(result, is_leaf=lambda node: isinstance(node, RaggedBatch))
    ]
    differentiable = [torch.where(part.isfinite(), part, 0).sum() for part in parts if part.requires_grad]
    if not differentiable:
        return parts
    (gradient,) = torch.autograd.grad(torch.stack(differentiable).sum(), first)
    return [*(part.detach() for part in parts), gradient]


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_graph_for_all_sizes(name: str) -> None:
    operation: Operation = OPERATIONS[name]
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(operation.function, fullgraph=True, backend=counter)
    for size in SIZES:
        arguments = operation.arguments(size)
        expected = outcome(operation.function, arguments)
        for computed, reference in zip(outcome(compiled, arguments), expected, strict=True):
            torch.testing.assert_close(computed, reference, equal_nan=True)
    assert counter.frame_count <= MOST_GRAPHS


def test_machine_code_for_a_chain_of_operations() -> None:
    def function(data: Tensor, index: RaggedBatch) -> Tensor:
        picked = batched_indexing_access(data, index)
        return sum_over_targets(torch.exp(picked) * picked)

    compiled = torch.compile(function, fullgraph=True)
    for size in (5, 8, 1):
        arguments = (batch(size, 96).tensor, indices(size))
        for computed, reference in zip(outcome(compiled, arguments), outcome(function, arguments), strict=True):
            torch.testing.assert_close(computed, reference)


def test_bad_values_raise_in_a_compiled_graph() -> None:
    compiled = torch.compile(batched_indexing_access, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match="batched_indexing_access: an index is out of range"):
        compiled(torch.ones(2, 3), torch.tensor([[0], [3]]))
    with pytest.raises(RuntimeError, match="a sample size is negative or larger"):
        torch.compile(lambda t, s: RaggedBatch(t, sample_sizes=s), backend="aot_eager")(
            torch.ones(1, 2), torch.tensor([3])
        )


def test_a_module_that_takes_a_batch_can_be_exported() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, boxes: RaggedBatch) -> Tensor:
            return sum_over_targets(boxes.apply(self.linear) * 2)

    model, boxes = Model(), batch(5, 4)
    exported = torch.export.export(model, (boxes,)).module()
    torch.testing.assert_close(exported(boxes), model(boxes))
