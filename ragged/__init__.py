"""Batches whose samples differ in size, and the operations on them. Knows nothing of boxes."""

from ragged.batch.ragged_batch import RaggedBatch
from ragged.interop.collate import collate, register_with_dataloader
from ragged.interop.packing import from_nested, pack, to_nested, unpack
from ragged.interop.registration import rebuild as _rebuild  # noqa: F401 - by this name, pickles find it
from ragged.interop.registration import register_with_torch
from ragged.ops.attention import attention_mask, key_padding_mask
from ragged.ops.combine import combine_data, get_compact_from_named_tuple, get_compact_lists
from ragged.ops.indexing import (
    batched_index_mapping,
    batched_indexing_access,
    batched_indexing_write,
    batched_inverse_indexing_access,
)
from ragged.ops.joining import cat_batches, cat_targets, stack_batches
from ragged.ops.masks import (
    apply_mask_to_tensor,
    batched_bool_indexing,
    batched_bool_indexing_write,
    get_indices_from_mask,
    get_mask_from_indices,
    squeeze_except_batch_and_sample,
)
from ragged.ops.ordering import sort_over_targets, topk_over_targets
from ragged.ops.reductions import (
    all_over_targets,
    any_over_targets,
    argmax_over_targets,
    argmin_over_targets,
    average_over_targets,
    count_over_targets,
    cumsum_over_targets,
    log_softmax_over_targets,
    logsumexp_over_targets,
    max_over_targets,
    min_over_targets,
    softmax_over_targets,
    sum_over_targets,
)

__version__ = "0.1.0"

__all__ = [
    "RaggedBatch",
    "all_over_targets",
    "any_over_targets",
    "apply_mask_to_tensor",
    "argmax_over_targets",
    "argmin_over_targets",
    "attention_mask",
    "average_over_targets",
    "batched_bool_indexing",
    "batched_bool_indexing_write",
    "batched_index_mapping",
    "batched_indexing_access",
    "batched_indexing_write",
    "batched_inverse_indexing_access",
    "cat_batches",
    "cat_targets",
    "collate",
    "combine_data",
    "count_over_targets",
    "cumsum_over_targets",
    "from_nested",
    "get_compact_from_named_tuple",
    "get_compact_lists",
    "get_indices_from_mask",
    "get_mask_from_indices",
    "key_padding_mask",
    "log_softmax_over_targets",
    "logsumexp_over_targets",
    "max_over_targets",
    "min_over_targets",
    "pack",
    "softmax_over_targets",
    "sort_over_targets",
    "squeeze_except_batch_and_sample",
    "stack_batches",
    "sum_over_targets",
    "to_nested",
    "topk_over_targets",
    "unpack",
]

register_with_torch()
register_with_dataloader()
