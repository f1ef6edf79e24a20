"""What makes RaggedBatch at home in torch: pytrees (compile, export, vmap) and safe loading."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.assigning import make_assignable
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
    make_assignable(RaggedBatch, of_samples=("mask", "sample_sizes"))


AnyClass = TypeVar("AnyClass")


def register_dataclass(
    cls: type[AnyClass], *, constants: Iterable[str] = (), kept: Iterable[str] = ()
) -> type[AnyClass]:
    """Register a frozen dataclass of tensors, ragged batches and constants with torch, as RaggedBatch is.

    Args:
        cls: A dataclass. It is rebuilt without its ``__init__``, since transforms put placeholders into the leaves.
        constants: Fields that are no data (numbers, names). A field that holds None is a constant of that object.
        kept: Fields that tools which assign them cannot cast to half precision.
    """
    fixed = frozenset(constants)
    names = tuple(field.name for field in dataclasses.fields(cast(Any, cls)))

    def parts(item: Any) -> tuple[list[str], tuple[tuple[str, Any], ...]]:
        is_data = {name: name not in fixed and getattr(item, name) is not None for name in names}
        data = [name for name in names if is_data[name]]
        return data, tuple((name, getattr(item, name)) for name in names if not is_data[name])

    def flatten(item: Any) -> tuple[list[Any], Any]:
        data, rest = parts(item)
        return [getattr(item, name) for name in data], (tuple(data), rest)

    def flatten_with_keys(item: Any) -> tuple[list[tuple[pytree.KeyEntry, Any]], Any]:
        values, context = flatten(item)
        return [(pytree.GetAttrKey(name), value) for name, value in zip(context[0], values, strict=True)], context

    def unflatten(values: Any, context: Any) -> Any:
        item = cls.__new__(cls)
        for name, value in (*zip(context[0], values, strict=True), *context[1]):
            object.__setattr__(item, name, value)
        return item

    pytree.register_pytree_node(
        cls,
        flatten,
        unflatten,
        serialized_type_name=f"{cls.__module__}.{cls.__name__}",
        flatten_with_keys_fn=flatten_with_keys,
    )
    torch.serialization.add_safe_globals([cls])
    make_assignable(cls, kept=kept)
    return cls
