"""How the description of denoising queries is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from matchers.targets import known_keys
from matchers.targets.targets import Targets
from ragged import RaggedBatch, combine_data
from ragged.ops.indices import as_indices
from ragged.values.checks import check_count, check_same_device


def read_meta(dn_meta: Mapping[str, Any] | None) -> tuple[int, int, Any, Any]:
    """Number of denoising queries, number of groups, and the positive queries and their targets if they are listed."""
    if dn_meta is None:
        return 0, 0, None, None
    if not isinstance(dn_meta, Mapping):
        raise TypeError(f"dn_meta must be a mapping or None, got {type(dn_meta).__name__}")
    known_keys.DENOISING.check(dn_meta, "dn_meta")
    missing = [key for key in ("dn_num_group", "dn_num_split") if key not in dn_meta]
    if missing:
        raise ValueError(f"dn_meta needs {', '.join(map(repr, missing))}, got only {list(dn_meta)}")
    split, num_groups = dn_meta["dn_num_split"], dn_meta["dn_num_group"]
    if not isinstance(split, Sequence) or len(split) != 2:
        raise ValueError(f"dn_num_split must be [denoising queries, other queries], got {split}")
    check_count(split[0], "dn_num_split[0]")
    check_count(split[1], "dn_num_split[1]")
    check_count(num_groups, "dn_num_group")
    positive, target = dn_meta.get("dn_positive_idx"), dn_meta.get("dn_target_idx")
    if target is not None and positive is None:
        raise ValueError("dn_meta with 'dn_target_idx' needs 'dn_positive_idx' as well, the queries of these targets")
    return split[0], num_groups, positive, target


def slots_of(num_queries: int, num_groups: int) -> int:
    """How many slots each half of a group has in the standard layout."""
    if num_groups == 0 or num_queries % (2 * num_groups):
        raise ValueError(
            f"{num_queries} denoising queries are not {num_groups} groups of positives and as many negatives; "
            "for another layout, dn_positive_idx is needed"
        )
    return num_queries // (2 * num_groups)


def as_batch(positive: Any, targets: Targets, name: str = "dn_positive_idx") -> RaggedBatch:
    """Indices of images, given as a list or as a batch, as a batch of the shape of the targets."""
    if not isinstance(positive, RaggedBatch):
        if not isinstance(positive, Sequence):
            raise TypeError(
                f"{name} must be a list of tensors, one per image, or a RaggedBatch, got {type(positive).__name__}"
            )
        nb = len(targets.batch_shape)
        positive = combine_data(list(positive), num_batch_dims=nb, flatten_batch_dims=False, device=targets.device)
    if positive.max_sample_size == 0:
        positive = positive.to_dtype(torch.int64)  # lists without any element do not say
    positive = as_indices(positive)
    check_same_device(positive.device, targets.device, name=name, reference="targets")
    if tuple(positive.batch_shape) != targets.batch_shape:
        raise ValueError(
            f"{name} has the batch shape {tuple(positive.batch_shape)}, targets have {targets.batch_shape}"
        )
    return positive
