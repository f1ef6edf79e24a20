"""A valid call of everything public in ``ragged``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from reliability.call import Call, call
from torch import Tensor

import ragged
from ragged import RaggedBatch


class Row(NamedTuple):
    first: Any
    second: Any


def data(dtype: torch.dtype = torch.float32) -> RaggedBatch:
    return RaggedBatch((torch.arange(24.0).reshape(3, 4, 2) / 7).to(dtype), sample_sizes=[4, 0, 2])


def row(dtype: torch.dtype = torch.float32) -> RaggedBatch:
    return RaggedBatch((torch.arange(12.0).reshape(3, 4) / 7).to(dtype), sample_sizes=[4, 0, 2])


def indices() -> RaggedBatch:
    return RaggedBatch(torch.tensor([[3, 1], [0, 0], [1, 0]]), sample_sizes=[2, 0, 2])


def mask() -> Tensor:
    return torch.tensor([[True, False, True, False], [False] * 4, [True, True, False, False]])


def picked() -> RaggedBatch:
    return RaggedBatch(torch.ones(3, 2, 2), sample_sizes=[2, 0, 2])


def scored(function: Callable[..., Any], **options: Any) -> Callable[[], Call]:
    return lambda: call(function, row(), **options)


CALLS: dict[str, Callable[[], Call]] = {
    "RaggedBatch": lambda: call(RaggedBatch, torch.zeros(3, 4, 2), sample_sizes=torch.tensor([4, 0, 2])),
    "RaggedBatch(mask)": lambda: call(RaggedBatch, torch.zeros(3, 4, 2), data().mask, non_uniform_dim=1),
    "RaggedBatch(list)": lambda: call(RaggedBatch, torch.zeros(3, 4), None, [4, 0, 2]),
    "RaggedBatch.from_full_tensor": lambda: call(
        RaggedBatch.from_full_tensor, torch.zeros(3, 4, 2), num_batch_dims=1, non_uniform_dim=2
    ),
    "RaggedBatch.from_oversize_tensor": lambda: call(
        RaggedBatch.from_oversize_tensor, torch.zeros(3, 4, 2), sample_sizes=[3, 0, 2], max_size=3
    ),
    "RaggedBatch.from_oversize_tensor(read)": lambda: call(
        RaggedBatch.from_oversize_tensor, torch.zeros(3, 4, 2), data().mask
    ),
    "RaggedBatch.empty": lambda: call(RaggedBatch.empty, (2, 3), (4,)),
    "RaggedBatch.create_with_sample_sizes_like_self": lambda: call(
        data().create_with_sample_sizes_like_self, torch.zeros(3, 5, 4), non_uniform_dim=2
    ),
    "RaggedBatch.allclose": lambda: call(data().allclose, data(), rtol=1e-4, atol=1e-6, equal_nan=True),
    "RaggedBatch.apply": lambda: call(data().apply, torch.exp),
    "RaggedBatch.broadcast_batch_dims": lambda: call(
        RaggedBatch.broadcast_batch_dims, [data().unsqueeze_batch_dim(0), data()]
    ),
    "RaggedBatch.broadcast_batch_dims_to_shape": lambda: call(data().broadcast_batch_dims_to_shape, (2, 3)),
    "RaggedBatch.clone": lambda: call(data().clone),
    "RaggedBatch.detach": lambda: call(data().detach),
    "RaggedBatch.dim": lambda: call(data().dim),
    "RaggedBatch.equal": lambda: call(data().equal, data()),
    "RaggedBatch.flatten_batch_dims": lambda: call(data().flatten_batch_dims),
    "RaggedBatch.float": lambda: call(data().float),
    "RaggedBatch.get_existence_weights": lambda: call(data().get_existence_weights),
    "RaggedBatch.get_non_uniform_dimension_transposed_to": lambda: call(
        data().get_non_uniform_dimension_transposed_to, 2
    ),
    "RaggedBatch.largest_sample_size": lambda: call(data().largest_sample_size),
    "RaggedBatch.repeat_samples": lambda: call(data().repeat_samples, 2, batch_dim=0),
    "RaggedBatch.repeat_samples(all)": lambda: call(data().repeat_samples, [2]),
    "RaggedBatch.requires_grad_": lambda: call(data().requires_grad_, True),
    "RaggedBatch.reshape_batch_dims": lambda: call(data().reshape_batch_dims, (3, 1)),
    "RaggedBatch.retain_grad": lambda: call((data().requires_grad_() * 1).retain_grad),
    "RaggedBatch.set_padded_to": lambda: call(data().set_padded_to, 2.0),
    "RaggedBatch.set_tensor": lambda: call(data().set_tensor, torch.ones(3, 4, 2)),
    "RaggedBatch.size": lambda: call(data().size, 1),
    "RaggedBatch.split": lambda: call(data().split),
    "RaggedBatch.squeeze_batch_dim": lambda: call(data().unsqueeze_batch_dim(0).squeeze_batch_dim, 0),
    "RaggedBatch.to_device": lambda: call(data().to_device, device="cpu"),
    "RaggedBatch.to_dtype": lambda: call(data().to_dtype, dtype=torch.float64),
    "RaggedBatch.unsqueeze_batch_dim": lambda: call(data().unsqueeze_batch_dim, 0),
    "RaggedBatch.unsqueeze_data_dim": lambda: call(data().unsqueeze_data_dim, 1),
    "RaggedBatch.with_max_sample_size": lambda: call(data().with_max_sample_size, 5),
    "RaggedBatch.with_padded_set_to": lambda: call(data().with_padded_set_to, 2.0),
    "all_over_targets": scored(ragged.all_over_targets),
    "any_over_targets": scored(ragged.any_over_targets),
    "key_padding_mask": lambda: call(ragged.key_padding_mask, data()),
    "attention_mask": lambda: call(ragged.attention_mask, data()),
    "apply_mask_to_tensor": lambda: call(ragged.apply_mask_to_tensor, torch.ones(3, 4, 2), mask(), 0.5),
    "argmax_over_targets": scored(ragged.argmax_over_targets),
    "argmin_over_targets": scored(ragged.argmin_over_targets),
    "average_over_targets": lambda: call(ragged.average_over_targets, data(), row(), empty=0.5),
    "batched_bool_indexing": lambda: call(ragged.batched_bool_indexing, data(), mask(), max_size=3),
    "batched_bool_indexing(read)": lambda: call(ragged.batched_bool_indexing, torch.ones(3, 4, 2), mask()),
    "batched_bool_indexing_write": lambda: call(
        ragged.batched_bool_indexing_write, picked(), mask(), torch.ones(3, 4, 2)
    ),
    "batched_index_mapping": lambda: call(ragged.batched_index_mapping, data(), indices(), indices(), data()),
    "batched_index_mapping(dense)": lambda: call(
        ragged.batched_index_mapping, torch.ones(3, 4, 2), indices(), indices(), torch.ones(3, 5, 2)
    ),
    "batched_indexing_access": lambda: call(ragged.batched_indexing_access, data(), indices(), 0.5, 1),
    "batched_indexing_access(dense)": lambda: call(
        ragged.batched_indexing_access, torch.ones(3, 4, 2), torch.tensor([[0, 1], [2, 3], [1, 1]])
    ),
    "batched_indexing_write": lambda: call(
        ragged.batched_indexing_write, picked(), indices(), torch.ones(3, 4, 2), 1, check_duplicates=True
    ),
    "batched_inverse_indexing_access": lambda: call(
        ragged.batched_inverse_indexing_access, picked(), indices(), 4, 0.5, 1, check_duplicates=True
    ),
    "cat_batches": lambda: call(ragged.cat_batches, [data(), data()], 0),
    "cat_targets": lambda: call(ragged.cat_targets, [data(), data()]),
    "collate": lambda: call(
        ragged.collate, [{"boxes": torch.ones(2, 4), "id": 3}, {"boxes": torch.ones(1, 4), "id": 4}], stack=()
    ),
    "collate(tuples)": lambda: call(ragged.collate, [(torch.ones(3, 2), torch.ones(1, 4))] * 2, stack=(0,)),
    "combine_data": lambda: call(
        ragged.combine_data, [torch.ones(2, 4), torch.ones(0, 4)], num_batch_dims=1, non_uniform_dim=1
    ),
    "combine_data(numbers)": lambda: call(ragged.combine_data, [[1.0, 2.0], [3.0]]),
    "combine_data(nested)": lambda: call(
        ragged.combine_data, [[torch.ones(2)], [torch.ones(1)]], flatten_batch_dims=False
    ),
    "combine_data(like)": lambda: call(
        ragged.combine_data, [torch.ones(4, 4), torch.ones(0, 4), torch.ones(2, 4)], data()
    ),
    "count_over_targets": scored(ragged.count_over_targets),
    "cumsum_over_targets": scored(ragged.cumsum_over_targets),
    "from_nested": lambda: call(
        ragged.from_nested, torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]), max_size=3
    ),
    "get_compact_from_named_tuple": lambda: call(
        ragged.get_compact_from_named_tuple, mask(), Row(torch.ones(3, 4), "name"), max_size=2
    ),
    "get_compact_lists": lambda: call(ragged.get_compact_lists, mask(), [torch.ones(3, 4), "name"], max_size=2),
    "get_indices_from_mask": lambda: call(ragged.get_indices_from_mask, mask(), max_size=3),
    "get_indices_from_mask(ragged)": lambda: call(ragged.get_indices_from_mask, row(torch.bool)),
    "get_mask_from_indices": lambda: call(ragged.get_mask_from_indices, 4, indices()),
    "log_softmax_over_targets": scored(ragged.log_softmax_over_targets),
    "logsumexp_over_targets": scored(ragged.logsumexp_over_targets),
    "max_over_targets": scored(ragged.max_over_targets, empty=0.0),
    "min_over_targets": scored(ragged.min_over_targets, empty=0.0),
    "pack": scored(ragged.pack),
    "softmax_over_targets": scored(ragged.softmax_over_targets),
    "sort_over_targets": scored(ragged.sort_over_targets, descending=True),
    "squeeze_except_batch_and_sample": lambda: call(ragged.squeeze_except_batch_and_sample, data()),
    "squeeze_except_batch_and_sample(dense)": lambda: call(ragged.squeeze_except_batch_and_sample, torch.ones(3, 4, 1)),
    "stack_batches": lambda: call(ragged.stack_batches, [data(), data()], 1),
    "sum_over_targets": scored(ragged.sum_over_targets),
    "to_nested": scored(ragged.to_nested),
    "topk_over_targets": scored(ragged.topk_over_targets, k=2, largest=False),
    "unpack": lambda: call(ragged.unpack, torch.ones(6, 2), [4, 0, 2], max_size=4),
    "unpack(read)": lambda: call(ragged.unpack, torch.ones(6, 2), torch.tensor([4, 0, 2])),
}
