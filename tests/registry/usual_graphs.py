"""Entries that a run of graphs compiles; a thorough run compiles all others, which takes most of its time.

What is not here is nearly the graph of an entry that is, or a part of the graphs of matchers and criteria, which are
made in tests of their own.
"""

from __future__ import annotations

USUAL_GRAPHS = {
    "Assignment.gather",
    "RaggedBatch.get_non_uniform_dimension_transposed_to",
    "RaggedBatch.with_padded_set_to",
    "batched_bool_indexing",
    "batched_index_mapping",
    "batched_indexing_access",
    "batched_indexing_write",
    "cat_batches",
    "combine_data",
    "flatten_levels",
    "get_indices_from_mask",
    "logsumexp_over_targets",
    "pack",
    "sort_over_targets",
    "sum_over_targets",
    "targets_from_flat",
    "unpack",
}
