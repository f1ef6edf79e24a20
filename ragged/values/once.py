"""What is made once: in a step, or, as the points of a grid are, for all steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.utils.weak import WeakIdKeyDictionary

Value = TypeVar("Value")

_MOST = 64
"""Results that a function keeps. None of them is ever dropped for another: a CUDA graph may read its memory."""


def once(computed: dict[str, Value], name: str, make: Callable[[], Value]) -> Value:
    """The value computed under a name; computed now if this is the first request."""
    # Not functools.cached_property, whose lock the compiler of older Pythons cannot trace.
    if name not in computed:
        computed[name] = make()
    return computed[name]


def made_once(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, which keeps what it made of the first arguments it was called with.

    Results are shared by all callers. One that somebody has written into is made again. Nothing is kept of a graph that
    is traced or captured, nor in inference mode, whose tensors no backward pass can use.

    Args:
        function: Of arguments that can be hashed. Equal ones give equal tensors.
    """
    kept: dict[Hashable, tuple[Tensor, int]] = {}

    @functools.wraps(function)
    def call(*args: Any) -> Tensor:
        if torch.compiler.is_compiling() or detect_fake_mode() is not None:
            return function(*args)
        result, version = kept.get(args, (None, 0))
        if result is not None and result._version == version:
            return result
        made = function(*args)
        if (args in kept or len(kept) < _MOST) and not made.is_inference() and not is_captured(made):
            kept[args] = made, made._version
        return made

    return call


_of_constants: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""What was made of tensors by name, and the version of the tensor that it was made of."""


def of_constant(constant: Tensor, name: str, make: Callable[[], Value]) -> Value:
    """What is made of a tensor alone, made once where the tensor is the same in all steps, as priors are.

    It is made again once the tensor was written into, and is not to be written into itself. Nothing is kept on CPU,
    where other libraries write into the memory of tensors, nor where ``made_once`` keeps nothing.

    Args:
        constant: The tensor; nothing is kept of one that has a gradient.
        name: Of the result.
        make: Makes it, of this tensor and of nothing else that changes.
    """
    if constant.device.type == "cpu" or constant.requires_grad or _is_traced() or is_captured(constant):
        return make()
    version, computed = _of_constants.get(constant, (None, {}))
    if version != constant._version:
        computed = {}
        _of_constants[constant] = constant._version, computed
    return once(computed, name, make)


def _is_traced() -> bool:
    """Whether tensors stand for those of a graph, or for many at once, or belong to inference mode."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return True
    return detect_fake_mode() is not None or torch._C._are_functorch_transforms_active()


def known_range(count: int, device: torch.device) -> Tensor:
    """The numbers below ``count``, made once on an accelerator, and not to be written into."""
    return torch.arange(count, device=device) if device.type == "cpu" else _range(count, device)


@made_once
def _range(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device)


def row(values: Sequence[float], like: Tensor) -> Tensor:
    """The numbers (n,) as a tensor where ``like`` is, made there: a copy from the host would wait for the device."""
    return torch.stack([like.new_full((), value) for value in values])


def known_row(values: Sequence[float], like: Tensor) -> Tensor:
    """``row`` of numbers that stay the same, made once, and not to be written into."""
    return _row(tuple(values), like.dtype, like.device)


@made_once
def _row(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return row(values, torch.empty((), dtype=dtype, device=device))


def is_captured(tensor: Tensor) -> bool:
    """Whether a CUDA graph is being captured, which is replayed when other values stand there."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
