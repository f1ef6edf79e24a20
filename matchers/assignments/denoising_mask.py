"""Which queries see which: groups of denoising queries beside queries that are matched."""

from __future__ import annotations

import torch
from torch import Tensor

from ragged.values.checks import INTEGER_DTYPES, check_count, check_flag, check_is_tensor, check_values, sample_name


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
    """Which query must not see which other, where denoising queries come first and queries that are matched follow.

    Denoising queries are made of the targets. A query that is matched must not see them, nor may groups see each other
    (Li et al., DN-DETR, 2022; Zhang et al., DINO, 2023). The queries of a group, positives and negatives, see each
    other and all queries that are matched.

    Args:
        num_groups, max_num_targets, negatives: As for ``denoising_indices``, of which this has the layout.
        num_queries: Number of queries that are matched.
        num_targets: ``(*batch,)``, integers. Given, slots of a group that an image has no target for are seen by
            themselves alone, so that an image does not depend on how many targets others have. Without it, they are
            seen by their group, as the published implementations do it.
        device: Of the result; by default that of ``num_targets``, without it the CPU.

    Returns:
        Bool ``(Q, Q)``, true where the query of the row must not see the query of the column, with Q denoising queries
        and queries that are matched; with ``num_targets`` ``(*batch, Q, Q)``. ``torch.nn.MultiheadAttention`` takes it
        as ``attn_mask``, of a batch as ``mask.repeat_interleave(num_heads, 0)``; ``scaled_dot_product_attention`` takes
        its inverse, of a batch as ``~mask.unsqueeze(1)``. Every query sees itself, so that no row is empty.

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
