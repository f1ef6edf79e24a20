"""What makes RaggedBatch at home in torch: pytrees (compile, export, vmap) and safe loading."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch import RaggedBatch


def _flatten(batch: RaggedBatch) -> tuple[list[Tensor], int]:
    return [batch.tensor, batch.mask, batch.sample_sizes], batch.ragged_axis


def _flatten_with_keys(batch: RaggedBatch) -> tuple[list[tuple[pytree.KeyEntry, Tensor]], int]:
    parts, ragged_axis = _flatten(batch)
    names = ("tensor", "mask", "sample_sizes")
    return [(pytree.GetAttrKey(name), part) for name, part in zip(names, parts, strict=True)], ragged_axis


def _unflatten(parts: Any, ragged_axis: int) -> RaggedBatch:
    # Unchecked: transforms put placeholders of all kinds into the leaves.
    tensor, mask, sample_sizes = parts
    return RaggedBatch._unchecked(tensor, mask, sample_sizes, ragged_axis)


def register_with_torch() -> None:
    """Register RaggedBatch as a pytree node and as a type that ``torch.load(weights_only=True)`` may build."""
    pytree.register_pytree_node(
        RaggedBatch,
        _flatten,
        _unflatten,
        serialized_type_name="ragged.RaggedBatch",
        flatten_with_keys_fn=_flatten_with_keys,
    )
    torch.serialization.add_safe_globals([RaggedBatch])
