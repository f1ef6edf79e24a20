"""Joining batches: their samples one after the other, or sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch, check_is_batch
from ragged.ops.masks import batched_bool_indexing
from ragged.values.checks import check_dim, check_is_sequence, check_same_device
from ragged.values.readable import values_are_readable
from ragged.values.sizes import prefix_mask


def cat_batches(batches: Sequence[RaggedBatch], dim: int = 0) -> RaggedBatch:
    """Join batches along a batch dimension; samples are padded to the largest of them.

    Dtypes that differ are promoted as ``torch.cat`` does.

    Args:
        batches: Batches that agree in all dimensions except ``dim`` and the padding.
        dim: The batch dimension to join along.

    Raises:
        ValueError: Shapes or devices differ, or there is no batch.
        TypeError: An entry is not a RaggedBatch.
        IndexError: ``dim`` is not a batch dimension.

    >>> cat_batches([combine_data([[1, 2]]), combine_data([[3], []])]).tensor
    tensor([[1, 2],
            [3, 0],
            [0, 0]])
    """
    batches = _equally_padded(batches, "cat_batches")
    first = batches[0]
    dim = check_dim(dim, first.num_batch_dims)
    kept = [(*batch.batch_shape[:dim], *batch.batch_shape[dim + 1 :]) for batch in batches]
    if any(shape != kept[0] for shape in kept):
        raise ValueError(
            f"cat_batches needs batch shapes that agree except in dimension {dim}, got "
            f"{[tuple(batch.batch_shape) for batch in batches]}"
        )
    tensor, mask, sizes = (
        torch.cat([getattr(batch, part) for batch in batches], dim) for part in ("tensor", "mask", "sample_sizes")
    )
    return RaggedBatch._unchecked(tensor, mask, sizes, first.ragged_axis)


def stack_batches(batches: Sequence[RaggedBatch], dim: int = 0) -> RaggedBatch:
    """Join batches of one batch shape along a new batch dimension, as ``torch.stack`` does for tensors.

    Args:
        batches: Batches of one batch shape, with entries of one shape.
        dim: Position of the new dimension among the batch dimensions.

    Raises:
        ValueError, TypeError, IndexError: As ``cat_batches``.

    >>> stack_batches([RaggedBatch.empty(2), RaggedBatch.empty(2)]).batch_shape
    torch.Size([2, 2])
    """
    _check_are_batches(batches, "stack_batches")
    return cat_batches([batch.unsqueeze_batch_dim(dim) for batch in batches], dim)


def cat_targets(batches: Sequence[RaggedBatch]) -> RaggedBatch:
    """Join batches sample by sample: sample i holds the entries of sample i of every batch, in order.

    On CPU, the result is as wide as its largest sample, on other devices as all batches together. Dtypes that differ
    are promoted as ``torch.cat`` does.

    Raises:
        ValueError: Batch shapes, shapes of entries or devices differ, or there is no batch.
        TypeError: An entry is not a RaggedBatch.

    >>> cat_targets([combine_data([[1, 2], []]), combine_data([[3], [4]])]).split()
    [tensor([1, 2, 3]), tensor([4])]
    """
    _check_fit(batches, "cat_targets")
    first = batches[0]
    if any(batch.batch_shape != first.batch_shape for batch in batches):
        raise ValueError(f"cat_targets needs one batch shape, got {[tuple(batch.batch_shape) for batch in batches]}")
    readable = all(values_are_readable(batch.sample_sizes) for batch in batches)
    return (_joined_packed if readable and first.total_num_samples_in_batch else _joined_static)(batches)


def _joined_packed(batches: Sequence[RaggedBatch]) -> RaggedBatch:
    """One concatenation of the entries of a sample, those of the next batch, and filler, in turn."""
    first = batches[0]
    nb, dim = first.num_batch_dims, first.non_uniform_dim
    sizes = torch.stack([batch.sample_sizes for batch in batches]).sum(0)
    counts = sizes.flatten().tolist()
    max_size = max(counts)
    pieces = [_entries(batch) for batch in batches]
    entry = pieces[0][0].shape[1:]
    missing = [max_size - count for count in counts]
    pieces.append(torch.split_with_sizes(first.tensor.new_zeros(sum(missing), *entry), missing))
    joined = torch.cat([piece for of_sample in zip(*pieces, strict=True) for piece in of_sample])
    tensor = joined.view(*first.batch_shape, max_size, *entry).movedim(nb, dim)
    return RaggedBatch._unchecked(tensor, prefix_mask(sizes, max_size), sizes, first.ragged_axis)


def _entries(batch: RaggedBatch) -> Sequence[Tensor]:
    """The valid entries of each sample, ``(n, …)``, views of one tensor where that is possible."""
    moved = batch.tensor.movedim(batch.non_uniform_dim, batch.num_batch_dims)
    sizes, max_size = batch.sample_sizes.flatten().tolist(), batch.max_sample_size
    parts = [size for own in sizes for size in (own, max_size - own)]
    flat = moved.reshape(len(sizes) * max_size, *moved.shape[batch.num_batch_dims + 1 :])
    return torch.split_with_sizes(flat, parts)[::2]


def _joined_static(batches: Sequence[RaggedBatch]) -> RaggedBatch:
    first = batches[0]
    joined = RaggedBatch.from_full_tensor(
        torch.cat([batch.tensor for batch in batches], first.non_uniform_dim),
        num_batch_dims=first.num_batch_dims,
        non_uniform_dim=first.non_uniform_dim,
    )
    mask = torch.cat([batch.mask for batch in batches], -1)
    return batched_bool_indexing(joined, mask, max_size=mask.shape[-1])


def _check_are_batches(batches: Sequence[RaggedBatch], what: str) -> None:
    check_is_sequence(batches, f"the argument of {what}", "batches")
    if not batches:
        raise ValueError(f"{what} needs at least one batch, got none")
    for batch in batches:
        check_is_batch(batch, f"each argument of {what}")
        check_same_device(batch.device, batches[0].device, name=f"each argument of {what}", reference="the first")


def _check_fit(batches: Sequence[RaggedBatch], what: str) -> None:
    """Raise unless all are batches with entries of one shape, ragged along the same dimension."""
    _check_are_batches(batches, what)
    layouts = [(batch.num_batch_dims, batch.non_uniform_dim) for batch in batches]
    if any(layout != layouts[0] for layout in layouts):
        raise ValueError(f"{what} needs batches of equal num_batch_dims and non_uniform_dim, got {layouts}")
    (num_batch_dims, dim), shapes = layouts[0], [tuple(batch.shape) for batch in batches]
    if any(
        shape[num_batch_dims:dim] + shape[dim + 1 :] != shapes[0][num_batch_dims:dim] + shapes[0][dim + 1 :]
        for shape in shapes
    ):
        raise ValueError(f"{what} needs entries of one shape, got tensors of shapes {shapes}")


def _equally_padded(batches: Sequence[RaggedBatch], what: str) -> list[RaggedBatch]:
    _check_fit(batches, what)
    max_size = max(batch.max_sample_size for batch in batches)
    return [batch.with_max_sample_size(max_size) for batch in batches]
