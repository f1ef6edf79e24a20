"""Assignments that need no cost: contrastive denoising queries, and the union of the matches of several layers.

Contrastive denoising (Zhang et al., DINO, 2023; RT-DETR and D-FINE alike) adds queries that are made from the targets:
in each of several groups one query near each target, which shall find it, and one farther away, which shall find
nothing. The standard layout gives every image the same number of slots, the largest number of targets:

    | positives of group 0 | negatives of group 0 | positives of group 1 | negatives of group 1 | …

Slot t belongs to target t. Slots that an image has no target for are background, as the method trains them. Denoising
without contrast (Li et al., DN-DETR, 2022; StreamPETR) has the positives alone:

    | positives of group 0 | positives of group 1 | …
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising_layout import as_batch, read_meta, slots_of
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.batch.layout import check_same_sizes
from ragged.ops.indices import check_range
from ragged.values.checks import (
    INTEGER_DTYPES,
    check_count,
    check_flag,
    check_is_tensor,
    check_values,
    sample_name,
)


@torch.no_grad()
def denoising_indices(
    num_targets: Tensor, num_groups: int, max_num_targets: int, *, negatives: bool = True
) -> Assignment:
    """The assignment of denoising queries in the standard layout, with or without negatives.

    With S = ``max_num_targets`` slots, query ``2 * g * S + t`` of group g has target t; without negatives, query
    ``g * S + t`` has it. All others are background.

    Args:
        num_targets: ``(*batch,)``, integers.
        num_groups: Number of groups.
        max_num_targets: Slots for targets in each half of a group, usually the largest of ``num_targets``.
        negatives: Whether each group has as many negatives as slots, after its positives (DINO, RT-DETR, D-FINE), or
            none (DN-DETR, StreamPETR).

    Returns:
        An ``Assignment`` of ``2 * num_groups * max_num_targets`` queries; half as many without negatives.

    Raises:
        TypeError: A number is no integer, or ``negatives`` is not True or False.
        ValueError: A sample has more targets than there are slots; the message names it.

    >>> denoising_indices(torch.tensor([2, 1]), num_groups=1, max_num_targets=2).target_index
    tensor([[ 0,  1, -1, -1],
            [ 0, -1, -1, -1]])
    >>> denoising_indices(torch.tensor([2, 1]), num_groups=2, max_num_targets=2, negatives=False).target_index
    tensor([[ 0,  1,  0,  1],
            [ 0, -1,  0, -1]])
    """
    check_is_tensor(num_targets, "num_targets")
    if num_targets.dtype not in INTEGER_DTYPES:
        raise TypeError(f"num_targets must be integers, got {num_targets.dtype}")
    check_count(num_groups, "num_groups")
    check_count(max_num_targets, "max_num_targets")
    check_flag(negatives, "negatives")
    num_targets = num_targets.to(torch.int64)
    index = _standard_layout(num_targets, num_groups, max_num_targets, halves=2 if negatives else 1)
    return _assignment(index, num_targets, max_num_targets, num_groups * max_num_targets)


@torch.no_grad()
def denoising_assignment(dn_meta: Mapping[str, Any] | None, targets: Any) -> Assignment:
    """The targets of denoising queries, from the description that the model hands over with them.

    In an image with n targets, positive query ``dn_positive_idx[image][n * g + t]`` has target t, for each group g. All
    other queries are background: the negatives, and the filler of images with fewer targets than others. Ignored
    targets count among the n; their positive queries are ignored.

    Args:
        dn_meta: None if there are no such queries, or a mapping with

            - ``"dn_num_group"``: the number of groups,
            - ``"dn_num_split"``: ``[number of denoising queries, number of other queries]``,
            - ``"dn_positive_idx"``: a list of the positive queries ``(n * groups,)`` of each image, or a RaggedBatch
              of them ``(*batch, K)``. Without it, the layout is the standard one;
            - ``"dn_target_idx"``: the targets of these queries, in the same form, where they are not all targets in
              order: some of them only, or some more often than others.
        targets: Anything that ``Targets.of`` reads.

    Returns:
        An ``Assignment`` of the denoising queries. Its ``pairs()`` are what a loss usually wants to know.

    Raises:
        TypeError: An entry is of the wrong kind.
        IndexError: A positive index is not one of the denoising queries.
        ValueError: An entry is missing, or does not fit the number of targets; the message names the sample.

    >>> targets = Targets.of([{"boxes": torch.rand(1, 4).cumsum(-1), "labels": torch.tensor([3])}])
    >>> meta = {"dn_num_group": 2, "dn_num_split": [4, 300], "dn_positive_idx": [torch.tensor([0, 2])]}
    >>> denoising_assignment(meta, targets).target_index
    tensor([[ 0, -1,  0, -1]])
    """
    targets = Targets.of(targets)
    num_queries, num_groups, positive, chosen = read_meta(dn_meta)
    most = num_groups * targets.max_num_targets
    if num_queries == 0:
        index = targets.num_targets.new_empty(*targets.batch_shape, 0)
    elif positive is None:
        index = _standard_layout(targets.num_targets, num_groups, slots_of(num_queries, num_groups))
    else:
        positive = as_batch(positive, targets)
        if chosen is None:
            own = _targets_in_order(positive, targets.num_targets, num_groups)
        else:
            own, most = _chosen_targets(positive, as_batch(chosen, targets, "dn_target_idx"), targets), num_queries
        index = _from_positive_queries(positive, own, num_queries)
    if targets.ignore is not None and targets.max_num_targets:
        ignored = targets.ignored.gather(-1, index.clamp(min=0))
        index = torch.where((index >= 0) & ignored, IGNORED, index)
    return _assignment(index, targets.num_targets, targets.max_num_targets, most)


@torch.no_grad()
def union_of_matches(assignments: Assignment | Sequence[Assignment]) -> Assignment:
    """One assignment from those of several layers, which a loss can share between them (Peng et al., D-FINE, 2024).

    Each query has the target that the most layers give it, the lowest index on ties. A target may keep several
    queries. A query to which no layer gives a target is ignored if one of them ignores it, otherwise background.

    Args:
        assignments: An ``Assignment`` whose first batch dimension is the layers, or a sequence of assignments of equal
            shape, for the same targets.

    Returns:
        An ``Assignment`` ``(*batch, P)``. The quality of a match is the mean over the layers that made it; the numbers
        of costs that were not finite are added up.

    Raises:
        TypeError: An entry is not an ``Assignment``.
        ValueError: There is no layer, shapes differ, or the numbers of targets do; the message names the sample.

    >>> layers = torch.tensor([[[0, 1, -1]], [[1, 1, -1]], [[1, 0, 0]]])
    >>> union_of_matches(Assignment.from_index(layers, num_targets=torch.full((3, 1), 2))).target_index
    tensor([[1, 1, 0]])
    """
    layers = _stacked(assignments)
    index = layers.target_index
    num_layers, width = index.shape[0], layers.max_num_targets + 1
    check_values(
        layers.num_targets == layers.num_targets[0],
        lambda at: (
            f"layer {at[0]} has {int(layers.num_targets[at])} targets in {sample_name(at[1:])}, "
            f"layer 0 has {int(layers.num_targets[(0, *at[1:])])}"
        ),
        summary="union_of_matches: numbers of targets differ between layers",
    )
    votes = torch.zeros_like(index)
    for layer in index:
        votes += index == layer
    # Most votes first, then the lowest index, in one number; positive for every pair that was made.
    best = votes.mul_(width).sub_(index).masked_fill_(index < 0, 0).amax(0)
    target, found = -best % width, best > 0
    ignored = (index == IGNORED).any(0)
    made = (index == target) & found
    quality = torch.where(made, layers.quality, 0).sum(0) / made.sum(0).clamp(min=1)
    return Assignment(
        torch.where(found, target, torch.where(ignored, IGNORED, BACKGROUND)),
        quality,
        layers.num_targets[0],
        layers.num_invalid.sum(0),
        layers.max_num_targets,
        min(index.shape[-1], num_layers * layers.max_pairs),
    )


# --- denoising -----------------------------------------------------------------------------------------------------


def _standard_layout(num_targets: Tensor, num_groups: int, slots: int, halves: int = 2) -> Tensor:
    """Targets ``(*batch, halves * num_groups * slots)`` of the queries, ``BACKGROUND`` for all without one."""
    check_values(
        num_targets <= slots,
        lambda at: f"{sample_name(at)} has {int(num_targets[at])} targets, but there are slots for {slots} only",
        summary="denoising queries: a sample has more targets than there are slots",
    )
    slot = torch.arange(halves * slots, device=num_targets.device).repeat(num_groups)
    return torch.where(slot < num_targets.unsqueeze(-1), slot, BACKGROUND)


def _targets_in_order(positive: RaggedBatch, num_targets: Tensor, num_groups: int) -> Tensor:
    """The targets ``(*batch, K)`` of positive queries that are all of them, group after group."""
    sizes = positive.sample_sizes
    check_values(
        sizes == num_targets * num_groups,
        lambda at: (
            f"{sample_name(at)} has {int(num_targets[at])} targets in {num_groups} groups, "
            f"but {int(sizes[at])} positive queries; 'dn_target_idx' can say which targets these have"
        ),
        summary="dn_positive_idx: the number of positive queries is not that of targets times groups",
    )
    slot = torch.arange(positive.tensor.shape[-1], device=positive.device)
    return slot % num_targets.clamp(min=1).unsqueeze(-1)


def _chosen_targets(positive: RaggedBatch, chosen: RaggedBatch, targets: Targets) -> Tensor:
    """The targets ``(*batch, K)`` of positive queries, as they are listed."""
    check_same_sizes(chosen, positive, what="dn_target_idx and dn_positive_idx")
    index, count = chosen.tensor.masked_fill(~chosen.aligned_mask, 0), targets.num_targets
    check_values(
        ~chosen.aligned_mask | ((index >= 0) & (index < count.unsqueeze(-1))),
        lambda at: f"dn_target_idx of {sample_name(at[:-1])} has {int(index[at])}, of {int(count[at[:-1]])} targets",
        summary="dn_target_idx: an index is that of no target",
    )
    return index.clamp(min=0)


def _from_positive_queries(positive: RaggedBatch, target: Tensor, num_queries: int) -> Tensor:
    """Targets ``(*batch, num_queries)`` of the queries, from the positive ones ``(*batch, K)`` and their targets."""
    query = check_range(positive, num_queries, what="dn_positive_idx").masked_fill(~positive.mask, num_queries)
    # One slot more, for the filler.
    index = query.new_full((*query.shape[:-1], num_queries + 1), BACKGROUND).scatter(-1, query, target)
    uses = torch.zeros_like(index).scatter_add(-1, query, torch.ones_like(query))[..., :-1]
    check_values(
        uses <= 1,
        lambda at: f"query {at[-1]} occurs more than once in dn_positive_idx of {sample_name(at[:-1])}",
        summary="dn_positive_idx: a query occurs more than once",
    )
    return index[..., :-1].contiguous()


def _assignment(index: Tensor, num_targets: Tensor, max_num_targets: int, most: int) -> Assignment:
    return Assignment(
        index,
        (index >= 0).float(),
        num_targets,
        torch.zeros_like(num_targets),
        max_num_targets,
        min(index.shape[-1], most),
    )


# --- union ---------------------------------------------------------------------------------------------------------


def _stacked(assignments: Assignment | Sequence[Assignment]) -> Assignment:
    """One assignment with the layers as its first batch dimension."""
    if isinstance(assignments, Assignment):
        if assignments.target_index.dim() < 2 or not assignments.target_index.shape[0]:
            shape = tuple(assignments.target_index.shape)
            raise ValueError(
                f"expected an assignment of shape (layers, *batch, P) with one layer at least, got {shape}"
            )
        return assignments
    return Assignment.stack(assignments)
