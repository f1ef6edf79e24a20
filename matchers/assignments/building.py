"""Assignments from what was made elsewhere: indices of targets, and pairs of indices."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.assignments.checks import check_num_targets, check_quality
from matchers.assignments.forms import counts_of_targets
from matchers.assignments.parts import BACKGROUND, IGNORED
from ragged import RaggedBatch, batched_indexing_write
from ragged.ops.indices import as_indices, check_range
from ragged.values.checks import (
    check_count,
    check_is_tensor,
    check_positive,
    check_same_device,
    check_shares,
    check_values,
    sample_name,
)
from ragged.values.sizes import largest_size

PartsOfIndex = tuple[Tensor, Tensor, Tensor, Tensor, int, int]
"""All that an ``Assignment`` is made of, in its order."""


def parts_of_index(
    target_index: Tensor,
    num_targets: Tensor,
    quality: Tensor | None,
    max_num_targets: int | None,
    per_target: int | None,
) -> PartsOfIndex:
    """The parts of an assignment that is given by an index; see ``Assignment.from_index``."""
    num_targets = checked_index(target_index, num_targets).to(torch.int64)
    width = checked_max_num_targets(max_num_targets, num_targets)
    most = target_index.shape[-1]
    if per_target is not None:
        most = _checked_most_pairs(target_index, width, per_target)
    quality = checked_quality(quality, target_index)
    return target_index, quality, num_targets, torch.zeros_like(num_targets), width, most


def checked_index(target_index: Tensor, num_targets: Tensor) -> Tensor:
    """Raise unless these are indices ``(*batch, P)`` of targets, -1 or -2; returns the numbers as ``(*batch,)``."""
    if not isinstance(target_index, Tensor) or target_index.dtype != torch.int64:
        got = target_index.dtype if isinstance(target_index, Tensor) else type(target_index).__name__
        raise TypeError(f"target_index must be an int64 tensor, got {got}")
    check_is_tensor(target_index, "target_index")
    if target_index.dim() == 0:
        raise ValueError("target_index must have shape (*batch, P), got ()")
    check_num_targets(num_targets)
    batch_shape = target_index.shape[:-1]
    if num_targets.shape != batch_shape[max(len(batch_shape) - num_targets.dim(), 0) :]:
        raise ValueError(f"num_targets must have the shape {tuple(batch_shape)}, got {tuple(num_targets.shape)}")
    num_targets = num_targets.expand(batch_shape)
    check_same_device(num_targets.device, target_index.device, name="num_targets", reference="target_index")
    check_values(
        (target_index >= IGNORED) & (target_index < num_targets.unsqueeze(-1)),
        lambda at: (
            f"target_index must be a target, -1 or -2; got {int(target_index[at])} for prediction {at[-1]} of "
            f"{sample_name(at[:-1])}, which has {int(num_targets[at[:-1]])} targets"
        ),
        summary="Assignment: an index is out of range",
    )
    return num_targets


def checked_max_num_targets(max_num_targets: int | None, num_targets: Tensor) -> int:
    """The largest number of targets, or what is given, if no sample has more."""
    if max_num_targets is None:
        max_num_targets = largest_size(num_targets)
    check_count(max_num_targets, "max_num_targets")
    check_values(
        num_targets <= max_num_targets,
        lambda at: f"max_num_targets is {max_num_targets}, but {sample_name(at)} has {int(num_targets[at])} targets",
        summary="Assignment: a sample has more than max_num_targets targets",
    )
    return max_num_targets


def _checked_most_pairs(target_index: Tensor, max_num_targets: int, per_target: int) -> int:
    """The largest number of pairs of a sample with at most ``per_target`` for a target; an error if one has more."""
    check_positive(per_target, "per_target")
    most = target_index.shape[-1]
    if per_target >= most:
        return most
    counts = counts_of_targets(target_index, max_num_targets)
    check_values(
        counts <= per_target,
        lambda at: (
            f"target {at[-1]} of {sample_name(at[:-1])} has {int(counts[at])} predictions, more than per_target="
            f"{per_target}; leave per_target out if there is no bound"
        ),
        summary="Assignment: a target has more than per_target predictions",
    )
    return min(most, per_target * max_num_targets)


def checked_quality(quality: Tensor | None, target_index: Tensor) -> Tensor:
    """Quality of positives, 1 if not given, and 0 of all others."""
    if quality is None:
        quality = torch.ones_like(target_index, dtype=torch.float32)
    else:
        check_quality(quality, target_index)
        check_shares(quality, "quality", counts=target_index >= 0)
    return torch.where(target_index >= 0, quality, 0).float()


def index_of_pairs(
    matched_gt_indices: RaggedBatch, matched_pred_indices: RaggedBatch, num_predictions: int, num_targets: Tensor
) -> Tensor:
    """The target of each prediction ``(*batch, P)``, from pairs of indices."""
    check_count(num_predictions, "num_predictions")
    check_num_targets(num_targets)
    none = torch.full((*num_targets.shape, num_predictions), BACKGROUND, device=num_targets.device)
    gt_indices = as_indices(matched_gt_indices)
    if gt_indices.batch_shape != num_targets.shape:
        raise ValueError(
            f"num_targets must have the batch shape of the indices, {tuple(gt_indices.batch_shape)}, "
            f"got {tuple(num_targets.shape)}"
        )
    check_same_device(num_targets.device, gt_indices.device, name="num_targets", reference="the indices")
    check_range(gt_indices, num_targets.unsqueeze(-1), what="matched_gt_indices")
    return batched_indexing_write(gt_indices, matched_pred_indices, none, check_duplicates=True)
