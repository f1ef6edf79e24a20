"""On a CUDA device: what synchronises and what does not, and moves; values are in test_registry_cuda.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from ragged_ops import batch

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
