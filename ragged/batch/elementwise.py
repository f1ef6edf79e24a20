"""Elementwise torch functions and Python operators on a RaggedBatch.

A torch function is let through only if it is known to treat every entry alone; anything else could mix filler into
valid entries, and raises. Where a gradient is needed, filler is replaced by 1 *before* the function: in its backward
pass, the zero gradient that arrives for a filler entry would otherwise meet an infinite derivative and become NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragged.batch import layers, torch_functions
from ragged.batch.core import AnyBatch, BatchCore
from ragged.batch.dims import resize
from ragged.batch.layout import check_same_layout
from ragged.batch.torch_functions import LINEAR, SAFE_VALUE
from ragged.values.checks import check_flag, check_has_values, check_not_negative, check_same_device
from ragged.values.masked import filled, has_product, product
from ragged.values.sizes import check_fits_batch

Operator = Callable[[Any, Any], Any]

# Any finite filler is safe for them, and 0 is what it costs least to write.
_PRODUCTS = dict.fromkeys((torch.mul, torch.multiply, Tensor.mul, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__))


def operators(function: Callable[..., Tensor]) -> tuple[Operator, Operator]:
    """The operator and the reflected operator of a binary torch function."""

    def operator(batch: BatchCore, other: Any) -> Any:
        if isinstance(other, (int, float)) and function in torch_functions.LINEAR_WITH_NUMBER and 0 < abs(other) < inf:
            return batch._with(function(batch.tensor, other))
        if type(other) is type(batch) and function not in torch_functions.CHOOSY and _are_alike(batch, other):
            return batch._with(_call_alike(function, batch, other))
        if isinstance(other, np.bool_):
            other = bool(other)
        if not isinstance(other, (type(batch), Tensor, Number)):
            return NotImplemented
        return call_elementwise(function, (batch, other), {}, type(batch))

    def reflected(batch: BatchCore, other: Any) -> Any:
        if isinstance(other, np.bool_):  # torch would take it for a fraction
            other = bool(other)
        if not isinstance(other, (Tensor, Number)):
            return NotImplemented
        return call_elementwise(function, (other, batch), {}, type(batch))

    return operator, reflected


def _are_alike(batch: BatchCore, other: BatchCore) -> bool:
    """Whether two batches were made of the same sizes, and are of one shape: what all others have to be checked for."""
    return (
        batch.sample_sizes is other.sample_sizes
        and batch.ragged_axis == other.ragged_axis
        and batch.tensor.shape == other.tensor.shape
    )


def _call_alike(function: Callable[..., Tensor], batch: BatchCore, other: BatchCore) -> Tensor:
    """As ``call_elementwise``, for two batches that are alike, or one and itself."""
    first, second = batch.tensor, other.tensor
    if not (first.requires_grad or second.requires_grad) or function in LINEAR or not torch.is_grad_enabled():
        return function(first, second)
    if function is torch.mul and has_product(first, second):
        return product(first, second, batch.aligned_mask, clear=False)
    protected = _protected(batch, function) if first.requires_grad else first
    if second is first:  # protected once
        return function(protected, protected)
    return function(protected, _protected(other, function) if second.requires_grad else second)


def unary_operator(function: Callable[[Tensor], Tensor]) -> Callable[[AnyBatch], AnyBatch]:
    """The operator of a unary torch function."""

    def operator(batch: AnyBatch) -> AnyBatch:
        return call_elementwise(function, (batch,), {}, type(batch))

    return operator


def torch_function(
    cls: type[AnyBatch],
    func: Callable[..., Any],
    types: Iterable[type],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Torch functions called with a RaggedBatch: ``__torch_function__``."""
    kwargs = kwargs or {}
    if not all(issubclass(kind, (cls, Tensor)) for kind in types):
        return NotImplemented
    if torch.compiler.is_compiling():
        func, args = torch_functions.of_operator(func, args)
    if func in torch_functions.ELEMENTWISE:
        return call_elementwise(func, args, kwargs, cls)
    if func in torch_functions.UNREDUCED_LOSSES and kwargs.get("reduction", "mean") == "none":
        return call_elementwise(func, args, kwargs, cls)
    if func in layers.LAYERS:
        return layers.LAYERS[func](*args, **kwargs)
    if func in torch_functions.ALONG_DIM:
        return torch_functions.call_along_dim(func, args, kwargs, cls)
    raise TypeError(torch_functions.refusal(func))


