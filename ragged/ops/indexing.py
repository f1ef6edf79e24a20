"""Batched indexing: read, write and map entries at indices that differ in number from sample to sample.

All functions index along one dimension, after the batch dimensions, with one list of indices per sample. Indices in
the filler of an index batch are never used, whatever they are. An index that is out of range for its sample is an
``IndexError``; negative indices do not wrap.
"""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor

from ragged.batch.layout import check_same_sizes
from ragged.batch.ragged_batch import RaggedBatch, check_is_data
from ragged.ops.indices import as_indices, check_range, check_written_along
from ragged.ops.rows import put_rows, take_rows
from ragged.values.checks import check_count, check_dim, check_flag, check_same_device, check_values, sample_name
from ragged.values.filler import check_fits_dtype


def batched_indexing_access(
    input_data: RaggedBatch | Tensor,
    input_indices: RaggedBatch | Tensor,
    filler_value: complex | bool = 0.0,
    dim_to_index_in: int | None = None,
) -> RaggedBatch:
    """Read entries at given indices: ``result[i, j] = input_data[i, input_indices[i, j]]`` for each sample ``i``.

    Args:
        input_data: Shape ``(*batch, …, N, …)``, any dtype. A RaggedBatch is read within its sample sizes.
        input_indices: Integers of shape ``(*batch, K)``; a plain tensor means ``K`` indices for every sample.
        filler_value: Value of the filler of the result.
        dim_to_index_in: The dimension to index in; by default the ragged dimension of ``input_data``, or the first one
            after the batch dimensions. Where it is not the ragged dimension, filler of ``input_data`` becomes
            ``filler_value``.

    Returns:
        A RaggedBatch of shape ``(*batch, …, K, …)`` with the sizes of ``input_indices``. Differentiable (repeatedly) in
        ``input_data``; an entry that is read twice gets both gradients.

    Raises:
        IndexError: A valid index is negative or beyond its sample; the message names sample, position, index and size.
        TypeError: The indices are not integers.
        ValueError: Batch shapes or devices differ, or ``filler_value`` does not fit the dtype.

    >>> data = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> indices = RaggedBatch(torch.tensor([[2, 0], [1, -1]]), sample_sizes=[2, 1])
    >>> batched_indexing_access(data, indices).split()
    [tensor([3., 1.]), tensor([5.])]
    """
    indices = as_indices(input_indices)
    data, dim = _prepared(input_data, indices, dim_to_index_in, name="input_data")
    check_fits_dtype(filler_value, data.dtype)
    if isinstance(input_data, RaggedBatch) and dim != input_data.non_uniform_dim:
        data = input_data.with_padded_set_to(filler_value).tensor
    safe = check_range(indices, _limits(input_data, dim), what="batched_indexing_access")
    result = take_rows(data, safe, ~indices.mask, filler_value, dim)
    return RaggedBatch._unchecked(result, indices.mask, indices.sample_sizes, dim - indices.num_batch_dims)


def batched_inverse_indexing_access(
    input_data: RaggedBatch | Tensor,
    output_indices: RaggedBatch | Tensor,
    output_num_targets: int,
    filler_value: complex | bool = 0.0,
    dim_to_index_in: int | None = None,
    *,
    check_duplicates: bool = False,
) -> Tensor:
    """Write entries to given indices of a fresh tensor: ``result[i, output_indices[i, j]] = input_data[i, j]``.

    Args:
        input_data: Shape ``(*batch, …, K, …)``: one entry for each index. Where it is ragged along another dimension
            than the indexed one, its filler becomes ``filler_value``.
        output_indices: Integers of shape ``(*batch, K)``.
        output_num_targets: Size ``N`` of the result in the indexed dimension.
        filler_value: Value of entries that are not written.
        dim_to_index_in, check_duplicates: As in ``batched_indexing_write``.

    Returns:
        A tensor of shape ``(*batch, …, N, …)``.

    Raises:
        IndexError, ValueError: As ``batched_indexing_write``; or ``filler_value`` does not fit the dtype.

    >>> indices = RaggedBatch(torch.tensor([[2, 0], [1, -1]]), sample_sizes=[2, 1])
    >>> batched_inverse_indexing_access(torch.tensor([[1, 2], [3, 4]]), indices, 3, filler_value=-1)
    tensor([[ 2, -1,  1],
            [-1,  3, -1]])
    """
    indices = as_indices(output_indices)
    check_count(output_num_targets, "output_num_targets")
    data, dim = _prepared(input_data, indices, dim_to_index_in, name="input_data")
    check_fits_dtype(filler_value, data.dtype)
    shape = (*data.shape[:dim], output_num_targets, *data.shape[dim + 1 :])
    source = input_data
    if isinstance(input_data, RaggedBatch) and dim != input_data.non_uniform_dim:
        source = input_data.with_padded_set_to(filler_value).tensor
    return batched_indexing_write(
        source, indices, data.new_full(shape, filler_value), dim, check_duplicates=check_duplicates
    )


