"""No operation makes the host wait for the device, but those that say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ragged_ops import OPERATIONS, SYNCHRONISING, batch, indices, mask
from sync_free import HostSyncError, assert_no_host_sync

import ragged


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("size", [5, 0])
def test_operations_do_not_synchronise(name: str, size: int) -> None:
    operation = OPERATIONS[name]
    assert_no_host_sync(operation.function, *operation.arguments(size))


@pytest.mark.parametrize(
    "function",
    [
        lambda b: b.tensor.sum().item(),
        lambda b: b.tensor.nonzero(),
        lambda b: b.tensor[b.mask],
        lambda b: b.tensor.cpu() if b.device.type == "meta" else b.tensor.tolist(),
        lambda b: b.tensor + 1 if b.mask.any() else b.tensor,
        lambda b: b.split(),
        lambda b: b.total_num_entries,
        lambda b: ragged.pack(b),
        lambda b: ragged.get_indices_from_mask(b.mask),
        lambda b: b.equal(b),
        lambda b: ragged.RaggedBatch.from_oversize_tensor(b.tensor, sample_sizes=b.sample_sizes),
    ],
)
def test_the_proof_catches_what_synchronises(function: Callable[[Any], Any]) -> None:
    with pytest.raises(HostSyncError):
        assert_no_host_sync(function, batch(5))


def test_every_public_operation_is_proved_or_excepted() -> None:
    called = {name for operation in OPERATIONS.values() for name in _names_used(operation.function)} | set(OPERATIONS)
    missing = {name for name in ragged.__all__ if name not in called} - SYNCHRONISING
    assert missing == set()


def _names_used(function: Callable[..., Any]) -> set[str]:
    code = getattr(function, "__code__", None)
    return {getattr(function, "__name__", "")} | set(code.co_names if code else ())


def test_garbage_in_index_filler_is_in_the_arguments() -> None:
    drawn = indices(50)
    assert (drawn.tensor[~drawn.mask] == -7).all()
    assert mask(9).dtype == torch.bool
