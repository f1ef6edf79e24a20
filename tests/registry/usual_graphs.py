"""Entries of which a graph is made in every run; of all others in thorough runs, for graphs take most of the time.

What is not here is nearly the graph of an entry that is, or a part of the graphs of matchers and criteria, which are
made in tests of their own.
"""

from __future__ import annotations

USUAL_GRAPHS = {
    "Assignment.gather",
    "Assignment.pairs",
    "Normalizer",
    "RaggedBatch",
    "RaggedBatch.from_oversize_tensor",
    "RaggedBatch.get_non_uniform_dimension_transposed_to",
    "RaggedBatch.repeat_samples",
    "RaggedBatch.with_padded_set_to",
    "batched_bool_indexing",
    "batched_index_mapping",
    "batched_indexing_access",
    "batched_indexing_write",
    "batched_inverse_indexing_access",
    "batched_linear_sum_assignment",
    "cat_batches",
    "ciou_loss",
    "combine_data",
    "cross_entropy",
    "denoising_assignment",
    "distribution_focal_loss",
    "flatten_levels",
    "get_indices_from_mask",
    "hard_negative_mining",
    "logsumexp_over_targets",
    "pack",
    "points_in_boxes",
    "quality_focal_loss[sparse]",
    "sigmoid_focal_loss",
    "sort_over_targets",
    "sum_over_targets",
    "targets_from_flat",
    "total",
    "union_of_matches",
    "unpack",
}
