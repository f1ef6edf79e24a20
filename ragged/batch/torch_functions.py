"""Which torch functions a RaggedBatch lets through, and what to use instead of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ragged.batch.core import AnyBatch, BatchCore
from ragged.values.checks import check_dim

NAMESPACES = (torch, Tensor, functional, torch.special)


def _functions(names: str) -> dict[Callable[..., Any], None]:
    """As the keys of a dict, since the compiler of older versions of torch knows no set of functions."""
    found = (getattr(namespace, name, None) for name in names.split() for namespace in NAMESPACES)
    return dict.fromkeys(function for function in found if callable(function))  # Tensor.real is not


# Every output entry depends on the entries at the same place alone, whatever the dtype.
ELEMENTWISE = _functions(
    """
    abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh
    atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu
    clamp clamp_max clamp_min clip clone conj conj_physical copysign cos cosh deg2rad detach digamma div divide elu
    empty_like eq erf erfc erfinv exp exp2 expit expm1 fix float_power floor floor_divide fmax fmin fmod frac full_like
    gammaln ge gelu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot imag isclose
    isfinite isinf isnan isneginf isposinf isreal ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p log2
    alpha_dropout dropout logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit logsigmoid lt
    maximum minimum mish mul multiply nan_to_num ne neg negative not_equal ones_like polar positive pow rad2deg
    rand_like randn_like real reciprocal relu relu6 remainder round rsqrt selu sgn sigmoid sign signbit silu sin sinc
    sinh softplus softshrink softsign sqrt square sub subtract tan tanh tanhshrink threshold true_divide trunc where
    xlog1py xlogy zeros_like __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __div__
    __rdiv__ __floordiv__ __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__ __and__ __rand__ __or__ __ror__ __xor__
    __rxor__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__
    """
)

# Their backward pass multiplies a gradient by no value of the batch: filler can stay as it is.
LINEAR = _functions(
    """
    add sub subtract neg negative positive clone detach dropout alpha_dropout eq ne lt le gt ge greater greater_equal
    less less_equal not_equal isfinite isinf isnan __add__ __radd__ __sub__ __rsub__ __eq__ __ne__ __lt__ __le__ __gt__
    __ge__
    """
)

# They raise for some values, which filler may happen to have: integers divided by 0, or what is no probability.
CHOOSY = _functions(
    """
    div floor_divide remainder fmod __floordiv__ __rfloordiv__ __mod__ __rmod__ pow __pow__ __rpow__
    binary_cross_entropy
    """
)

# Their derivative is a constant if the other operand is a number.
LINEAR_WITH_NUMBER = LINEAR | _functions("mul div true_divide")

# What the operators of a tensor stand for, by the names under which a compiled graph (or an exported one) calls them.
_SYMBOLS: dict[str, Callable[..., Any]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "truediv": torch.div,
    "floordiv": torch.floor_divide, "mod": torch.remainder, "remainder": torch.remainder, "pow": torch.pow,
    "and": torch.bitwise_and, "and_": torch.bitwise_and, "bitwise_and": torch.bitwise_and, "or": torch.bitwise_or,
    "or_": torch.bitwise_or, "bitwise_or": torch.bitwise_or, "xor": torch.bitwise_xor, "bitwise_xor": torch.bitwise_xor,
    "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge, "eq": torch.eq, "ne": torch.ne,
}  # fmt: skip
_OPERATORS = {form.format(name): function for name, function in _SYMBOLS.items() for form in ("{}", "i{}", "__{}__")}
_REFLECTED = {f"__r{name}__": function for name, function in _SYMBOLS.items()}
_IN_PLACE = {f"{function.__name__}_": function.__name__ for function in _SYMBOLS.values()} | {
    f"__i{name}__": function.__name__ for name, function in _SYMBOLS.items()
}

# Elementwise if asked not to reduce.
UNREDUCED_LOSSES = _functions(
    """
    binary_cross_entropy binary_cross_entropy_with_logits gaussian_nll_loss hinge_embedding_loss huber_loss kl_div
    l1_loss mse_loss poisson_nll_loss smooth_l1_loss soft_margin_loss
    """
)

# Take shapes that do not broadcast: a variance without the last dimension.
OWN_BROADCAST = _functions("gaussian_nll_loss")

# Mix entries along ``dim``: allowed along a data dimension, where no filler meets a valid entry. The last ones give
# values and indices.
ALONG_DIM = _functions(
    """
    softmax log_softmax softmin cumsum cumprod normalize flip sum nansum mean nanmean prod amax amin any all argmax
    argmin logsumexp var std argsort max min sort topk
    """
)
_DIM_COMES_THIRD = _functions("normalize topk")
_OF_THE_LAST_DIM = _functions("argsort sort topk")

_OVER_TARGETS = {
    "sum": "sum",
    "nansum": "sum",
    "mean": "average",
    "nanmean": "average",
    "max": "max",
    "amax": "max",
    "min": "min",
    "amin": "min",
    "any": "any",
    "all": "all",
    "count_nonzero": "count",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "logsumexp": "logsumexp",
    "argmax": "argmax",
    "argmin": "argmin",
    "cumsum": "cumsum",
    "sort": "sort",
    "argsort": "sort",
    "topk": "topk",
}

INSTEAD = {name: f"ragged.{function}_over_targets" for name, function in _OVER_TARGETS.items()} | {
    "flatten": "RaggedBatch.flatten_batch_dims or ragged.pack",
    "reshape": "RaggedBatch.reshape_batch_dims",
    "unsqueeze": "RaggedBatch.unsqueeze_data_dim or unsqueeze_batch_dim",
    "squeeze": "ragged.squeeze_except_batch_and_sample or RaggedBatch.squeeze_batch_dim",
    "transpose": "RaggedBatch.get_non_uniform_dimension_transposed_to",
    "gather": "ragged.batched_indexing_access",
    "index_select": "ragged.batched_indexing_access",
    "take_along_dim": "ragged.batched_indexing_access",
    "scatter": "ragged.batched_indexing_write",
    "index_copy": "ragged.batched_indexing_write",
    "index_put": "ragged.batched_indexing_write",
    "masked_select": "ragged.batched_bool_indexing",
    "masked_fill": "torch.where or RaggedBatch.with_padded_set_to",
    "nonzero": "ragged.get_indices_from_mask",
    "equal": "RaggedBatch.equal",
    "allclose": "RaggedBatch.allclose",
    "split": "RaggedBatch.split",
    "repeat_interleave": "RaggedBatch.repeat_samples",
    "tile": "RaggedBatch.repeat_samples",
    "broadcast_to": "RaggedBatch.broadcast_batch_dims_to_shape",
}

_INDEXING = {
    "__getitem__": "ragged.batched_indexing_access, or with a mask ragged.batched_bool_indexing",
    "__setitem__": "ragged.batched_indexing_write, or with a mask ragged.batched_bool_indexing_write",
}

# Of images, as a rule, that were collated as if they differed in size.
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "max_pool2d", "interpolate")
NORM_OF_ENTRIES = "normalise the valid entries: values, sizes = ragged.pack(batch); ragged.unpack(norm(values), sizes)"
_ATTENTION = {
    "scaled_dot_product_attention": "attn_mask=ragged.attention_mask(keys)",
    "multi_head_attention_forward": "key_padding_mask=ragged.key_padding_mask(keys)",
}


def of_operator(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The torch function that an operator of a tensor stands for in a compiled graph, and its operands in order.

    There, a tensor's method is called for any operator of a tensor and a batch, for ``batch - tensor`` that of the
    tensor reflected. Methods that are written in Python are then objects that no table holds: they go by their names.
    """
    name = getattr(func, "__name__", "")
    if name in _REFLECTED:
        return _REFLECTED[name], args[::-1]
    return _OPERATORS.get(name, func), args


