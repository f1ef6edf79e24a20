"""The layout of denoising queries: the metadata of a model, and which queries see which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.targets import Targets
from ragged import RaggedBatch, combine_data
from ragged.ops.indices import as_indices
from ragged.values.checks import (
    INTEGER_DTYPES,
    check_count,
    check_flag,
    check_is_tensor,
    check_same_device,
    check_values,
    sample_name,
)


@torch.no_grad()
def denoising_attention_mask(
    num_groups: int,
    max_num_targets: int,
    num_queries: int,
    *,
    negatives: bool = True,
    num_targets: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The attention mask of a decoder: true where a query must not attend to another. Denoising queries come first,
    then matching queries.

    Denoising queries are made of the targets. Matching queries must not attend to them, and groups must not attend to
    each other (Li et al., DN-DETR, 2022; Zhang et al., DINO, 2023). The queries of a group, positives and negatives,
    see each other and all queries that are matched.

    Args:
        num_groups, max_num_targets, negatives: As for ``denoising_indices``, of which this has the layout.
        num_queries: Number of queries that are matched.
        num_targets: ``(*batch,)``, integers. If you pass it, empty slots attend only to themselves, so an image does
            not depend on the number of targets of others. Otherwise they attend within their group, as in published
            implementations.
        device: Of the result; by default that of ``num_targets``, without it the CPU.

    Returns:
        Bool ``(Q, Q)``, true where the query of the row must not see the query of the column, where Q counts denoising
        and matching queries; with ``num_targets`` ``(*batch, Q, Q)``. ``torch.nn.MultiheadAttention`` takes it as
        ``attn_mask``; for a batched mask, pass ``mask.repeat_interleave(num_heads, 0)``;
        ``scaled_dot_product_attention`` takes its inverse, of a batch as ``~mask.unsqueeze(1)``. Every query sees
        itself, so that no row is empty.

    Raises:
        TypeError: A number is no integer, or ``negatives`` is not True or False.
        ValueError: A number is negative, or a sample has more targets than there are slots; the message names it.

    >>> denoising_attention_mask(num_groups=2, max_num_targets=1, num_queries=1, negatives=False).int()
    tensor([[0, 1, 0],
            [1, 0, 0],
            [1, 1, 0]], dtype=torch.int32)
    """
    check_count(num_groups, "num_groups")
    check_count(max_num_targets, "max_num_targets")
    check_count(num_queries, "num_queries")
    check_flag(negatives, "negatives")
    if num_targets is not None:
        _check_counts(num_targets, max_num_targets)
        device = num_targets.device if device is None else device
    size = max_num_targets * (2 if negatives else 1)
    total = num_groups * size
    place = torch.arange(total + num_queries, device=device)
    group = torch.where(place < total, place // max(size, 1), num_groups)
    hidden = (group != group.unsqueeze(-1)) & (group != num_groups)
    if num_targets is None:
        return hidden
    slot = place % max(max_num_targets, 1)
    without_target = (place < total) & (slot >= num_targets.to(place.device).unsqueeze(-1))
    others = place != place.unsqueeze(-1)
    return hidden | (without_target.unsqueeze(-2) & others)


def _check_counts(num_targets: Tensor, slots: int) -> None:
    check_is_tensor(num_targets, "num_targets")
    if num_targets.dtype not in INTEGER_DTYPES:
        raise TypeError(f"num_targets must be integers, got {num_targets.dtype}")
    check_values(
        num_targets <= slots,
        lambda at: f"{sample_name(at)} has {int(num_targets[at])} targets, but there are slots for {slots} only",
        summary="denoising queries: a sample has more targets than there are slots",
    )


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
    """The number of slots of each half of a group in the standard layout."""
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
