"""Collating samples of a dataset into ragged batches, for a DataLoader."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from ragged.batch.ragged_batch import RaggedBatch
from ragged.ops.combine import combine_data
from ragged.ops.joining import stack_batches
from ragged.values.checks import check_is_sequence


def collate(samples: Sequence[Any], stack: Collection[str | int] = ()) -> Any:
    """Collate samples whose tensors differ in size: every tensor with dimensions becomes a RaggedBatch.

    Whether a tensor becomes ragged does not depend on the sizes in one batch. Tensors of one sample structure with
    equal sizes share them. Scalars and tensors without dimensions become a tensor ``(B,)``, and everything else a
    list. A list of numbers is an error unless ``stack`` names it, because it could be data or structure.

    Args:
        samples: Samples of equal structure: tensors, arrays, or (nested) dicts, tuples, named tuples and lists of them.
        stack: Keys of dicts and fields of named tuples, at any depth, and positions in a sample that is a tuple or
            list, whose tensors have one size and are stacked into a dense tensor ``(B, …)`` instead: images, usually.

    Returns:
        The structure of one sample, with batches in it.

    Raises:
        ValueError, TypeError: The structures differ, tensors cannot be combined, there is a list of numbers, or
            ``stack`` names something that samples lack; the message names the place.

    For a DataLoader that starts workers, fix ``stack`` with ``functools.partial``, which can be pickled:

    >>> from functools import partial
    >>> dataset = [(torch.zeros(1, 8, 8), {"boxes": torch.ones(n, 4), "id": n}) for n in (2, 0)]
    >>> loader = torch.utils.data.DataLoader(dataset, batch_size=2, collate_fn=partial(collate, stack=[0]))
    >>> images, targets = next(iter(loader))
    >>> images.shape, targets["boxes"].sample_sizes, targets["id"]
    (torch.Size([2, 1, 8, 8]), tensor([2, 0]), tensor([2, 0]))
    """
    check_is_sequence(samples, "samples", "samples")
    if not samples:
        raise ValueError("collate needs at least one sample, got none")
    collation = _Collation(stack)
    batch = collation.collate(list(samples), path=(), dense=False)
    unmet = [name for name in collation.stack if name not in collation.stacked]
    if unmet:
        raise ValueError(f"stack must name parts of the samples, got {unmet}")
    return batch


class _Collation:
    """One call of ``collate``: remembers the sizes it has met, so that later batches share them."""

    def __init__(self, stack: Collection[str | int]) -> None:
        self.stack = _names(stack)
        self.stacked: set[str | int] = set()
        self.met: dict[tuple[int, ...], RaggedBatch] = {}

    def collate(self, items: list[Any], path: tuple[Any, ...], dense: bool) -> Any:
        first = items[0]
        if any(type(item) is not type(first) for item in items) and not all(map(_is_number, items)):
            raise TypeError(
                f"samples must have one type at {_name(path)}, got {sorted({type(item).__name__ for item in items})}"
            )
        if isinstance(first, RaggedBatch):
            return stack_batches(items)
        if isinstance(first, (Tensor, np.ndarray)):
            return self._tensors([torch.as_tensor(item) for item in items], path, dense)
        if isinstance(first, Mapping):
            return self._mapping(items, path, dense)
        if isinstance(first, list) and any(item and all(map(_is_number, item)) for item in items):
            return self._lists_of_numbers(items, path, dense)
        if isinstance(first, (tuple, list)):
            return self._sequence(items, path, dense)
        return _numbers(items, path) if _is_number(first) else items

    def _tensors(self, tensors: list[Tensor], path: tuple[Any, ...], dense: bool) -> Any:
        try:
            if dense or tensors[0].dim() == 0:
                return default_collate(tensors)
            return self._combined(tensors)
        except (ValueError, TypeError, RuntimeError) as error:
            advice = "" if dense else "; tensors to be stacked instead are named in stack="
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"at {_name(path)}: {error}{advice}") from None

    def _lists_of_numbers(self, items: list[Any], path: tuple[Any, ...], dense: bool) -> Any:
        if not dense:
            raise TypeError(
                f"a list of numbers is ambiguous at {_name(path)}, got {items[0]}; make it a tensor or array (data, a "
                "RaggedBatch) or a tuple (structure), or name it in stack="
            )
        return self._tensors([torch.as_tensor(item) for item in items], path, dense)

    def _combined(self, tensors: list[Tensor]) -> RaggedBatch:
        sizes = tuple(tensor.shape[0] if tensor.dim() and tensor.numel() else 0 for tensor in tensors)
        batch = combine_data(tensors, other_with_same_sample_sizes=self.met.get(sizes))
        self.met.setdefault(sizes, batch)
        return batch

    def _mapping(self, items: list[Any], path: tuple[Any, ...], dense: bool) -> Any:
        keys = list(items[0])
        for number, item in enumerate(items):
            if set(item) != set(keys):
                raise ValueError(
                    f"samples must have the same keys at {_name(path)}, got {keys} in sample 0 and {list(item)} in "
                    f"sample {number}"
                )
        return {key: self._child([item[key] for item in items], path, key, dense) for key in keys}

    def _sequence(self, items: list[Any], path: tuple[Any, ...], dense: bool) -> Any:
        first = items[0]
        for number, item in enumerate(items):
            if len(item) != len(first):
                raise ValueError(
                    f"samples must have the same length at {_name(path)}, got {len(first)} in sample 0 and {len(item)} "
                    f"in sample {number}"
                )
        names = getattr(first, "_fields", range(len(first)))
        parts = [
            self._child(list(part), path, name, dense)
            for name, part in zip(names, zip(*items, strict=True), strict=True)
        ]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)

    def _child(self, items: list[Any], path: tuple[Any, ...], name: Any, dense: bool) -> Any:
        named = name in self.stack and (isinstance(name, str) or not path)
        if named:
            self.stacked.add(name)
        return self.collate(items, (*path, name), dense or named)


def _names(stack: Any) -> tuple[str | int, ...]:
    names = (stack,) if isinstance(stack, (str, int)) else stack
    if (
        isinstance(names, Tensor)
        or not isinstance(names, Collection)
        or not all(isinstance(name, (str, int)) for name in names)
    ):
        raise TypeError(f"stack must be names and positions, got {stack!r}")
    return tuple(names)


def _numbers(items: list[Any], path: tuple[Any, ...]) -> Any:
    try:
        return default_collate(items)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"at {_name(path)}: numbers cannot be collated: {error}") from None


def _is_number(item: Any) -> bool:
    return isinstance(item, (int, float, complex, np.number, np.bool_))


def _name(path: tuple[Any, ...]) -> str:
    return "sample" + "".join(f"[{part!r}]" for part in path)


def _collate_batches(batches: Sequence[RaggedBatch], *, collate_fn_map: Any = None) -> RaggedBatch:
    del collate_fn_map  # part of the protocol; nothing nested needs it
    return stack_batches(batches)


def register_with_dataloader() -> None:
    """Let torch's ``default_collate`` stack ragged batches along a new batch dimension."""
    default_collate_fn_map[RaggedBatch] = _collate_batches