def refusal(func: Callable[..., Any]) -> str:
    """Why ``func`` is not let through, and what to use."""
    name = getattr(func, "__name__", str(func))
    if func in UNREDUCED_LOSSES:
        return f"{name} would average over filler; pass reduction='none' and reduce with ragged.average_over_targets"
    if name in _IN_PLACE:
        return f"{name} would write a RaggedBatch into a tensor; use torch.{_IN_PLACE[name]}, or a = a + b for a += b"
    if name in _INDEXING:
        return f"a RaggedBatch cannot index a tensor or be written into one; use {_INDEXING[name]}"
    if name in _CONVOLUTIONS:
        return f"torch.{name} is for dense tensors; images of one size are stacked by ragged.collate(…, stack=…)"
    if name in _ATTENTION:
        return f"{name} needs tensors, got a batch; pass keys.with_padded_set_to(0).tensor, and {_ATTENTION[name]}"
    if name in ("batch_norm", "group_norm", "instance_norm"):
        return f"{name} mixes entries and filler; {NORM_OF_ENTRIES}"
    instead = INSTEAD.get(name)
    if instead is not None:
        return f"torch.{name} would mix filler into the result of a RaggedBatch; use {instead}"
    return (
        f"torch.{name} is not supported for a RaggedBatch; "
        "use RaggedBatch.apply if it treats each entry alone, or work on .tensor and .mask"
    )


