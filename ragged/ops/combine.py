"""Putting samples together: lists of them, and masked tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch, check_is_batch
from ragged.ops.indexing import batched_indexing_access
from ragged.ops.masks import get_indices_from_mask
from ragged.ops.samples import read_samples
from ragged.values.checks import (
    check_dim,
    check_flag,
    check_has_values,
    check_is_sequence,
    check_same_device,
    check_whole,
    sample_name,
)
from ragged.values.sizes import numbers_on, prefix_mask

NamedTupleT = TypeVar("NamedTupleT", bound=tuple[Any, ...])


def combine_data(
    data_list: Sequence[Any],
    other_with_same_sample_sizes: RaggedBatch | None = None,
    device: torch.device | str | None = None,
    flatten_batch_dims: bool = True,
    *,
    dtype: torch.dtype | None = None,
    num_batch_dims: int | None = None,
    non_uniform_dim: int | None = None,
) -> RaggedBatch:
    """Pad samples of different sizes into one RaggedBatch.

    Args:
        data_list: One sample for each image: tensors or arrays of shape ``(n, …)`` that agree in all but ``n``, or
            plain (nested) lists of numbers. Lists of lists of samples give more batch dimensions. A sample without
            elements has no entry, whatever its shape, dtype and device: ``(0,)`` and ``(1, 0)`` fit ``(n, 4)``.
        other_with_same_sample_sizes: A batch of the same objects; the result shares its mask and sizes. The function
            compares its sizes with those of the samples, which synchronises on an accelerator.
        device: The device of the result; by default that of the samples.
        flatten_batch_dims: Merge the batch dimensions of nested lists into one. Otherwise the lists must be of equal
            length at each level.
        dtype: Dtype of the result; by default that of the samples, which must agree.
        num_batch_dims: The number of levels of lists that are batch dimensions. By default all levels above tensors and
            arrays, and one above plain numbers.
        non_uniform_dim: The ragged dimension of the result, if samples differ in another dimension than their first.

    Returns:
        A RaggedBatch of shape ``(*batch, max n, …)``, with filler 0.

    Raises:
        ValueError: Samples differ in more than their size, sizes differ from those of the other batch, or nested lists
            have unequal length; the message names the sample.
        TypeError: Something is not a sample, or dtypes differ.

    >>> boxes = combine_data([torch.ones(2, 4), torch.ones(0, 4)])
    >>> labels = combine_data([[3, 7], []], other_with_same_sample_sizes=boxes)
    >>> labels.tensor, labels.mask is boxes.mask
    (tensor([[3, 7],
            [0, 0]]), True)
    """
    check_flag(flatten_batch_dims, "flatten_batch_dims")
    tensors, batch_shape = read_samples(data_list, num_batch_dims, flatten_batch_dims, dtype, device)
    nb, other = len(batch_shape), other_with_same_sample_sizes
    if other is not None:
        check_is_batch(other, "other_with_same_sample_sizes")
    dim = nb if non_uniform_dim is None else non_uniform_dim
    check_whole(dim, "non_uniform_dim")
    if dim < nb:
        raise IndexError(f"non_uniform_dim must come after the {nb} batch dimensions, got {dim}")
    if dim > nb:
        tensors = [sample.movedim(dim - nb, 0) if sample.dim() > dim - nb else sample for sample in tensors]
    tensors, sizes = _with_common_shape(tensors, None if other is None else _sizes_of(other, batch_shape))
    if other is None and len(tensors) == 1:  # as a loader of one image makes them: nothing to pad
        return _only_one(tensors[0], batch_shape, dim)
    max_size = max(sizes) if other is None else other.max_sample_size
    padded = _pad(tensors, sizes, max_size).view(*batch_shape, max_size, *tensors[0].shape[1:])
    if dim > nb:
        padded = padded.movedim(nb, check_dim(dim, padded.dim(), name="non_uniform_dim"))
    if other is not None:
        check_same_device(padded.device, other.device, name="data_list", reference="other_with_same_sample_sizes")
        return RaggedBatch._unchecked(padded, other.mask, other.sample_sizes, dim - nb)
    sample_sizes = numbers_on(padded.device, sizes).view(batch_shape)
    return RaggedBatch._unchecked(padded, prefix_mask(sample_sizes, max_size), sample_sizes, dim - nb)


def combine_columns(columns: Mapping[str, list[Tensor]]) -> dict[str, RaggedBatch]:
    """Several tensors of each sample, ``(n, …)``, padded with one mask and one tensor of sizes.

    Sizes are those of the shapes in the first column, which all columns have: nothing is read on the host.
    """
    combined: dict[str, RaggedBatch] = {}
    for name, tensors in columns.items():
        if not combined:
            first, sizes = combine_data(tensors), [len(tensor) for tensor in tensors]
            combined[name] = first
            continue
        fitting, _ = _with_common_shape(tensors, sizes)
        padded = _pad(fitting, sizes, first.max_sample_size)
        padded = padded.view(len(sizes), first.max_sample_size, *fitting[0].shape[1:])
        combined[name] = RaggedBatch._unchecked(padded, first.mask, first.sample_sizes, 0)
    return combined


def _only_one(sample: Tensor, batch_shape: tuple[int, ...], dim: int) -> RaggedBatch:
    size, nb = len(sample), len(batch_shape)
    whole = (*batch_shape, size)
    tensor = sample.clone(memory_format=torch.contiguous_format).view(*whole, *sample.shape[1:])
    if dim > nb:
        tensor = tensor.movedim(nb, check_dim(dim, tensor.dim(), name="non_uniform_dim"))
    mask = torch.ones(whole, dtype=torch.bool, device=tensor.device)
    return RaggedBatch._unchecked(tensor, mask, torch.full(batch_shape, size, device=tensor.device), dim - nb)


def _pad(tensors: list[Tensor], sizes: list[int], max_size: int) -> Tensor:
    """One concatenation of samples and filler in turn: every value is written once, and nothing is masked."""
    first = tensors[0]
    missing = [max_size - size for size in sizes]
    filler = torch.split_with_sizes(first.new_zeros(sum(missing), *first.shape[1:]), missing)
    pieces = [piece for pair in zip(tensors, filler, strict=True) for piece in pair]
    return torch.cat(pieces)


def _sizes_of(other: RaggedBatch, batch_shape: tuple[int, ...]) -> list[int]:
    if tuple(other.batch_shape) != batch_shape:
        raise ValueError(
            f"data_list must have batch shape {tuple(other.batch_shape)}, as other_with_same_sample_sizes, got "
            f"{batch_shape}"
        )
    check_has_values(other.sample_sizes, "combine_data with other_with_same_sample_sizes")
    return other.sample_sizes.flatten().tolist()


def _with_common_shape(tensors: list[Tensor], known: list[int] | None) -> tuple[list[Tensor], list[int]]:
    """Samples of shape ``(n, *common)``, and their sizes; samples without elements are brought to that shape."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if known is None and all(shapes) and len({shape[1:] for shape in shapes}) == 1 and 0 not in shapes[0][1:]:
        return tensors, [shape[0] for shape in shapes]  # the usual case, made quick
    filled = [0 not in shape for shape in shapes]
    common = _common_shape(shapes, filled)
    sizes = [shape[0] if has_elements else 0 for shape, has_elements in zip(shapes, filled, strict=True)]
    if known is not None:
        # Given sizes can say that a sample without elements has entries: entries without data.
        sizes = [
            size if shape == (size, *common) else own for shape, size, own in zip(shapes, known, sizes, strict=True)
        ]
        for number, (size, expected) in enumerate(zip(sizes, known, strict=True)):
            if size != expected:
                raise ValueError(
                    f"{sample_name((number,))} must have {expected} entries, as in other_with_same_sample_sizes, got "
                    f"{size}"
                )
    blank = tensors[0].new_empty(0, *common)
    fitting = [
        tensor if shape == (size, *common) else blank
        for tensor, shape, size in zip(tensors, shapes, sizes, strict=True)
    ]
    return fitting, sizes


