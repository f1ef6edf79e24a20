"""Masks and indices: turning one into the other, and reading and writing the entries where a mask is true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, overload

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch, check_is_data
from ragged.ops.indexing import batched_indexing_access, batched_indexing_write
from ragged.ops.indices import as_indices, check_range, check_written_along
from ragged.values.checks import check_count, check_is_tensor, check_same_device, check_values, sample_name
from ragged.values.filler import fill
from ragged.values.sizes import largest_size, prefix_mask

AnyBatch = TypeVar("AnyBatch", RaggedBatch, Tensor)


def get_mask_from_indices(mask_num_targets: int, indices: RaggedBatch | Tensor) -> Tensor:
    """Mask ``(*batch, mask_num_targets)``, bool, that is true at the valid indices of each sample.

    Raises:
        IndexError: A valid index is negative or not below ``mask_num_targets``.
        TypeError: Indices are not integers.

    >>> get_mask_from_indices(3, RaggedBatch(torch.tensor([[2, 0], [1, 0]]), sample_sizes=[2, 1]))
    tensor([[ True, False,  True],
            [False,  True, False]])
    """
    check_count(mask_num_targets, "mask_num_targets")
    indices = as_indices(indices)
    check_range(indices, mask_num_targets, what="get_mask_from_indices")
    place = torch.where(indices.mask, indices.tensor, mask_num_targets)
    mask = indices.mask.new_zeros(*indices.batch_shape, mask_num_targets + 1)
    return mask.scatter(-1, place, True)[..., :mask_num_targets]


def get_indices_from_mask(mask: RaggedBatch | Tensor, *, max_size: int | None = None) -> RaggedBatch:
    """Indices of the true entries of each sample, in ascending order.

    Args:
        mask: Boolean, ``(*batch, N)``. The filler of a RaggedBatch counts as false.
        max_size: Size of the ragged dimension of the result. Without it the largest count is read, which synchronises
            on an accelerator.

    Returns:
        int64, ``(*batch, max_size)``; its filler is 0.

    Raises:
        ValueError: A sample has more than ``max_size`` true entries.

    >>> get_indices_from_mask(torch.tensor([[True, False, True], [False, False, False]])).split()
    [tensor([0, 2]), tensor([], dtype=torch.int64)]
    """
    true = _true_entries(mask)
    sizes = true.sum(-1)
    if max_size is None:
        max_size = largest_size(sizes)
    else:
        check_count(max_size, "max_size")
        check_values(
            sizes <= max_size,
            lambda at: (
                f"max_size must be at least {int(sizes[at])}, the number of true entries of {sample_name(at)}, "
                f"got {max_size}"
            ),
            summary="get_indices_from_mask: max_size must be at least the number of true entries of each sample",
        )
    rank = torch.where(true, true.cumsum(-1) - 1, max_size).clamp(max=max_size)
    entries = torch.arange(true.shape[-1], device=true.device).expand_as(true)
    indices = rank.new_zeros(*true.shape[:-1], max_size + 1).scatter(-1, rank, entries)[..., :max_size]
    return RaggedBatch._unchecked(indices, prefix_mask(sizes, max_size), sizes, 0)


def batched_bool_indexing(
    input_data: RaggedBatch | Tensor, input_mask: RaggedBatch | Tensor, *, max_size: int | None = None
) -> RaggedBatch:
    """Keep the entries where a mask is true: ``result[i] = input_data[i][input_mask[i]]`` for each sample ``i``.

    Args:
        input_data: Shape ``(*batch, …, N, …)``, read along its ragged dimension, or along the first one after the batch
            dimensions of a plain tensor.
        input_mask: Boolean, ``(*batch, N)``. The filler of either argument counts as false.
        max_size: As in ``get_indices_from_mask``; give it to avoid a synchronisation.

    Returns:
        A RaggedBatch with as many entries in each sample as the mask has true ones, in the same order. Differentiable.

    Raises:
        ValueError: Shapes differ, or a sample has more than ``max_size`` true entries.
        TypeError: ``input_mask`` is not boolean.

    >>> data = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> batched_bool_indexing(data, data % 2 == 0).split()
    [tensor([2]), tensor([4, 6])]
    """
    mask = _mask_for(input_data, input_mask)
    return batched_indexing_access(input_data, get_indices_from_mask(mask, max_size=max_size))


@overload
def batched_bool_indexing_write(
    to_write: RaggedBatch | Tensor, output_mask: RaggedBatch | Tensor, to_write_into: Tensor
) -> Tensor: ...


@overload
def batched_bool_indexing_write(
    to_write: RaggedBatch | Tensor, output_mask: RaggedBatch | Tensor, to_write_into: RaggedBatch
) -> RaggedBatch: ...


def batched_bool_indexing_write(
    to_write: RaggedBatch | Tensor, output_mask: RaggedBatch | Tensor, to_write_into: RaggedBatch | Tensor
) -> RaggedBatch | Tensor:
    """Write where a mask is true: ``result[i][output_mask[i]] = to_write[i]`` for each sample ``i``, not in place.

    Args:
        to_write: Shape ``(*batch, …, K, …)``: as many entries in each sample as the mask has true ones. A RaggedBatch
            is ragged along the dimension that is written along.
        output_mask: Boolean, ``(*batch, N)``. The filler of mask and ``to_write_into`` counts as false.
        to_write_into: Shape ``(*batch, …, N, …)``, written along its ragged dimension, or along the first one after the
            batch dimensions of a plain tensor.

    Returns:
        A tensor or RaggedBatch, as ``to_write_into`` is. Differentiable in both data arguments.

    Raises:
        ValueError: A sample has a different number of entries than the mask has true ones, or ``to_write`` is ragged
            along another dimension.

    >>> kept = RaggedBatch(torch.tensor([[20, 0], [40, 60]]), sample_sizes=[1, 2])
    >>> data = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> batched_bool_indexing_write(kept, data % 2 == 0, data)
    tensor([[ 1, 20,  3],
            [40,  5, 60]])
    """
    mask = _mask_for(to_write_into, output_mask)
    num_batch_dims = mask.dim() - 1
    check_is_data(to_write, "to_write")
    dim = to_write_into.non_uniform_dim if isinstance(to_write_into, RaggedBatch) else num_batch_dims
    check_written_along(to_write, to_write_into, dim)
    if not isinstance(to_write, RaggedBatch):
        to_write = RaggedBatch.from_full_tensor(to_write, num_batch_dims=num_batch_dims, non_uniform_dim=dim)
    # The sizes of the data bound the counts, so nothing needs to be read; that they agree is checked by the write.
    indices = get_indices_from_mask(mask, max_size=to_write.max_sample_size)
    return batched_indexing_write(to_write, indices, to_write_into)


def apply_mask_to_tensor(data: Tensor, mask: Tensor, value_to_set: complex | bool = 0.0) -> Tensor:
    """A copy of ``data`` with ``value_to_set`` where the mask is false; no gradient flows there.

    Args:
        data: Shape ``(*mask.shape, …)``.
        mask: Boolean; its dimensions are the first ones of ``data``.

    Raises:
        TypeError: ``mask`` is not boolean.
        ValueError: ``data`` does not begin with the shape of ``mask``, or ``value_to_set`` does not fit the dtype.

    >>> apply_mask_to_tensor(torch.ones(2, 2), torch.tensor([True, False]))
    tensor([[1., 1.],
            [0., 0.]])
    """
    check_is_tensor(data, "data")
    check_is_tensor(mask, "mask")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, got {mask.dtype}")
    check_same_device(mask.device, data.device, name="mask", reference="data")
    if data.shape[: mask.dim()] != mask.shape:
        raise ValueError(f"data must begin with the shape {tuple(mask.shape)} of mask, got {tuple(data.shape)}")
    return fill(data, ~mask.reshape(*mask.shape, *(1,) * (data.dim() - mask.dim())), value_to_set)


def squeeze_except_batch_and_sample(data: AnyBatch) -> AnyBatch:
    """Remove all dimensions of size 1 except the batch dimensions and the ragged one (0 and 1 of a plain tensor).

    >>> squeeze_except_batch_and_sample(torch.zeros(1, 3, 1, 4, 1)).shape
    torch.Size([1, 3, 4])
    """
    check_is_data(data, "data")
    if isinstance(data, Tensor):
        return data.squeeze(_ones(data.shape, range(2, data.dim())))
    dims = (dim for dim in range(data.num_batch_dims, data.dim()) if dim != data.non_uniform_dim)
    squeezed = _ones(data.shape, dims)
    axis = data.ragged_axis - sum(dim < data.non_uniform_dim for dim in squeezed)
    return RaggedBatch._unchecked(data.tensor.squeeze(squeezed), data.mask, data.sample_sizes, axis)


def _ones(shape: torch.Size, dims: Iterable[int]) -> tuple[int, ...]:
    return tuple(dim for dim in dims if shape[dim] == 1)


def _true_entries(mask: RaggedBatch | Tensor) -> Tensor:
    """The mask as a plain tensor, false in its filler."""
    check_is_data(mask, "mask")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, got {mask.dtype}")
    if isinstance(mask, RaggedBatch):
        if mask.dim() != mask.num_batch_dims + 1:
            raise ValueError(f"mask must have shape (*batch, N), got {tuple(mask.shape)}")
        return mask.tensor & mask.mask
    if mask.dim() == 0:
        raise ValueError("mask must have shape (*batch, N), got a tensor without dimensions")
    return mask


def _mask_for(data: RaggedBatch | Tensor, mask: RaggedBatch | Tensor) -> Tensor:
    """The mask as a plain tensor that fits the indexed dimension of ``data``, false in the filler of both."""
    check_is_data(data, "data")
    true = _true_entries(mask)
    nb = true.dim() - 1
    dim = data.non_uniform_dim if isinstance(data, RaggedBatch) else nb
    expected = (*data.shape[:nb], data.shape[dim]) if data.dim() > dim else None
    if expected != tuple(true.shape) or (isinstance(data, RaggedBatch) and data.num_batch_dims != nb):
        wanted = f"(*batch, {data.shape[dim]})" if expected is None else expected
        raise ValueError(
            f"mask must have shape {wanted}, batch and ragged dimension of data {tuple(data.shape)}, "
            f"got {tuple(true.shape)}"
        )
    check_same_device(true.device, data.device, name="mask", reference="the data")
    return true & data.mask if isinstance(data, RaggedBatch) else true
