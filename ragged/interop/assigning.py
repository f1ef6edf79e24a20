"""What may be assigned to a field of a frozen dataclass: what a conversion to another dtype or device assigns.

Tools such as Lightning copy a dataclass and assign each field what became of it. A class that refuses that cannot be
used with them; one that takes everything is made inconsistent by the first slip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch.ragged_batch import RaggedBatch
from ragged.values.checks import check_values


def make_assignable(cls: type, *, of_samples: Iterable[str] = (), kept: Iterable[str] = ()) -> None:
    """Let fields of a frozen dataclass be replaced by the same in another dtype, on another device, or of other values.

    All else stays a ``dataclasses.FrozenInstanceError``: new attributes, other shapes, sample sizes and constants.

    Args:
        cls: The frozen dataclass, whose ``__setattr__`` is replaced.
        of_samples: Fields whose values describe the samples, and may only be moved.
        kept: Fields that are moved, but keep their precision where they are assigned in less than float32.
    """
    fixed, precise = frozenset(of_samples), frozenset(kept)
    names = frozenset(field.name for field in dataclasses.fields(cast(Any, cls)))

    def assign(self: Any, name: str, value: Any) -> None:
        if name in names:
            old = getattr(self, name)
            _check_fits(old, value, f"{cls.__name__}.{name}")
            if name in precise:
                value = pytree.tree_map(_kept, old, value, is_leaf=_is_batch)
            if name in fixed:
                _check_same_values(old, value, f"{cls.__name__}.{name}")
        elif type(self) is cls and getattr(getattr(cls, name, None), "fset", None) is None:
            raise dataclasses.FrozenInstanceError(f"{cls.__name__} has no field {name!r} to assign to")
        object.__setattr__(self, name, value)

    cast(Any, cls).__setattr__ = assign


def _check_fits(old: Any, new: Any, what: str) -> None:
    """Raise unless ``new`` differs from ``old`` in the values, the precision or the device of its data alone."""
    if new is old:
        return
    olds, structure = pytree.tree_flatten(old, is_leaf=_is_batch)
    news, other_structure = pytree.tree_flatten(new, is_leaf=_is_batch)
    if structure != other_structure or not all(map(_alike, olds, news)):
        raise dataclasses.FrozenInstanceError(
            f"{what} must keep its shape, sample sizes, kind of dtype and constants: expected {_described(old)}, got "
            f"{_described(new)}; make a new object"
        )
    for before, after in zip(olds, news, strict=True):
        if isinstance(before, RaggedBatch):
            _check_same_values(before.sample_sizes, after.sample_sizes, f"the sample sizes of {what}")


def _kept(old: Any, new: Any) -> Any:
    """``new``; or ``old`` where that is, if a tensor or a batch would be rounded to half precision."""
    if not isinstance(new, (Tensor, RaggedBatch)) or not new.dtype.is_floating_point:
        return new
    return old.to(new.device) if new.dtype.itemsize < min(old.dtype.itemsize, 4) else new


def _is_batch(value: Any) -> bool:
    return isinstance(value, RaggedBatch)


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return isinstance(new, Tensor) and old.shape == new.shape and _kind(old) == _kind(new)
    if isinstance(old, RaggedBatch):
        return (
            isinstance(new, RaggedBatch)
            and old.ragged_axis == new.ragged_axis
            and _alike(old.tensor, new.tensor)
            and _alike(old.sample_sizes, new.sample_sizes)
        )
    return type(old) is type(new) and bool(old == new)


def _kind(tensor: Tensor) -> Any:
    """Real or complex numbers of any precision, or the one dtype of whole numbers or truth values."""
    return tensor.is_complex() if tensor.is_floating_point() or tensor.is_complex() else tensor.dtype


def _check_same_values(old: Tensor, new: Tensor, what: str) -> None:
    if new is old or new.device != old.device:  # to compare devices, one would have to wait
        return
    text = f"{what} must keep all values, got others; make a new object"
    check_values(old == new, lambda _: text, dataclasses.FrozenInstanceError, summary=text)


def _described(value: Any) -> str:
    if isinstance(value, (Tensor, RaggedBatch)):
        kind = "tensor" if isinstance(value, Tensor) else type(value).__name__
        return f"a {kind} of shape {tuple(value.shape)} and {value.dtype}"
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else f"a {type(value).__name__}"
