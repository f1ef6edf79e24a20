"""Every public operation as a function of tensors of varying size: shared by the compile, sync-free and CUDA tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import ragged
from ragged import RaggedBatch

BATCH = 3
GENERATOR = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Operation:
    """A function, and arguments for it with samples of up to ``n`` entries; the first is differentiated if it can be."""

    function: Callable[..., Any]
    arguments: Callable[[int], tuple[Any, ...]]


def batch(n: int, *data_shape: int) -> RaggedBatch:
    sizes = torch.randint(0, n + 1, (BATCH,), generator=GENERATOR)
    return RaggedBatch(torch.rand(BATCH, n, *data_shape, generator=GENERATOR) + 0.1, sample_sizes=sizes)


def indices(n: int) -> RaggedBatch:
    sizes = torch.randint(0, n + 1, (BATCH,), generator=GENERATOR)
    drawn = torch.stack([torch.randperm(n, generator=GENERATOR) for _ in range(BATCH)]).reshape(BATCH, n)
    return RaggedBatch(torch.where(torch.arange(n) < sizes.unsqueeze(-1), drawn, -7), sample_sizes=sizes)


def mask(n: int) -> Tensor:
    return torch.rand(BATCH, n, generator=GENERATOR) > 0.5


def _one(*data_shape: int) -> Callable[[int], tuple[Any, ...]]:
    return lambda n: (batch(n, *data_shape),)


def _pair_of_indices(n: int) -> tuple[RaggedBatch, RaggedBatch]:
    first = indices(n)
    return first, first.create_with_sample_sizes_like_self(first.tensor.clone())


def _refilled(data: RaggedBatch) -> RaggedBatch:
    copy = data * 1
    copy.set_padded_to(2.0)
    return copy


OPERATIONS: dict[str, Operation] = {
    "RaggedBatch": Operation(
        lambda t, s: RaggedBatch(t, sample_sizes=s), lambda n: (batch(n, 4).tensor, batch(n).sample_sizes)
    ),
    "RaggedBatch(mask)": Operation(lambda t, m: RaggedBatch(t, m), lambda n: (batch(n, 4).tensor, batch(n).mask)),
    "arithmetic": Operation(lambda b: 1 / (torch.exp(b * 2) + torch.log(b) * b), _one(4)),
    "functions along data": Operation(lambda b: torch.sum(torch.softmax(b, -1) * b, dim=-1), _one(4)),
    "apply": Operation(lambda b: b.apply(lambda tensor, mask: tensor * mask.unsqueeze(-1)), _one(4)),
    "with_padded_set_to": Operation(lambda b: b.with_padded_set_to(3.0), _one(4)),
    "set_padded_to": Operation(_refilled, _one(4)),
    "with_max_sample_size": Operation(lambda b: b.with_max_sample_size(128), _one(4)),
    "batch dimensions": Operation(lambda b: b.unsqueeze_batch_dim(1).flatten_batch_dims().repeat_samples(2), _one(4)),
    "broadcast": Operation(lambda b: b.broadcast_batch_dims_to_shape((2, BATCH)) + 1, _one()),
    "transpose": Operation(lambda b: b.get_non_uniform_dimension_transposed_to(2).unsqueeze_data_dim(1), _one(4)),
    "existence weights": Operation(lambda b: b.get_existence_weights(), _one()),
    "from_full_tensor": Operation(lambda t: RaggedBatch.from_full_tensor(t) * 2, lambda n: (batch(n).tensor,)),
    "from_oversize_tensor": Operation(
        lambda t, s: RaggedBatch.from_oversize_tensor(t, sample_sizes=s, max_size=t.shape[1]),
        lambda n: (batch(n).tensor, batch(n).sample_sizes),
    ),
    "access": Operation(ragged.batched_indexing_access, lambda n: (batch(n, 4).tensor, indices(n))),
    "access, wide": Operation(ragged.batched_indexing_access, lambda n: (batch(n, 96).tensor, indices(n))),
    "inverse access": Operation(
        lambda t, i: ragged.batched_inverse_indexing_access(t, i, 128), lambda n: (batch(n, 4).tensor, indices(n))
    ),
    "write": Operation(ragged.batched_indexing_write, lambda n: (batch(n, 4).tensor, indices(n), batch(n, 4).tensor)),
    "mapping": Operation(
        lambda source, i, j, target: ragged.batched_index_mapping(source, i, j, target),
        lambda n: (batch(n, 4).tensor, *_pair_of_indices(n), batch(n, 4).tensor),
    ),
    "mask from indices": Operation(lambda i: ragged.get_mask_from_indices(128, i), lambda n: (indices(n),)),
    "indices from mask": Operation(
        lambda m: ragged.get_indices_from_mask(m, max_size=m.shape[1]), lambda n: (mask(n),)
    ),
    "bool access": Operation(
        lambda b, m: ragged.batched_bool_indexing(b, m, max_size=m.shape[1]), lambda n: (batch(n, 4), mask(n))
    ),
    "bool write": Operation(
        lambda m, b: ragged.batched_bool_indexing_write(
            ragged.batched_bool_indexing(b, m, max_size=m.shape[1]) * 2, m, b
        ),
        lambda n: (mask(n), batch(n, 4)),
    ),
    "apply_mask_to_tensor": Operation(ragged.apply_mask_to_tensor, lambda n: (batch(n, 4).tensor, mask(n))),
    "squeeze": Operation(ragged.squeeze_except_batch_and_sample, _one(1, 4)),
    "cat_batches": Operation(lambda a, b: ragged.cat_batches([a, b]), lambda n: (batch(n), batch(n + 2))),
    "stack_batches": Operation(lambda a, b: ragged.stack_batches([a, b], 1), lambda n: (batch(n), batch(n + 2))),
    "cat_targets": Operation(lambda a, b: ragged.cat_targets([a, b]), lambda n: (batch(n), batch(n + 2))),
    "combine_data": Operation(
        lambda a, b: ragged.combine_data([a, b]), lambda n: (torch.rand(n, 4), torch.rand(n + 3, 4))
    ),
    "unpack": Operation(
        lambda v, s: ragged.unpack(v, s, max_size=v.shape[0]),
        lambda n: (torch.rand(BATCH * n, 4), torch.full((BATCH,), n)),
    ),
    "get_compact_lists": Operation(
        lambda m, t: ragged.get_compact_lists(m, [t, "name"], max_size=m.shape[1])[0],
        lambda n: (mask(n), batch(n, 4).tensor),
    ),
    "average, weighted": Operation(
        lambda b: ragged.average_over_targets(b, b.create_with_sample_sizes_like_self(b.tensor[..., 0])), _one(4)
    ),
    "topk_over_targets": Operation(lambda b: ragged.topk_over_targets(b, 5), _one(4)),
    **{
        name: Operation(getattr(ragged, name), _one(4))
        for name in ragged.__all__
        if name.endswith("_over_targets") and name != "topk_over_targets"
    },
}

# They read a size on the host, as their docstrings say, or take and give Python lists.
SYNCHRONISING = {"collate", "pack", "from_nested", "to_nested", "get_compact_from_named_tuple"}
