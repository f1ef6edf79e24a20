"""Every operation in one graph, whatever the sizes, with the values and gradients of eager execution."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from effort import mostly_thorough, thorough
from ragged_ops import batch, indices, mask
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, vmap
from torch.utils import _pytree as pytree
from versions import needs_torch_for

import ragged
from ragged import RaggedBatch, batched_indexing_access, sum_over_targets

pytestmark = pytest.mark.graphs

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


CORE: dict[str, tuple[Callable[..., Any], Callable[[int], tuple[Any, ...]]]] = {
    "access": (batched_indexing_access, lambda n: (batch(n, 4).tensor, indices(n))),
    "write": (ragged.batched_indexing_write, lambda n: (batch(n, 4).tensor, indices(n), batch(n, 4).tensor)),
    "bool access": (
        lambda b, m: ragged.batched_bool_indexing(b, m, max_size=m.shape[1]),
        lambda n: (batch(n, 4), mask(n)),
    ),
    "cat_targets": (lambda a, b: ragged.cat_targets([a, b]), lambda n: (batch(n), batch(n + 2))),
    "softmax": (ragged.softmax_over_targets, lambda n: (batch(n, 4),)),
    "arithmetic": (lambda b: 1 / (torch.exp(b * 2) + torch.log(b) * b), lambda n: (batch(n, 4),)),
}


@pytest.mark.parametrize("name", mostly_thorough(CORE, usual=["access", "bool access", "arithmetic"]))
def test_one_graph_for_all_sizes(name: str) -> None:
    """Also for 0 and 1; the registry has the other operations."""
    function, make = CORE[name]
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    for size in SIZES:
        arguments = make(size)
        expected = outcome(function, arguments)
        for computed, reference in zip(outcome(compiled, arguments), expected, strict=True):
            torch.testing.assert_close(computed, reference, equal_nan=True)
    assert counter.frame_count <= MOST_GRAPHS


@thorough
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


def of_sizes(*sizes: int) -> RaggedBatch:
    return RaggedBatch(torch.ones(len(sizes), 3), sample_sizes=torch.tensor(sizes))


TOO_BIG, ROWS = torch.tensor([[0], [3]]), torch.ones(2, 3)
TWICE = torch.tensor([[1, 1]])
BAD_VALUES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "write": (ragged.batched_indexing_write, (torch.ones(2, 1), TOO_BIG, ROWS), "an index is out of range"),
    "inverse": (
        lambda data, index: ragged.batched_inverse_indexing_access(data, index, 3),
        (torch.ones(2, 1), TOO_BIG),
        "an index is out of range",
    ),
    "mapping": (ragged.batched_index_mapping, (ROWS, TOO_BIG, TOO_BIG * 0, ROWS), "an index is out of range"),
    "negative": (batched_indexing_access, (ROWS, TOO_BIG - 1), "an index is out of range"),
    "beyond the sample": (batched_indexing_access, (of_sizes(2, 3), TOO_BIG * 0 + 2), "an index is out of range"),
    "duplicates": (
        lambda *args: ragged.batched_indexing_write(*args, check_duplicates=True),
        (torch.ones(1, 2), TWICE, torch.ones(1, 3)),
        "an index occurs more than once",
    ),
    "mask from indices": (lambda i: ragged.get_mask_from_indices(3, i), (TOO_BIG,), "an index is out of range"),
    "indices from mask": (
        lambda m: ragged.get_indices_from_mask(m, max_size=1),
        (ROWS.bool(),),
        "must be at least the number of true entries",
    ),
    "bool write": (ragged.batched_bool_indexing_write, (of_sizes(1, 1), ROWS.bool(), ROWS), "sample sizes differ"),
    "less padding": (lambda b: b.with_max_sample_size(1), (of_sizes(2, 0),), "max_size must be at least the size"),
    "arithmetic": (lambda a, b: a * b, (of_sizes(2, 3), of_sizes(2, 2)), "sample sizes differ"),
    "weights": (ragged.average_over_targets, (of_sizes(2, 3), of_sizes(2, 2)), "sample sizes differ"),
    "mask": (lambda t, m: RaggedBatch(t, m), (ROWS, ROWS.bool() & (torch.arange(3) > 0)), "mask is not valid-first"),
    "mask and sizes": (
        lambda t, m: RaggedBatch(t, m, m.sum(-1) - 1),
        (ROWS, ROWS.bool()),
        "does not fit sample_sizes",
    ),
    "unpack": (
        lambda v, s: ragged.unpack(v, s, max_size=3),
        (torch.ones(4), torch.tensor([2, 3])),
        "sample_sizes must add up",
    ),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_every_check_of_values_is_in_the_graph(name: str) -> None:
    function, arguments, words = BAD_VALUES[name]
    with pytest.raises(RuntimeError, match=words):
        torch.compile(function, fullgraph=True, backend="aot_eager")(*arguments)


@needs_torch_for("checks of values in machine code")
def test_values_are_checked_in_machine_code() -> None:
    compiled = torch.compile(batched_indexing_access, fullgraph=True)
    good = torch.tensor([[0], [2]])
    assert torch.equal(compiled(ROWS, good).tensor, torch.ones(2, 1))
    with pytest.raises(RuntimeError, match="batched_indexing_access: an index is out of range"):
        compiled(ROWS, good + 1)


def test_batches_pass_into_through_and_out_of_a_graph() -> None:
    def function(boxes: RaggedBatch, others: dict[str, RaggedBatch]) -> tuple[RaggedBatch, dict[str, Any]]:
        padded = RaggedBatch(boxes.tensor * 2, sample_sizes=boxes.sample_sizes)
        assert not others or padded.num_batch_dims == 1
        weights = torch.where(others["weights"] > 0.5, others["weights"], 0)
        return padded + boxes, {"sum": sum_over_targets(weights), "weights": weights, "size": boxes.max_sample_size}

    boxes = batch(6, 4)
    arguments = (boxes, {"weights": boxes.create_with_sample_sizes_like_self(torch.rand(3, 6))})
    (computed, parts), (expected, reference) = (
        each(*arguments) for each in (torch.compile(function, fullgraph=True, backend="aot_eager"), function)
    )
    assert isinstance(computed, RaggedBatch) and computed.equal(expected)
    assert parts["weights"].equal(reference["weights"]) and parts["size"] == 6
    torch.testing.assert_close(parts["sum"], reference["sum"])


@pytest.mark.parametrize("argument", [0, 2])
def test_both_data_arguments_of_a_write_are_differentiated(argument: int) -> None:
    data = [batch(5, 4).tensor, indices(5), batch(5, 4).tensor]
    data[argument].requires_grad_()
    compiled = torch.compile(ragged.batched_indexing_write, fullgraph=True, backend="aot_eager")
    gradients = [
        torch.autograd.grad(function(*data).square().sum(), data[argument])[0]
        for function in (compiled, ragged.batched_indexing_write)
    ]
    torch.testing.assert_close(*gradients)


DERIVATIVES = [
    pytest.param(grad, id="grad"),
    pytest.param(
        lambda f: vmap(grad(f)),
        id="vmap(grad)",
        marks=pytest.mark.xfail(strict=True, reason="a compiled value check does not see the vmap below a grad"),
    ),
    pytest.param(vmap, id="vmap", marks=needs_torch_for("vmap of a checked operation in a graph")),
]


@pytest.mark.parametrize("transform", DERIVATIVES)
def test_transforms_can_be_compiled(transform: Callable[..., Any]) -> None:
    def function(data: Tensor, index: RaggedBatch) -> Tensor:
        return sum_over_targets(batched_indexing_access(data, index) ** 2).sum()

    data, index = torch.randn(3, 5, 2), indices(5)
    expected = grad(function)(data, index)
    if transform is vmap:
        expected = sum_over_targets(batched_indexing_access(data, index) ** 2).sum(-1)
    compiled = torch.compile(transform(function), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(data, index), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_sizes_of_an_exported_module_may_vary(strict: bool) -> None:
    class Model(nn.Module):
        def forward(self, boxes: RaggedBatch) -> RaggedBatch:
            return ragged.softmax_over_targets(boxes * 2)

    auto = torch.export.Dim.AUTO
    shapes = ([{1: auto}, {1: auto}, None],)
    program = torch.export.export(Model(), (batch(5, 4),), dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for size in (2, 9):
        boxes = batch(size, 4)
        assert loaded(boxes).allclose(Model()(boxes))


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
