"""Which target each query has: of all layers, in groups of queries, and of denoising queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.criteria.query.matched_layers import LayerAssignments
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising import denoising_assignment
from matchers.by_cost.hungarian import Hungarian
from matchers.costs.terms import detr_costs
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.keys import KnownKeys
from ragged.values.precision import wide

Matcher = Callable[[Predictions, Targets], Assignment]


def usual_matcher(has_background: bool) -> Hungarian:
    """The cost of Deformable DETR; that of DETR for a softmax over the classes and a background."""
    softmax = detr_costs(classes="softmax", class_weight=1.0)
    return Hungarian(softmax, normalized=True) if has_background else Hungarian()


def matches_of_layers(layers: DecoderLayers, targets: Targets, matcher: Matcher, num_groups: int) -> Assignment:
    """The assignment (L, B, Q) of queries that are matched; each of the groups of queries on its own."""
    seen = without_labels(targets, layers)
    if num_groups == 1:
        return matcher(layers.predictions(), seen)
    queries = layers.logits.shape[-2]
    if layers.sizes is not None:
        raise ValueError(
            f"num_groups must be 1 for ragged queries, got {num_groups}: where a group ends is not known of them"
        )
    if queries % num_groups:
        raise ValueError(
            f"num_groups must divide the queries: got {num_groups} groups and {queries} queries of "
            f"layer {layers.suffixes[0]!r}"
        )
    logits, boxes = (
        each.unflatten(-2, (num_groups, queries // num_groups)).movedim(-3, 0) for each in (layers.logits, layers.boxes)
    )
    return _side_by_side(matcher(Predictions(logits, boxes, box_format="cxcywh", normalized=True), seen))


def matches_of_denoising(dn_meta: Mapping[str, Any] | None, targets: Targets, layers: DecoderLayers) -> Assignment:
    """The assignment (L, B, Q) of denoising queries, which is that of the first layer."""
    found = denoising_assignment(dn_meta, targets)
    queries = layers.logits.shape[-2]
    if found.target_index.shape[-1] != queries:
        raise ValueError(f"dn_meta is of {found.target_index.shape[-1]} denoising queries, outputs are of {queries}")
    return of_all_layers(found, len(layers.suffixes))


def of_all_layers(assignment: Assignment, layers: int) -> Assignment:
    """One assignment (B, Q) as that of so many layers (L, B, Q). Nothing is copied."""
    return pytree.tree_map(lambda part: part.expand(layers, *part.shape), assignment)


def of_groups(read: DecoderOutputs, assignments: Any) -> tuple[Assignment, ...]:
    """The assignments of layers, given by their suffixes, as those of the groups."""
    if not isinstance(assignments, Mapping):
        raise TypeError(f"assignments must be a dict, as assign gives it, got {type(assignments).__name__}")
    groups = tuple(group.suffixes for group in read.groups)
    if isinstance(assignments, LayerAssignments) and assignments.suffixes == groups:
        return assignments.groups
    suffixes = tuple(suffix for group in groups for suffix in group)
    for suffix in suffixes:
        if suffix not in assignments:
            raise KeyError(f"there is no assignment of layer {suffix!r}, but of {list(assignments)}")
    KnownKeys(suffixes).check(assignments, "the assignments of these outputs")
    return tuple(Assignment.stack([assignments[suffix] for suffix in group]) for group in groups)


def without_labels(targets: Targets, layers: DecoderLayers) -> Targets:
    """The targets as these layers see them: all of class 0 where they ask for no class."""
    if not layers.agnostic or targets.labels is None:
        return targets
    labels = targets.labels
    nothing = labels.create_with_sample_sizes_like_self(torch.zeros_like(labels.tensor))
    return replace(targets, labels=nothing)


def num_targets(targets: Targets) -> Tensor:
    """(B,), float32 at least: how many targets can be matched, each as often as its weight says."""
    if targets.weights is None:
        return targets.matchable.sum(-1, dtype=torch.float32)
    return wide(targets.weights.detach().with_padded_set_to(0).tensor).masked_fill(~targets.matchable, 0).sum(-1)


def pairs_by_query(assignment: Assignment) -> list[tuple[Tensor, Tensor]]:
    """The positive queries of each image and their targets, ordered by query; the host waits for their numbers."""
    gt, pred = assignment.pairs()
    found = []
    for query, target in zip(pred.split(), gt.split(), strict=True):
        order = query.argsort()
        found.append((query[order], target[order]))
    return found


def _side_by_side(groups: Assignment) -> Assignment:
    """Assignments (K, L, B, Q) of K groups of queries as one (L, B, K Q)."""
    index = groups.target_index
    return Assignment(
        index.movedim(0, -2).flatten(-2),
        groups.quality.movedim(0, -2).flatten(-2),
        groups.num_targets[0],
        groups.num_invalid.sum(0),
        groups.max_num_targets,
        index.shape[0] * groups.max_pairs,
    )
