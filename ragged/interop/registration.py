"""Registers RaggedBatch with torch: pytrees (compile, export, vmap) and safe loading."""

from __future__ import annotations

import copyreg
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch.ragged_batch import RaggedBatch
from ragged.interop.assigning import make_assignable


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


# Classes of this and other packages, by the names under which graphs and files know them: those of their packages, not
# of the modules that make them, so that what was saved can be read wherever a class has moved since.
_CLASSES: dict[str, type] = {}


def rebuild(name: str, fields: dict[str, Any]) -> Any:
    """The unpickled object: of the registered class of this name, with these fields."""
    cls = _CLASSES[name]
    if issubclass(cls, tuple):
        return cls(**fields)
    item = cls.__new__(cls)
    for field, value in fields.items():
        object.__setattr__(item, field, value)
    return item


# Where pickles find it.
rebuild.__module__, rebuild.__qualname__ = "ragged", "_rebuild"


def _register(cls: type, flatten: Any, unflatten: Any, flatten_with_keys: Any) -> None:
    # Names that begin with _ hold what the host has seen of values, which may be others in the object that is read.
    name = _named(cls, lambda item: {key: value for key, value in vars(item).items() if not key.startswith("_")})
    pytree.register_pytree_node(
        cls, flatten, unflatten, serialized_type_name=name, flatten_with_keys_fn=flatten_with_keys
    )


def _named(cls: type, fields: Callable[[Any], dict[str, Any]]) -> str:
    """The name of a class in graphs and files; objects of it can be pickled, and read with ``weights_only=True``."""
    name = f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
    _CLASSES[name] = cls
    copyreg.pickle(cls, lambda item: (rebuild, (name, fields(item))))
    torch.serialization.add_safe_globals([rebuild])
    return name


def register_with_torch() -> None:
    """Register RaggedBatch as a pytree node and as a type that ``torch.load(weights_only=True)`` may build."""
    _register(RaggedBatch, _flatten, _unflatten, _flatten_with_keys)
    make_assignable(RaggedBatch, of_samples=("mask", "sample_sizes"))


def register_named_tuple(cls: type) -> None:
    """Let torch read a named tuple from files, as RaggedBatch is; to pytrees it is known anyway."""
    _named(cls, lambda item: item._asdict())


AnyClass = TypeVar("AnyClass")


def replaced(item: AnyClass, **changes: Any) -> AnyClass:
    """``dataclasses.replace`` without ``__init__``: nothing is checked."""
    made = type(item).__new__(type(item))
    for field in dataclasses.fields(cast(Any, item)):
        object.__setattr__(made, field.name, changes.get(field.name, getattr(item, field.name)))
    return made


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

    _register(cls, flatten, unflatten, flatten_with_keys)
    make_assignable(cls, kept=kept)
    return cls
