"""Ways between the padded form and forms without padding: packed values, and torch's nested tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch, check_is_batch
from ragged.ops.combine import combine_data
from ragged.ops.rows import take_rows
from ragged.values.checks import check_count, check_has_values, check_is_tensor, check_same_device, check_values
from ragged.values.sizes import check_matching_sizes, largest_size, validated_sizes


def pack(batch: RaggedBatch) -> tuple[Tensor, Tensor]:
    """All valid entries in one tensor, sample after sample, and the sample sizes.

    Returns:
        Values of shape ``(total, …)``, the ragged dimension first, and sizes of shape ``(*batch,)``. The total depends
        on the data, so this synchronises on an accelerator.

    >>> pack(RaggedBatch(torch.tensor([[1, 2], [3, 0]]), sample_sizes=[2, 1]))
    (tensor([1, 2, 3]), tensor([2, 1]))
    """
    check_is_batch(batch, "batch")
    check_has_values(batch.mask, "pack")
    return batch.tensor.movedim(batch.non_uniform_dim, batch.num_batch_dims)[batch.mask], batch.sample_sizes


def unpack(values: Tensor, sample_sizes: Tensor | Sequence[Any], *, max_size: int | None = None) -> RaggedBatch:
    """Cut packed values into samples and pad them: the inverse of ``pack``.

    Args:
        values: ``(total, …)``, sample after sample.
        sample_sizes: ``(*batch,)`` integers that add up to ``total``.
        max_size: Size of the ragged dimension. Without it the largest size is read, which synchronises on an
            accelerator.

    Raises:
        ValueError: The sizes are negative, above ``max_size``, or do not add up to ``total``.

    >>> unpack(torch.tensor([1, 2, 3]), [2, 1]).tensor
    tensor([[1, 2],
            [3, 0]])
    """
    check_is_tensor(values, "values")
    if values.dim() == 0:
        raise ValueError("values must have shape (total, …), got a tensor without dimensions")
    sizes = validated_sizes(sample_sizes, values.device)
    check_same_device(sizes.device, values.device, name="sample_sizes", reference="values")
    check_values(
        sizes.sum() == values.shape[0],
        lambda _: f"sample_sizes must add up to the {values.shape[0]} values, got sum {int(sizes.sum())}",
        summary="unpack: sample_sizes must add up to the number of values",
    )
    if max_size is not None:
        check_count(max_size, "max_size")
    else:
        max_size = largest_size(sizes)
    mask = check_matching_sizes(sizes, None, max_size)
    flat, valid = sizes.reshape(-1), mask.reshape(-1)
    index = (flat.cumsum(0) - flat).unsqueeze(-1) + torch.arange(max_size, device=values.device)
    rows = take_rows(values, index.reshape(-1).masked_fill(~valid, 0), ~valid, 0, 0)
    return RaggedBatch._unchecked(rows.reshape(*sizes.shape, max_size, *values.shape[1:]), mask, sizes, 0)


def to_nested(batch: RaggedBatch) -> Tensor:
    """Convert to a ``torch.nested`` tensor ``(B, j, …)`` of layout jagged.

    The batch must have one batch dimension; the ragged dimension moves next to it. Like ``pack``, this synchronises on
    an accelerator.

    Raises:
        TypeError: ``batch`` is not a RaggedBatch.
        ValueError: It has another number of batch dimensions than one.

    >>> to_nested(RaggedBatch(torch.ones(2, 3), sample_sizes=[3, 1])).is_nested
    True
    """
    check_is_batch(batch, "batch")
    if batch.num_batch_dims != 1:
        raise ValueError(f"to_nested needs one batch dimension, got {batch.num_batch_dims}; use flatten_batch_dims")
    values, sizes = pack(batch)
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return torch.nested.nested_tensor_from_jagged(values, offsets)


def from_nested(nested: Tensor, *, max_size: int | None = None) -> RaggedBatch:
    """Convert a ``torch.nested`` tensor of either layout.

    Args:
        nested: A nested tensor whose samples differ in their first dimension.
        max_size: As in ``unpack``.

    Returns:
        A RaggedBatch ``(B, max_size, …)``.

    Raises:
        TypeError: ``nested`` is not a nested tensor.

    >>> from_nested(torch.nested.nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.jagged)).sample_sizes
    tensor([2, 1])
    """
    if not isinstance(nested, Tensor):
        raise TypeError(f"nested must be a torch.Tensor, got {type(nested).__name__}")
    if not nested.is_nested:
        raise TypeError("nested must be a nested tensor, got a dense one; use RaggedBatch.from_full_tensor")
    jagged: Any = nested  # the stubs know nothing of the jagged layout
    if nested.layout == torch.jagged and jagged.lengths() is None and jagged._ragged_idx == 1:
        return unpack(jagged.values(), jagged.offsets().diff(), max_size=max_size)
    batch = combine_data(list(nested.unbind()))
    return batch if max_size is None else batch.with_max_sample_size(max_size)