def call_elementwise(
    function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], cls: type[AnyBatch]
) -> AnyBatch:
    """Call an elementwise function on the tensors of its ragged arguments, and wrap the result."""
    if kwargs.get("out") is not None:
        raise TypeError(f"{function.__name__}: a RaggedBatch does not support out=")
    operands = [*args, *kwargs.values()]
    batches: list[AnyBatch] = [operand for operand in operands if isinstance(operand, cls)]
    first = batches[0]
    for other in batches[1:]:
        check_same_layout(first, other, what=function.__name__)
    # A zero gradient meets the values of the other operands. What comes of it in filler is stopped at the operand that
    # it flows back to; only towards a dense operand, where it is summed up, must the values themselves be harmless.
    differentiated = function not in torch_functions.LINEAR and torch.is_grad_enabled()
    protect_all = function in torch_functions.CHOOSY or (
        differentiated and any(isinstance(each, Tensor) and each.requires_grad for each in operands)
    )

    shape = first.tensor.shape

    def unwrap(operand: Any) -> Any:
        if isinstance(operand, cls):
            protect = protect_all or (differentiated and operand.requires_grad)
            operand = _protected(operand, function) if protect else operand.tensor
        elif isinstance(operand, np.ndarray):
            operand = _as_number(operand, first, function)
        if isinstance(operand, Tensor) and operand.shape != shape and function not in torch_functions.OWN_BROADCAST:
            check_fits_batch(operand.shape, shape, what=function.__name__)
        return operand

    result = function(*map(unwrap, args), **{name: unwrap(value) for name, value in kwargs.items()})
    if not isinstance(result, Tensor):  # such as torch.where with a condition alone
        raise TypeError(torch_functions.refusal(function))
    made, nb, dim = result.shape, first.sample_sizes.dim(), first.non_uniform_dim
    if made != shape and (made[:nb] != first.batch_shape or made[dim] != first.max_sample_size):
        raise ValueError(
            f"{function.__name__}: the result must keep batch shape and ragged dimension of {tuple(shape)}, but "
            f"broadcasting gives {tuple(made)}; see broadcast_batch_dims_to_shape"
        )
    return first._with(result)


def _protected(batch: BatchCore, function: Callable[..., Any]) -> Tensor:
    """The data with harmless filler, which gets no gradient and raises no complaint."""
    if batch.tensor.dtype is torch.bool:
        return batch.tensor
    return filled(batch.tensor, batch.aligned_mask, 0 if function in _PRODUCTS else SAFE_VALUE)


def _as_number(array: np.ndarray[Any, Any], batch: BatchCore, function: Callable[..., Any]) -> Tensor:
    """A number of numpy, which is an array in a compiled graph, as a tensor that promotes the batch as it would."""
    number = torch.as_tensor(array)
    if number.dim():
        raise TypeError(
            f"{function.__name__}: a RaggedBatch does not combine with NumPy arrays, got shape {tuple(number.shape)}; "
            "use torch.from_numpy"
        )
    if number.is_floating_point():
        return number if batch.tensor.is_floating_point() else number.to(torch.get_default_dtype())
    return number if number.dtype is batch.dtype is torch.bool else number.to(torch.int64)


def equal(batch: BatchCore, other: BatchCore) -> bool:
    """Whether both batches hold the same samples: equal sizes, and equal valid entries; padding does not count.

    Read on the host: synchronises on an accelerator.
    """
    return _same_structure(batch, other) and batch.dtype == other.dtype and _all_valid(batch, other, torch.eq)


def allclose(
    batch: BatchCore, other: BatchCore, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether both batches have equal sizes and close valid entries, within the tolerances of ``torch.allclose``.

    Read on the host: synchronises on an accelerator.
    """

    check_not_negative(rtol, "rtol")
    check_not_negative(atol, "atol")
    check_flag(equal_nan, "equal_nan")

    def close(a: Tensor, b: Tensor) -> Tensor:
        return torch.isclose(a, b, rtol=rtol, atol=atol, equal_nan=bool(equal_nan))

    same = _same_structure(batch, other)
    if batch.dtype != other.dtype:
        raise TypeError(f"batches that are compared must have one dtype, got {batch.dtype} and {other.dtype}")
    return same and _all_valid(batch, other, close)


def _same_structure(batch: BatchCore, other: BatchCore) -> bool:
    if not isinstance(other, type(batch)):
        raise TypeError(f"other must be a RaggedBatch, got {type(other).__name__}")
    check_same_device(other.device, batch.device, name="the other batch", reference="this batch")
    check_has_values(batch.tensor, "comparing batches")
    if batch.non_uniform_dim != other.non_uniform_dim or batch.dim() != other.dim():
        return False
    return torch.equal(batch.sample_sizes, other.sample_sizes)


def _all_valid(batch: BatchCore, other: BatchCore, compare: Callable[[Tensor, Tensor], Tensor]) -> bool:
    size = min(batch.max_sample_size, other.max_sample_size)
    batch, other = resize(batch, size), resize(other, size)
    if batch.shape != other.shape:
        return False
    return bool((compare(batch.tensor, other.tensor) | ~batch.aligned_mask).all())
