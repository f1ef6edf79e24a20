"""Options of operations that make no host wait for the device, and the proof itself; the registry has the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ragged_ops import batch, indices, mask
from torch import Tensor

import ragged
from ragged.testing import HostSyncError, assert_no_host_sync

METHODS: dict[str, Callable[[Any], Any]] = {
    "empty": lambda b: ragged.RaggedBatch.empty((2, 3), (4,), device=b.device),
    "conversions": lambda b: b.double().to(torch.float32).clone().detach().to_device(b.device),
    "squeeze_batch_dim": lambda b: b.unsqueeze_batch_dim(0).squeeze_batch_dim(0).reshape_batch_dims((3, 1)),
    "broadcast_batch_dims": lambda b: ragged.RaggedBatch.broadcast_batch_dims([b, b.unsqueeze_batch_dim(1)]),
    "masked weights": lambda b: ragged.average_over_targets(b, b * 2, empty=1.0),
    "check_duplicates": lambda b: ragged.batched_indexing_write(
        b, b.create_with_sample_sizes_like_self(torch.arange(5, device=b.device).expand(3, 5)), b, check_duplicates=True
    ),
    "other filler": lambda b: ragged.batched_indexing_access(
        b, torch.zeros(3, 2, dtype=torch.int64, device=b.device), -1.0
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_do_not_synchronise(name: str) -> None:
    full = ragged.RaggedBatch.from_full_tensor(batch(5).tensor)  # that index 0 is in range cannot be seen on meta
    assert_no_host_sync(METHODS[name], full)


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
        lambda b: ragged.batched_bool_indexing(b, b.mask),
        lambda b: ragged.get_compact_lists(b.mask, [b.tensor]),
        lambda b: ragged.unpack(b.tensor.reshape(-1), b.sample_sizes),
        lambda b: b.allclose(b * 1),
        lambda b: b.largest_sample_size(),
        lambda b: b.tensor.masked_select(b.mask),
        lambda b: b.tensor.unique(),
        lambda b: b.sample_sizes.repeat_interleave(b.sample_sizes),
        lambda b: b.tensor.index_put((b.mask,), torch.ones((), device=b.device)),
        lambda b: b.tensor.multinomial(1),
        lambda b: torch.linalg.inv(torch.eye(2, device=b.device) * b.tensor.sum()),
        lambda b: repr(b.tensor),
        lambda b: b.tensor.tolist(),
        lambda b: b.tensor.detach().numpy(),
        lambda b: b.tensor + torch.ones(b.shape),
        lambda b: b.tensor * torch.ones(b.shape).to(b.device),
        lambda b: b.tensor.to("cpu", non_blocking=True) if b.device.type == "meta" else b.tensor.tolist(),
        lambda b: b.tensor * torch.tensor([2.0] * 5, device=b.device),
        lambda b: b.tensor * torch.as_tensor(2.0, device=b.device),
        lambda b: b.tensor * b.tensor.new_tensor([2.0] * 5),
        lambda b: ReadsGradient.apply(b.tensor),
    ],
)
def test_the_proof_catches_what_synchronises(function: Callable[[Any], Any]) -> None:
    with pytest.raises(HostSyncError):
        assert_no_host_sync(function, batch(5))


class ReadsGradient(torch.autograd.Function):
    """Waits in its backward pass alone."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * gradients[0].sum().item()


@pytest.mark.parametrize(
    "function",
    [
        lambda b: b.tensor[:, torch.arange(2, device=b.device)],
        lambda b: b.tensor.clone().index_put_((torch.zeros(1, dtype=torch.int64, device=b.device),), b.tensor[:1]),
        lambda b: b.tensor + torch.full((5,), 2.0, device=b.device),
        lambda b: b.tensor.masked_fill(b.mask, 0),
        lambda b: b.tensor[..., : b.shape[1] // 2] * len(b.shape),
        lambda b: torch.as_tensor(b.tensor) * 2,
        lambda b: b.tensor * torch.ones(b.shape).to(b.device, non_blocking=True),
        lambda b: torch.where(b.mask, b.tensor, 2.0).sum() * 3,
    ],
)
def test_the_proof_lets_through_what_does_not_synchronise(function: Callable[[Any], Any]) -> None:
    assert_no_host_sync(function, batch(5))


def test_garbage_in_index_filler_is_in_the_arguments() -> None:
    drawn = indices(50)
    assert (drawn.tensor[~drawn.mask] == -7).all()
    assert mask(9).dtype == torch.bool
