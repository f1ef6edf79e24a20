"""Reshaping the batch dimensions of a RaggedBatch, changing its padding, and taking it apart into samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragged.batch.core import AnyBatch, BatchCore
from ragged.values.checks import (
    check_count,
    check_dim,
    check_has_values,
    check_is_sequence,
    check_values,
    checked_sizes,
    sample_name,
)
from ragged.values.sizes import prefix_mask


def _map_parts(batch: AnyBatch, function: Any) -> AnyBatch:
    """Apply a function of (tensor, number of dimensions behind the batch dimensions) to tensor, mask and sizes."""
    num_batch_dims = batch.num_batch_dims
    tensor, mask, sample_sizes = (
        function(part, part.dim() - num_batch_dims) for part in (batch.tensor, batch.mask, batch.sample_sizes)
    )
    return batch._unchecked(tensor, mask, sample_sizes, batch.ragged_axis)


def reshape_batch_dims(batch: AnyBatch, new_batch_shape: int | Sequence[int]) -> AnyBatch:
    """Reshape the batch dimensions; one of the new sizes may be -1.

    >>> RaggedBatch.empty((2, 3)).reshape_batch_dims((3, -1)).batch_shape
    torch.Size([3, 2])
    """
    shape = checked_sizes(new_batch_shape, "new_batch_shape", lowest=-1)
    try:
        # Resolved on the sizes: a -1 cannot be inferred from a tensor without elements.
        shape = tuple(torch.empty(batch.batch_shape, device="meta").reshape(shape).shape)
    except RuntimeError:
        raise ValueError(
            f"new_batch_shape must have as many samples as batch shape {tuple(batch.batch_shape)}, got {shape}"
        ) from None
    return _map_parts(batch, lambda part, after: part.reshape(*shape, *part.shape[part.dim() - after :]))


def flatten_batch_dims(batch: AnyBatch) -> AnyBatch:
    """Merge all batch dimensions into one.

    >>> RaggedBatch.empty((2, 3)).flatten_batch_dims().batch_shape
    torch.Size([6])
    """
    return reshape_batch_dims(batch, (batch.total_num_samples_in_batch,))


def unsqueeze_batch_dim(batch: AnyBatch, dim: int) -> AnyBatch:
    """Insert a batch dimension of size 1 at ``dim``, at most ``num_batch_dims``.

    >>> RaggedBatch.empty((2, 3)).unsqueeze_batch_dim(2).batch_shape
    torch.Size([2, 3, 1])
    """
    dim = check_dim(dim, batch.num_batch_dims + 1)
    return _map_parts(batch, lambda part, _: part.unsqueeze(dim))


def squeeze_batch_dim(batch: AnyBatch, dim: int) -> AnyBatch:
    """Remove the batch dimension ``dim``, which must have size 1.

    Raises:
        ValueError: The dimension has another size.

    >>> RaggedBatch.empty((2, 1)).squeeze_batch_dim(1).batch_shape
    torch.Size([2])
    """
    dim = check_dim(dim, batch.num_batch_dims)
    if batch.batch_shape[dim] != 1:
        raise ValueError(
            f"dim must be a batch dimension of size 1, got dimension {dim} of size {batch.batch_shape[dim]}"
        )
    return _map_parts(batch, lambda part, _: part.squeeze(dim))


def broadcast_batch_dims_to_shape(batch: AnyBatch, new_batch_shape: Sequence[int]) -> AnyBatch:
    """Expand batch dimensions of size 1, and add leading ones, to reach ``new_batch_shape``; nothing is copied.

    Other sizes are not repeated, not even to a multiple: ``repeat_samples`` does that.

    >>> RaggedBatch.empty((2, 1)).broadcast_batch_dims_to_shape((4, 2, 3)).batch_shape
    torch.Size([4, 2, 3])
    """
    shape = checked_sizes(new_batch_shape, "new_batch_shape")
    missing = len(shape) - batch.num_batch_dims
    fits = missing >= 0 and all(old in (1, new) for old, new in zip(batch.batch_shape, shape[missing:], strict=True))
    if not fits:
        text = f"new_batch_shape must broadcast from batch shape {tuple(batch.batch_shape)}, got {shape}"
        if missing == 0 and all(old and new % old == 0 for old, new in zip(batch.batch_shape, shape, strict=True)):
            factors = tuple(new // old for old, new in zip(batch.batch_shape, shape, strict=True))
            text += f"; to repeat the samples, use repeat_samples({factors})"
        raise ValueError(text)
    return _map_parts(batch, lambda part, after: part.expand(*shape, *part.shape[part.dim() - after :]))


def broadcast_batch_dims(batches: Sequence[AnyBatch]) -> list[AnyBatch]:
    """Broadcast the batch dimensions of several batches against each other.

    Returns:
        A list of RaggedBatches of one batch shape.

    Raises:
        ValueError: Batch shapes do not broadcast.
        TypeError: An entry is not a RaggedBatch.

    >>> first, second = RaggedBatch.broadcast_batch_dims([RaggedBatch.empty((2, 1)), RaggedBatch.empty((1, 3))])
    >>> second.batch_shape
    torch.Size([2, 3])
    """
    check_is_sequence(batches, "batches", "batches")
    wrong = [type(batch).__name__ for batch in batches if not hasattr(batch, "batch_shape")]
    if wrong:
        raise TypeError(f"each of the batches must be a RaggedBatch, got {wrong[0]}")
    shapes = [tuple(batch.batch_shape) for batch in batches]
    try:
        shape = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(f"batch shapes must broadcast against each other, got {shapes}") from None
    return [broadcast_batch_dims_to_shape(batch, shape) for batch in batches]


def repeat_samples(batch: AnyBatch, num_repeats: int | Sequence[int], batch_dim: int | None = None) -> AnyBatch:
    """Repeat the samples along the batch dimensions, as ``torch.Tensor.repeat`` does.

    Args:
        num_repeats: How often to repeat along ``batch_dim``, or one number for each batch dimension.
        batch_dim: The dimension for a single number; optional if there is only one.

    >>> RaggedBatch(torch.zeros(2, 3), sample_sizes=[1, 3]).repeat_samples(2).sample_sizes
    tensor([1, 3, 1, 3])
    """
    num_batch_dims = batch.num_batch_dims
    if isinstance(num_repeats, (int, np.integer, torch.SymInt)):
        check_count(num_repeats, "num_repeats")
        if batch_dim is None and num_batch_dims != 1:
            raise ValueError(f"batch_dim must be given for {num_batch_dims} batch dimensions, got None")
        dim = check_dim(0 if batch_dim is None else batch_dim, num_batch_dims, name="batch_dim")
        repeats = tuple(num_repeats if d == dim else 1 for d in range(num_batch_dims))
    else:
        repeats = checked_sizes(num_repeats, "num_repeats")
        if batch_dim is not None or len(repeats) != num_batch_dims:
            raise ValueError(
                f"num_repeats must have one number for each of the {num_batch_dims} batch dimensions, without "
                f"batch_dim, got {repeats} and batch_dim={batch_dim}"
            )
    if not repeats:  # torch cannot repeat a tensor without dimensions
        return batch
    return _map_parts(batch, lambda part, after: part.repeat(*repeats, *(1,) * after))


def resize(batch: AnyBatch, max_size: int) -> AnyBatch:
    """The same samples, cut or extended with zeros to ``max_size`` along the ragged dimension."""
    check_count(max_size, "max_size")
    old, dim, sizes = batch.max_sample_size, batch.non_uniform_dim, batch.sample_sizes
    if max_size <= old:
        check_values(
            sizes <= max_size,
            lambda at: f"max_size must be at least {int(sizes[at])}, the size of {sample_name(at)}, got {max_size}",
            summary="RaggedBatch: max_size must be at least the size of each sample",
        )
        tensor = batch.tensor.narrow(dim, 0, max_size)
    else:
        # Not pad, which refuses other dimensions of size 0 in torch 2.9 and older.
        missing = (*batch.shape[:dim], max_size - old, *batch.shape[dim + 1 :])
        tensor = torch.cat([batch.tensor, batch.tensor.new_zeros(missing)], dim)
    return batch._unchecked(tensor, prefix_mask(sizes, max_size), sizes, batch.ragged_axis)


def item_at(batch: AnyBatch, item: Any) -> Any:
    """Index data dimensions and keep the samples; any other index gives ``tensor[item]``, a plain tensor.

    Args:
        item: As for a tensor. If it takes every batch dimension and the ragged one whole, by ``...`` or ``:``, the
            result is a RaggedBatch: ``batch[..., :2]``, ``batch[..., 0]``, ``batch[..., None]``, and one list of
            indices, ``batch[..., [2, 0]]``. Otherwise it is a plain tensor, without sizes and with filler:
            ``batch[0]``, ``batch[:, :3]``.

    >>> boxes = RaggedBatch(torch.zeros(2, 3, 4), sample_sizes=[3, 1])
    >>> [sample.shape for sample in boxes[..., :2].split()]
    [torch.Size([3, 2]), torch.Size([1, 2])]
    >>> type(boxes[0]).__name__
    'Tensor'
    """
    axis = axis_within(batch, item)
    result = batch.tensor[item]
    return result if axis is None else batch._unchecked(result, batch.mask, batch.sample_sizes, axis)


def axis_within(batch: BatchCore, item: Any) -> int | None:
    """``ragged_axis`` of ``tensor[item]``, or None if ``item`` does not take batch and ragged dimensions whole."""
    parts = list(item) if isinstance(item, tuple) else [item]
    if not all(each is None or each is Ellipsis or _is_of_one_dim(each) for each in parts):
        return None
    missing = batch.dim() - sum(each is not None and each is not Ellipsis for each in parts)
    dots = [place for place, each in enumerate(parts) if each is Ellipsis]
    if missing < 0 or len(dots) > 1:
        return None  # an error, for the tensor to say
    start = dots[0] if dots else len(parts)
    parts[start : start + 1] = [slice(None)] * missing
    dim, axis, nb, ragged = 0, batch.ragged_axis, batch.num_batch_dims, batch.non_uniform_dim
    for each in parts:
        if each is None and dim < nb:
            return None
        if (dim < nb or dim == ragged) and each is not None and not _is_whole(each):
            return None
        if dim <= ragged:
            axis += 1 if each is None else -isinstance(each, (int, np.integer, torch.SymInt))
        dim += each is not None
    return axis if sum(isinstance(each, (list, Tensor, np.ndarray)) for each in parts) <= 1 else None


def _is_of_one_dim(each: Any) -> bool:
    """Whether an index is of one dimension, and leaves the others where they are."""
    if isinstance(each, bool):
        return False
    if isinstance(each, (Tensor, np.ndarray)):
        return each.ndim == 1
    if isinstance(each, list):
        return not any(isinstance(part, (list, tuple, Tensor, np.ndarray)) for part in each)
    return isinstance(each, (int, np.integer, torch.SymInt, slice))


def _is_whole(each: Any) -> bool:
    return isinstance(each, slice) and each.start is None and each.stop is None and each.step is None


def split(batch: BatchCore) -> Any:
    """The samples without padding: a list of tensors, nested once more for each further batch dimension.

    Sizes are read on the host, which synchronises on an accelerator. Samples are views of the data.

    >>> RaggedBatch(torch.tensor([[1, 2], [3, 0]]), sample_sizes=[2, 1]).split()
    [tensor([1, 2]), tensor([3])]
    """
    check_has_values(batch.sample_sizes, "split")
    return _split(batch.tensor, batch.sample_sizes.tolist(), batch.ragged_axis)


def _split(tensor: Tensor, sizes: Any, axis: int) -> Any:
    if isinstance(sizes, int):
        return tensor.narrow(axis, 0, sizes)
    return [_split(part, size, axis) for part, size in zip(tensor.unbind(), sizes, strict=True)]