@overload
def batched_indexing_write(
    to_write: RaggedBatch | Tensor,
    output_indices: RaggedBatch | Tensor,
    to_write_into: Tensor,
    dim_to_index_in: int | None = None,
    *,
    check_duplicates: bool = False,
) -> Tensor: ...


@overload
def batched_indexing_write(
    to_write: RaggedBatch | Tensor,
    output_indices: RaggedBatch | Tensor,
    to_write_into: RaggedBatch,
    dim_to_index_in: int | None = None,
    *,
    check_duplicates: bool = False,
) -> RaggedBatch: ...


def batched_indexing_write(
    to_write: RaggedBatch | Tensor,
    output_indices: RaggedBatch | Tensor,
    to_write_into: RaggedBatch | Tensor,
    dim_to_index_in: int | None = None,
    *,
    check_duplicates: bool = False,
) -> RaggedBatch | Tensor:
    """Write entries to given indices: ``result[i, output_indices[i, j]] = to_write[i, j]`` for each sample ``i``.

    Nothing is written in place. Where an index occurs twice in a sample, the last entry wins, on every device, and the
    others get no gradient. The dtype of the result is ``torch.promote_types`` of both.

    Args:
        to_write: Shape ``(*batch, …, K, …)``: one entry for each index. A RaggedBatch is ragged along the indexed
            dimension, with the sizes of the indices; or along the ragged dimension of ``to_write_into``, with its
            sizes.
        output_indices: Integers of shape ``(*batch, K)``.
        to_write_into: Shape ``(*batch, …, N, …)``: entries that are not written keep their value.
        dim_to_index_in: The dimension to index in; by default the ragged dimension of ``to_write_into``, or the first
            one after the batch dimensions.
        check_duplicates: Raise a ``ValueError`` if an index occurs twice in a sample.

    Returns:
        A tensor or RaggedBatch, as ``to_write_into`` is. Differentiable (repeatedly) in both data arguments.

    Raises:
        IndexError: A valid index is negative or beyond its sample.
        ValueError: Shapes, sizes or devices differ, or ``to_write`` is ragged along a dimension in which its filler
            would be written.

    >>> indices = RaggedBatch(torch.tensor([[2, 0], [1, -1]]), sample_sizes=[2, 1])
    >>> batched_indexing_write(torch.tensor([[1, 2], [3, 4]]), indices, torch.zeros(2, 3))
    tensor([[2., 0., 1.],
            [0., 3., 0.]])
    """
    check_flag(check_duplicates, "check_duplicates")
    indices = as_indices(output_indices)
    into, dim = _prepared(to_write_into, indices, dim_to_index_in, name="to_write_into")
    source = _source(to_write, indices, to_write_into, dim)
    check_range(indices, _limits(to_write_into, dim), what="batched_indexing_write")
    last = _is_last_of_its_index(indices, into.shape[dim])
    if check_duplicates:
        _check_no_duplicates(indices, last)
    dtype = torch.promote_types(source.dtype, into.dtype)
    result = put_rows(into.to(dtype), indices.tensor, indices.mask & last, source.to(dtype), dim)
    return to_write_into._with(result) if isinstance(to_write_into, RaggedBatch) else result


