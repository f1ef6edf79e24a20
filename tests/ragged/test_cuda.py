"""On a CUDA device: the values of the CPU, without a synchronisation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from ragged_ops import OPERATIONS, batch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged import RaggedBatch, combine_data

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
