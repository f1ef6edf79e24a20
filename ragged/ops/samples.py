"""Reading lists of samples, however nested and of whatever kind, into a flat list of tensors."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragged.values.checks import check_has_values, check_is_tensor, check_positive, is_sequence, sample_name


def read_samples(
    data: Sequence[Any],
    num_batch_dims: int | None,
    flatten: bool,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> tuple[list[Tensor], tuple[int, ...]]:
    """Return the samples in one flat list, of one dtype and device, and the batch shape they were nested in."""
    if isinstance(data, (Tensor, np.ndarray, str)) or not isinstance(data, Sequence):
        raise TypeError(
            f"expected a list of samples, got {type(data).__name__}; for a padded tensor use RaggedBatch(…), "
            "for an array of samples list(…)"
        )
    if num_batch_dims is None:
        num_batch_dims = max(_num_levels_above_tensors(data), 1)
    check_positive(num_batch_dims, "num_batch_dims")
    leaves: list[Any] = []
    shape = _collect(data, num_batch_dims, leaves, flatten)
    if not leaves:
        raise ValueError(
            "expected at least one sample, got an empty list; for a batch without samples use RaggedBatch.empty"
        )
    return _as_tensors(leaves, dtype, device), (len(leaves),) if flatten else shape


def _num_levels_above_tensors(data: Any) -> int:
    """The depth of nested lists around tensors and arrays; 0 if there are only numbers."""
    if isinstance(data, (Tensor, np.ndarray)) or not is_sequence(data):
        return 0
    for item in data:
        if isinstance(item, (Tensor, np.ndarray)):
            return 1
        levels = _num_levels_above_tensors(item)
        if levels:
            return levels + 1
    return 0


def _collect(data: Any, levels: int, leaves: list[Any], flatten: bool) -> tuple[int, ...]:
    """Append the samples ``levels`` levels down to ``leaves``; return the shape of the nesting."""
    if isinstance(data, (Tensor, np.ndarray, str)) or not isinstance(data, Sequence):
        raise TypeError(f"data_list must have lists at every batch level, got {type(data).__name__} next to lists")
    if levels == 1:
        leaves.extend(data)
        return (len(data),)
    shapes = [_collect(item, levels - 1, leaves, flatten) for item in data]
    if not flatten and any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"nested lists must have equal length to become batch dimensions, got {shapes}; use flatten_batch_dims=True"
        )
    return (len(shapes), *(shapes[0] if shapes else (0,) * (levels - 1)))


def _as_tensors(leaves: list[Any], dtype: torch.dtype | None, device: torch.device | str | None) -> list[Tensor]:
    if len(leaves) == 1 and isinstance(leaves[0], Tensor) and dtype is None and device is None:
        check_is_tensor(leaves[0], sample_name((0,)))
        return leaves
    tensors = [leaf if isinstance(leaf, Tensor) else _as_tensor(leaf, n) for n, leaf in enumerate(leaves)]
    for number, tensor in enumerate(tensors):
        check_is_tensor(tensor, sample_name((number,)))
    filled = [tensor for tensor in tensors if tensor.numel()] or tensors[:1]
    dtypes, devices = {tensor.dtype for tensor in filled}, {tensor.device for tensor in filled}
    if dtype is None and len(dtypes) > 1 and any(isinstance(leaf, (Tensor, np.ndarray)) for leaf in leaves):
        raise TypeError(f"samples must have one dtype, or dtype= must be given; {_first_two(tensors, 'dtype')}")
    if device is None and len(devices) > 1:
        raise ValueError(f"samples must be on one device, or device= must be given; {_first_two(tensors, 'device')}")
    # Plain numbers promote as they would in one list.
    target = functools.reduce(torch.promote_types, dtypes) if dtype is None else dtype
    place = filled[0].device if device is None else torch.device(device)
    if len(filled) == len(tensors) and dtypes == {target} and devices == {place}:
        return tensors
    if place.type != "meta":
        for tensor in filled:
            if tensor.numel():
                check_has_values(tensor, "combining samples of several devices")
    # Of a sample without elements the device does not matter, and from meta nothing can be copied.
    return [
        tensor.to(place, target) if tensor.numel() else torch.empty(tensor.shape, dtype=target, device=place)
        for tensor in tensors
    ]


def _first_two(tensors: list[Tensor], attribute: str) -> str:
    """Name the first sample with elements, and the first that differs from it in an attribute."""
    values = [(n, getattr(tensor, attribute)) for n, tensor in enumerate(tensors) if tensor.numel()]
    (first, value), (other, different) = values[0], next(pair for pair in values if pair[1] != values[0][1])
    return f"{sample_name((other,))} has {different}, {sample_name((first,))} has {value}"


def _as_tensor(leaf: Any, number: int) -> Tensor:
    try:
        return torch.as_tensor(leaf)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(leaf, np.ndarray) and leaf.dtype == object:
            raise TypeError(objects_message(sample_name((number,)))) from None
        expected = f"{sample_name((number,))} must be a tensor, an array or a list of numbers"
        raise TypeError(f"{expected}, got {_described(leaf, error)}") from None


def _described(leaf: Any, error: Exception) -> str:
    """The words of an error: the value given instead of a sample, and what to do."""
    parts = leaf if is_sequence(leaf) else [leaf]
    if any(isinstance(part, Mapping) for part in parts):
        return f"{'a dict' if parts[0] is leaf else 'a list of dicts'}; ragged.collate takes a list of dicts"
    if any(is_sequence(part) for part in parts):
        return (
            "a list of lists of unequal length; if they are samples, give num_batch_dims, the number of levels of "
            "lists above samples"
        )
    return f"{type(leaf).__name__}: {error}"


def objects_message(name: str) -> str:
    """The words of an error for an array without numbers, and what to do."""
    return (
        f"{name} must hold numbers, got an array of objects: rows of unequal length, or tensors in it? "
        "Make a list of arrays of numbers, one for each sample"
    )