def batched_index_mapping(
    source_data: RaggedBatch | Tensor,
    source_indices: RaggedBatch | Tensor,
    target_indices: RaggedBatch | Tensor,
    target_data: RaggedBatch | Tensor,
) -> RaggedBatch | Tensor:
    """Copy entries: ``result[i, target_indices[i, j]] = source_data[i, source_indices[i, j]]``, else ``target_data``.

    Args:
        source_data: Shape ``(*batch, …, N, …)``.
        source_indices, target_indices: Integers of shape ``(*batch, K)``, of the same sample sizes.
        target_data: Shape ``(*batch, …, M, …)``; indexed, like ``source_data``, along its ragged dimension, or the
            first one after the batch dimensions. It must be the same dimension for both.

    Returns:
        A tensor or RaggedBatch, as ``target_data`` is. Differentiable in both data arguments; the last of several
        entries for one place wins.

    Raises:
        IndexError: A valid index is negative or beyond its sample.
        ValueError: Shapes, sizes or devices differ, or the data are indexed along different dimensions.

    >>> source_indices, target_indices = combine_data([[0, 2]]), combine_data([[3, 0]])
    >>> batched_index_mapping(torch.tensor([[1, 2, 3]]), source_indices, target_indices, torch.zeros(1, 4))
    tensor([[3., 0., 0., 1.]])
    """
    source_indices, target_indices = as_indices(source_indices), as_indices(target_indices)
    check_same_sizes(source_indices, target_indices, what="source_indices and target_indices")
    own, other = (
        _prepared(data, source_indices, None, name=name)[1]
        for data, name in ((source_data, "source_data"), (target_data, "target_data"))
    )
    if own != other:
        raise ValueError(
            f"source_data and target_data must be indexed along the same dimension, got {own} and {other}; "
            "use get_non_uniform_dimension_transposed_to"
        )
    size = max(source_indices.max_sample_size, target_indices.max_sample_size)
    mapped = batched_indexing_access(source_data, source_indices.with_max_sample_size(size))
    return batched_indexing_write(
        mapped, target_indices.with_max_sample_size(size), target_data, mapped.non_uniform_dim
    )


def _prepared(data: RaggedBatch | Tensor, indices: RaggedBatch, dim: int | None, *, name: str) -> tuple[Tensor, int]:
    """The tensor of ``data`` and the dimension to index in, checked against the indices."""
    check_is_data(data, name)
    nb = indices.num_batch_dims
    tensor = data.tensor if isinstance(data, RaggedBatch) else data
    if tensor.shape[:nb] != indices.batch_shape or (isinstance(data, RaggedBatch) and data.num_batch_dims != nb):
        raise ValueError(
            f"{name} of shape {tuple(tensor.shape)} must have the batch shape of the indices, "
            f"{tuple(indices.batch_shape)}"
        )
    check_same_device(tensor.device, indices.device, name=name, reference="the indices")
    default = data.non_uniform_dim if isinstance(data, RaggedBatch) else nb
    return tensor, check_dim(default if dim is None else dim, tensor.dim(), lowest=nb, name="dim_to_index_in")


def _source(
    to_write: RaggedBatch | Tensor, indices: RaggedBatch, to_write_into: RaggedBatch | Tensor, dim: int
) -> Tensor:
    """The entries to write, with one for each index along ``dim``."""
    check_is_data(to_write, "the data to write")
    check_written_along(to_write, to_write_into, dim)
    shape = list(to_write_into.shape)
    shape[dim] = indices.max_sample_size
    if isinstance(to_write, RaggedBatch):
        if to_write.non_uniform_dim == dim:
            check_same_sizes(to_write, indices, what="the data to write and its indices")
        if to_write.non_uniform_dim < len(shape):
            to_write = to_write.with_max_sample_size(shape[to_write.non_uniform_dim])
    source = to_write.tensor if isinstance(to_write, RaggedBatch) else to_write
    if tuple(source.shape) != tuple(shape):
        raise ValueError(f"the data to write must have shape {tuple(shape)}, got {tuple(source.shape)}")
    check_same_device(source.device, to_write_into.device, name="the data to write", reference="the data to write into")
    return source


def _limits(data: RaggedBatch | Tensor, dim: int) -> Tensor | int:
    """The number of entries of each sample along ``dim``: ``(*batch, 1)``, or one number for all."""
    if isinstance(data, RaggedBatch) and data.non_uniform_dim == dim:
        return data.sample_sizes.unsqueeze(-1)
    return data.shape[dim]


def _is_last_of_its_index(indices: RaggedBatch, size: int) -> Tensor:
    """True where no later valid entry of the sample has the same index."""
    place = torch.where(indices.mask, indices.tensor, size)
    position = torch.arange(place.shape[-1], device=place.device).expand_as(place)
    winner = place.new_zeros(*place.shape[:-1], size + 1).scatter_reduce(-1, place, position, "amax")
    return winner.gather(-1, place) == position


def _check_no_duplicates(indices: RaggedBatch, last: Tensor) -> None:
    check_values(
        last | ~indices.mask,
        lambda at: (
            f"indices must be unique in each sample with check_duplicates=True, got index {int(indices.tensor[at])} "
            f"more than once in {sample_name(at[:-1])}"
        ),
        summary="batched_indexing_write: an index occurs more than once in a sample",
    )
