"""Other forms of a match: pairs of indices, what the targets of predictions have, the heaviest target of a plan."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.assignments.parts import BACKGROUND, IGNORED
from ragged import RaggedBatch
from ragged.batch.layout import check_same_sizes
from ragged.batch.ragged_batch import check_is_batch
from ragged.values.filler import check_fits_dtype
from ragged.values.ranking import largest
from ragged.values.sizes import prefix_mask


def gathered(values: RaggedBatch, target_index: Tensor, like: RaggedBatch, fill: float | int | bool) -> Tensor:
    """The value of each prediction's target: values ``(*batch, G, …)`` of targets ``like``, as ``(*batch, P, …)``."""
    check_is_batch(values, "values")
    check_fits_dtype(fill, values.dtype)
    if values.ragged_axis != 0:
        raise ValueError(
            f"values must have shape (*batch, G, …), ragged along G, got {tuple(values.shape)} with "
            f"non_uniform_dim={values.non_uniform_dim}"
        )
    check_same_sizes(values, like, what="values and targets of the assignment")
    if values.max_sample_size == 0:
        values = values.with_max_sample_size(1)  # there has to be something to read, if only filler
    shape = target_index.shape
    rest = values.tensor.shape[len(shape) :]
    aligned = (*shape, *(1,) * len(rest))
    index = target_index.clamp(min=0).view(aligned).expand(*shape, *rest)
    return values.tensor.gather(len(shape) - 1, index).masked_fill(target_index.view(aligned) < 0, fill)


def pairs_of_index(target_index: Tensor, max_num_targets: int, max_pairs: int) -> tuple[RaggedBatch, RaggedBatch]:
    """Indices of targets and predictions, ordered by target, then by prediction."""
    positive = target_index >= 0
    order = torch.where(positive, target_index, max_num_targets).argsort(dim=-1, stable=True)
    order = order[..., :max_pairs].contiguous()
    sizes = positive.sum(-1)
    mask = prefix_mask(sizes, order.shape[-1])
    pred = order.masked_fill(~mask, 0)
    gt = target_index.gather(-1, order).masked_fill(~mask, 0)
    return RaggedBatch._unchecked(gt, mask, sizes, 0), RaggedBatch._unchecked(pred, mask, sizes, 0)


def counts_of_targets(target_index: Tensor, max_num_targets: int) -> Tensor:
    """The number of predictions of each target, ``(*batch, G)``."""
    slot = torch.where(target_index >= 0, target_index, max_num_targets)
    counts = slot.new_zeros(*slot.shape[:-1], max_num_targets + 1).scatter_add(-1, slot, torch.ones_like(slot))
    return counts[..., :-1].contiguous()


def heaviest(weights: RaggedBatch, background: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
    """The target of each prediction ``(*batch, P)`` of a plan, and how much of it goes there."""
    padded = weights.with_padded_set_to(-1.0).tensor
    if padded.shape[-1] == 0:
        best, index = torch.full_like(background, -1.0), torch.zeros_like(background, dtype=torch.int64)
    else:
        best, index = (found.squeeze(-1) for found in largest(padded, 1))
    positive = best >= threshold if threshold is not None else (best > background) & (best > 0)
    # Neither a target nor the background wants it.
    other = torch.where((background == 0) & (best <= 0), IGNORED, BACKGROUND)
    return torch.where(positive, index, other), torch.where(positive, best, 0).float()
