"""On a CUDA device: the values of the CPU, without a synchronisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from ragged_ops import OPERATIONS, batch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged import RaggedBatch, combine_data, get_indices_from_mask, pack

DEVICE = "cuda"

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def _syncs_raise() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def _filled(result: object) -> list[Tensor]:
    nodes = pytree.tree_leaves(result, is_leaf=lambda node: isinstance(node, RaggedBatch))
    return [node.with_padded_set_to(0).tensor if isinstance(node, RaggedBatch) else node for node in nodes]


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"combine_data", "batch dimensions"}))
def test_values_of_the_cpu_without_a_synchronisation(name: str) -> None:
    operation = OPERATIONS[name]
    arguments = operation.arguments(7)
    on_device = pytree.tree_map(lambda leaf: leaf.cuda(), arguments)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        computed = operation.function(*on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(_filled(computed), _filled(operation.function(*arguments)), strict=True):
        torch.testing.assert_close(one.cpu(), other)


def _gradient(function: Callable[..., object], arguments: tuple[object, ...]) -> Tensor | None:
    """The gradient of the first tensor among the arguments, if the results have one."""
    leaves, structure = pytree.tree_flatten(arguments)
    if not leaves[0].is_floating_point():
        return None
    first = leaves[0] = leaves[0].detach().requires_grad_()
    parts = [part for part in _filled(function(*pytree.tree_unflatten(leaves, structure))) if part.requires_grad]
    if not parts:
        return None
    # The result for an empty sample may be infinite.
    (gradient,) = torch.autograd.grad(sum(torch.where(part.isfinite(), part, 0).sum() for part in parts), first)
    return gradient


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"combine_data"}))
def test_gradients_of_the_cpu_without_a_synchronisation(name: str) -> None:
    operation = OPERATIONS[name]
    arguments = operation.arguments(7)
    on_device = pytree.tree_map(lambda leaf: leaf.to(DEVICE), arguments)
    expected = _gradient(operation.function, arguments)
    torch.cuda.set_sync_debug_mode("error")
    try:
        computed = _gradient(operation.function, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (computed is None) == (expected is None)
    if computed is not None and expected is not None:
        torch.testing.assert_close(computed.cpu(), expected)


@pytest.mark.parametrize(
    "function",
    [lambda b: b.split(), pack, lambda b: b.total_num_entries, lambda b: get_indices_from_mask(b.mask)],
    ids=["split", "pack", "total_num_entries", "get_indices_from_mask"],
)
def test_what_is_documented_to_synchronise_does(function: Callable[[RaggedBatch], object]) -> None:
    boxes = batch(7, 4).to(DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            function(boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("_syncs_raise")
def test_backward_without_a_synchronisation() -> None:
    boxes = batch(7, 4)
    torch.cuda.set_sync_debug_mode("default")
    boxes = boxes.cuda().requires_grad_()
    torch.cuda.set_sync_debug_mode("error")
    (torch.exp(boxes) * boxes).with_padded_set_to(0).tensor.sum().backward()
    assert boxes.tensor.grad is not None


def test_pinned_memory_and_moves() -> None:
    batch = combine_data([[1.0, 2.0], [3.0]])
    pinned = batch.pin_memory()
    assert pinned.tensor.is_pinned() and pinned.mask.is_pinned() and pinned.sample_sizes.is_pinned()
    moved = pinned.cuda(non_blocking=True)
    assert moved.mask.is_cuda and moved.sample_sizes.is_cuda
    assert moved.cpu().equal(batch)
