"""Arguments as Python code: what a failed check prints, so that the case can be pasted into a test."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch

# More numbers than this nobody pastes; the shape says more.
MOST_NUMBERS = 2000


def as_code(value: Any) -> str:
    """Python code that recreates ``value``: batches (filler included), tensors, and containers and dataclasses of them.

    The code needs ``import torch``, ``from math import inf, nan``, and the classes that it names.

    >>> as_code(RaggedBatch(torch.tensor([[1, 2], [3, 9]]), sample_sizes=[2, 1]))
    'RaggedBatch(torch.tensor([[1, 2], [3, 9]]), sample_sizes=torch.tensor([2, 1]))'
    """
    if isinstance(value, RaggedBatch):
        dim = f", non_uniform_dim={value.non_uniform_dim}" if value.ragged_axis else ""
        return f"RaggedBatch({as_code(value.tensor)}, sample_sizes={as_code(value.sample_sizes)}{dim})"
    if isinstance(value, Tensor):
        return _tensor(value.detach())
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {as_code(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        items = ", ".join(map(as_code, value)) + ("," if len(value) == 1 else "")
        return f"{type(value).__name__}({items})" if hasattr(value, "_fields") else f"({items})"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_code, value)) + "]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    return repr(value)


def _tensor(tensor: Tensor) -> str:
    if tensor.numel() > MOST_NUMBERS or tensor.is_meta:
        return f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
    if tensor.numel() == 0 and tensor.dim() != 1:  # a list says nothing of the dimensions inside of it
        return f"torch.empty({tuple(tensor.shape)}, dtype={tensor.dtype})"
    numbers = tensor.cpu().tolist()
    is_default = tensor.numel() > 0 and torch.tensor(numbers).dtype == tensor.dtype
    return f"torch.tensor({_numbers(numbers)}{'' if is_default else f', dtype={tensor.dtype}'})"


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_numbers, value))}]"
    # What Python prints of a complex NaN or infinity is no code.
    return f"complex({value.real!r}, {value.imag!r})" if isinstance(value, complex) else repr(value)


def _dataclass(value: Any) -> str:
    fields = [field for field in dataclasses.fields(value) if field.init]
    changed = [field for field in fields if not _is_default(field, getattr(value, field.name))]
    listed = ", ".join(f"{field.name}={as_code(getattr(value, field.name))}" for field in changed)
    return f"{type(value).__name__}({listed})"


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    return isinstance(value, (type(None), bool, int, float, str)) and value == field.default