def _common_shape(shapes: list[tuple[int, ...]], filled: list[bool]) -> tuple[int, ...]:
    """The shape behind the first dimension: that of all samples with elements, else of the one with most dimensions."""
    declaring = [shape for shape, has_elements in zip(shapes, filled, strict=True) if has_elements]
    common = (declaring[0] if declaring else max(shapes, key=len))[1:]
    if any(not shape or shape[1:] != common for shape in declaring):
        number = next(n for n, shape in enumerate(shapes) if filled[n] and (not shape or shape[1:] != common))
        expected = ", ".join(["n", *map(str, common)])
        raise ValueError(
            f"samples must have the shape ({expected}) and differ in n alone; "
            f"{sample_name((number,))} has shape {shapes[number]}"
        )
    return common


def get_compact_lists(mask: Tensor, data: Sequence[Any], *, max_size: int | None = None) -> list[Any]:
    """Turn tensors with a common mask into ragged batches of the valid entries, which share their sizes.

    Args:
        mask: Boolean, ``(*batch, N)``, true for valid entries, anywhere.
        data: Tensors of shape ``(*batch, N, …)``; anything that is not a tensor is passed through.
        max_size: As in ``get_indices_from_mask``; give it to avoid a synchronisation.

    Returns:
        A list with a RaggedBatch for each tensor.

    Raises:
        TypeError: ``mask`` is not boolean, or ``data`` has a RaggedBatch.
        ValueError: Shapes differ, or a sample has more than ``max_size`` valid entries.

    >>> mask = torch.tensor([[False, True, True], [False, False, True]])
    >>> get_compact_lists(mask, [torch.arange(6).view(2, 3), "name"])[0].split()
    [tensor([1, 2]), tensor([5])]
    """
    check_is_sequence(data, "data", "tensors")
    if any(isinstance(item, RaggedBatch) for item in data):
        raise TypeError("data must be padded tensors, got a RaggedBatch; use batched_bool_indexing")
    indices = get_indices_from_mask(mask, max_size=max_size)
    return [batched_indexing_access(item, indices) if isinstance(item, Tensor) else item for item in data]


def get_compact_from_named_tuple(mask: Tensor, data: NamedTupleT, *, max_size: int | None = None) -> NamedTupleT:
    """``get_compact_lists`` for the fields of a named tuple; returns a named tuple of the same type.

    >>> from collections import namedtuple
    >>> Targets = namedtuple("Targets", ["labels", "source"])
    >>> mask = torch.tensor([[False, True]])
    >>> get_compact_from_named_tuple(mask, Targets(torch.tensor([[1, 2]]), "camera")).labels.split()
    [tensor([2])]
    """
    if not hasattr(data, "_fields"):
        raise TypeError(f"data must be a named tuple, got {type(data).__name__}; use get_compact_lists")
    return type(data)(*get_compact_lists(mask, data, max_size=max_size))
