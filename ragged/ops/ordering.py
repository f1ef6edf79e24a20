"""Sorting over targets, and the largest or smallest entries. Ties go to the lowest index; filler is never found."""

from __future__ import annotations

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch, check_is_batch
from ragged.values.checks import check_count, check_flag
from ragged.values.masked import filled
from ragged.values.ranking import INDEX_BITS, INDEX_MASK, index_of, prefer_first, sortable
from ragged.values.readable import values_are_readable
from ragged.values.sizes import prefix_mask

# Numbers that 32 bits hold, so that a key has room for an index beside them.
_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def sort_over_targets(data: RaggedBatch, *, descending: bool = False) -> tuple[RaggedBatch, RaggedBatch]:
    """Sort the valid entries of each sample, stably; NaN counts as the largest value.

    Returns:
        The sorted values, in the dtype of ``data``, and the indices they came from, int64. Both are RaggedBatches of
        the shape and sizes of ``data``, with filler 0.

    Raises:
        TypeError: ``data`` is not a RaggedBatch, or is complex.

    >>> values, indices = sort_over_targets(RaggedBatch(torch.tensor([[3, 1, 2], [5, 4, 0]]), sample_sizes=[3, 2]))
    >>> values.split(), indices.split()
    ([tensor([1, 2, 3]), tensor([4, 5])], [tensor([1, 2, 0]), tensor([1, 0])])
    """
    require_order(data)
    check_flag(descending, "descending")
    dim, mask = data.non_uniform_dim, data.aligned_mask.expand(data.shape)
    by_value = torch.sort(data.tensor.detach(), dim=dim, descending=bool(descending), stable=True).indices
    # No value could stand in for the filler: NaN sorts behind infinity. A second stable sort moves it to the end.
    to_front = torch.sort((~mask.gather(dim, by_value)).to(torch.uint8), dim=dim, stable=True).indices
    order = by_value.gather(dim, to_front).masked_fill(~mask, 0)
    values = data.tensor.gather(dim, order).masked_fill(~mask, 0)
    return data._with(values), data._with(order)


def topk_over_targets(data: RaggedBatch, k: int, *, largest: bool = True) -> tuple[RaggedBatch, RaggedBatch]:
    """The ``k`` largest (or smallest) valid entries of each sample, sorted; all of them where there are fewer.

    Returns:
        The values, in the dtype of ``data``, and the indices they came from, int64. Both are RaggedBatches of shape
        ``(*batch, …, min(k, max_size), …)`` with sizes ``min(k, size)`` and filler 0.

    Raises:
        TypeError: ``data`` is not a RaggedBatch, or is complex.
        ValueError: ``k`` is negative.

    >>> values, _ = topk_over_targets(RaggedBatch(torch.tensor([[3, 1, 2], [5, 4, 0]]), sample_sizes=[3, 1]), 2)
    >>> values.split()
    [tensor([3, 2]), tensor([5])]
    """
    check_count(k, "k")
    check_flag(largest, "largest")
    require_order(data)
    size, sizes = min(k, data.max_sample_size), data.sample_sizes.clamp(max=k)
    mask = prefix_mask(sizes, size)
    kept = mask.view(*data.batch_shape, *(1,) * data.ragged_axis, size, *(1,) * (data.dim() - data.non_uniform_dim - 1))
    indices = filled(_found(data, size, largest), kept, 0)
    values = filled(data.tensor.gather(data.non_uniform_dim, indices), kept, 0)
    axis = data.ragged_axis
    return RaggedBatch._unchecked(values, mask, sizes, axis), RaggedBatch._unchecked(indices, mask, sizes, axis)


def _found(data: RaggedBatch, size: int, largest: bool) -> Tensor:
    """Indices of the largest or smallest entries in order, and anything behind them."""
    dim = data.non_uniform_dim
    if data.dtype not in _NARROW:
        return sort_over_targets(data, descending=largest)[1].tensor.narrow(dim, 0, size)
    sorting = _sortable(data.tensor.detach())
    position = torch.arange(data.max_sample_size, device=data.device)
    position = position.view(-1, *(1,) * (data.dim() - dim - 1))
    key = prefer_first(sorting, position) if largest else sorting | position
    bound = torch.iinfo(torch.int64).min if largest else torch.iinfo(torch.int64).max
    found = torch.where(data.aligned_mask, key, bound).topk(size, dim, largest=bool(largest)).values
    return INDEX_MASK - index_of(found) if largest else index_of(found)


def _sortable(values: Tensor) -> Tensor:
    """As ``sortable``, with NaN as the largest value, and of integers too."""
    if not values.is_floating_point():
        return values.to(torch.int64) << INDEX_BITS
    # Of NaN, torch does not say which sign it has. A sum is NaN if one of its terms is.
    if not values_are_readable(values) or values.sum().isnan():
        values = values.masked_fill(values.isnan(), torch.nan)
    return sortable(values)


def require_order(data: RaggedBatch) -> None:
    """Raise ``TypeError`` unless ``data`` is a batch of numbers that can be compared."""
    check_is_batch(data, "data")
    if data.dtype.is_complex:
        raise TypeError(f"data must be real to be ordered, got {data.dtype}")