class AlongDim(NamedTuple):
    """The values and indices of a function such as ``torch.max`` along a data dimension."""

    values: Any
    indices: Any


def call_along_dim(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], cls: type[AnyBatch]) -> Any:
    """Call a function that mixes entries along data dimensions, such as a softmax over classes.

    Returns:
        A batch; of functions that give values and indices, a named tuple of two.

    Raises:
        TypeError: No dimension is given, or one of them is ragged or a batch dimension.
    """
    batch = args[0] if args else kwargs.get("input")
    if not isinstance(batch, cls):
        raise TypeError(refusal(func))
    dims = _data_dims(batch, _given_dim(func, args, kwargs), func)
    needs_grad = torch.is_grad_enabled() and batch.requires_grad
    tensor = protected(batch) if needs_grad else batch.tensor
    rest = {name: value for name, value in kwargs.items() if name != "input"}
    result = func(tensor, *args[1:], **rest)

    def wrap(part: Tensor) -> AnyBatch:
        removed = 0 if part.dim() == batch.dim() else sum(dim < batch.non_uniform_dim for dim in dims)
        return batch._unchecked(part, batch.mask, batch.sample_sizes, batch.ragged_axis - removed)

    return wrap(result) if isinstance(result, Tensor) else AlongDim(*map(wrap, result))


def _given_dim(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    place = 2 if func in _DIM_COMES_THIRD else 1
    if len(args) > place:
        return args[place]
    default = -1 if func in _OF_THE_LAST_DIM else None
    return next((kwargs[name] for name in ("dim", "dims", "axis") if name in kwargs), default)


def _data_dims(batch: BatchCore, dim: Any, func: Callable[..., Any]) -> Sequence[int]:
    if isinstance(dim, (BatchCore, Tensor)) and func.__name__ in ("max", "min"):
        name = func.__name__
        raise TypeError(f"torch.{name} of two operands is not supported for a RaggedBatch; use torch.{name}imum")
    if dim is None or isinstance(dim, (bool, Tensor)):
        raise TypeError(refusal(func))
    given: Iterable[int] = (dim,) if isinstance(dim, int) else dim
    dims = [check_dim(each, batch.dim()) for each in given]
    of_batch = [each for each in dims if each < batch.num_batch_dims]
    if of_batch:
        raise TypeError(
            f"torch.{func.__name__} along dimension {of_batch[0]}, a batch dimension, would mix samples and their "
            "filler; reduce the entries of each sample first, or work on .tensor and .mask"
        )
    if not dims or batch.non_uniform_dim in dims:
        raise TypeError(refusal(func))
    return dims


# Stands in for filler before a function that is differentiated: log, sqrt, division and powers are all smooth there.
SAFE_VALUE = 1


def protected(batch: BatchCore, value: int = SAFE_VALUE) -> Tensor:
    """The data with harmless filler, which gets no gradient and raises no complaint."""
    tensor = batch.tensor
    if tensor.dtype is torch.bool:
        return tensor
    return torch.where(batch.aligned_mask, tensor, value)
