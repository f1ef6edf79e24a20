"""Checks that several batches fit each other."""

from __future__ import annotations

from torch import Tensor

from ragged.batch.core import BatchCore
from ragged.values.checks import (
    check_same_device,
    check_values,
    sample_name,
)


def check_same_sizes(batch: BatchCore, other: BatchCore, *, what: str) -> None:
    """Raise ``ValueError`` unless both batches have the same sample sizes."""
    check_equal_sizes(batch.sample_sizes, other.sample_sizes, what=what)


def check_equal_sizes(sizes: Tensor, others: Tensor, *, what: str) -> None:
    """Raise ``ValueError`` unless sample sizes ``(*batch,)`` are equal."""
    if sizes is others:
        return
    if sizes.shape != others.shape:
        raise ValueError(f"{what} must have the same batch shape, got {tuple(sizes.shape)} and {tuple(others.shape)}")
    check_same_device(others.device, sizes.device, name=f"{what}: the second batch", reference="the first")
    check_values(
        sizes == others,
        lambda at: f"{what}: sample sizes differ, {int(sizes[at])} and {int(others[at])} for {sample_name(at)}",
        summary=f"{what}: sample sizes differ",
    )


def check_same_layout(batch: BatchCore, other: BatchCore, *, what: str) -> None:
    """Raise ``ValueError`` unless both batches have the same sizes, padding, rank and ragged dimension."""
    check_same_sizes(batch, other, what=what)
    if batch.non_uniform_dim != other.non_uniform_dim or batch.dim() != other.dim():
        raise ValueError(
            f"{what}: shapes {tuple(batch.shape)} with non_uniform_dim={batch.non_uniform_dim} and "
            f"{tuple(other.shape)} with non_uniform_dim={other.non_uniform_dim} do not line up; "
            "use unsqueeze_data_dim or get_non_uniform_dimension_transposed_to"
        )
    if batch.max_sample_size != other.max_sample_size:
        raise ValueError(
            f"{what}: the samples are padded to {batch.max_sample_size} and {other.max_sample_size} entries; "
            "use with_max_sample_size on one of them"
        )
