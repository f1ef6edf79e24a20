"""``RaggedBatch.apply``: a function of the padded data, which filler is kept out of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import BuiltinFunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ragged.batch.core import BatchCore
from ragged.batch.torch_functions import NORM_OF_ENTRIES
from ragged.values.checks import check_is_callable

# They look at several entries at once, wherever the ragged dimension is.
_MIXING = (nn.GroupNorm, nn.MultiheadAttention, nn.RNNBase, nn.modules.batchnorm._BatchNorm)


def apply(batch: BatchCore, function: Callable[..., Any]) -> Any:
    """Apply a function to each entry on its own, and keep the sample sizes.

    The function gets the whole padded tensor, and must compute each entry from that entry alone: a linear layer, an
    MLP, a layer norm of data dimensions, an embedding, arithmetic. It is called with ``tensor``, with ``tensor, mask``
    or with ``tensor, mask, sample_sizes``, according to how many arguments it requires.

    Filler is protected. Where a gradient is recorded, and for integers, each slot of filler holds a copy of a valid
    entry (if there is none, zeros for integers, else numbers between 0 and 1). A function that is finite for the
    entries is thus finite for filler: neither the batch nor the function's own parameters get a gradient from there,
    and an embedding sees valid indices only.

    Nothing can protect a function that mixes entries: a batch norm, an attention, a convolution or a sum along the
    ragged dimension. Modules that always mix are refused. ``apply`` cannot detect this for a plain function;
    ``ragged.testing.check_op`` can.

    Args:
        function: Any callable: a function, a builtin, a module, a partial. It returns a tensor of the same batch shape
            and size of the ragged dimension, or a tuple of such tensors.

    Returns:
        A RaggedBatch, or a tuple of them.

    Raises:
        TypeError: ``function`` cannot be called, requires more than three arguments, or is (or has) a module that mixes
            entries: batch norm in training, group norm, recurrent layers, ``nn.MultiheadAttention``.
        ValueError: A result has another batch shape or size of the ragged dimension.

    >>> RaggedBatch(torch.ones(1, 2), sample_sizes=[1]).apply(lambda tensor: tensor + 1).split()
    [tensor([2.])]
    """
    check_is_callable(function, "function")
    if isinstance(function, nn.Module):
        _check_mixes_nothing(function)
    parts = (with_valid_filler(batch), batch.mask, batch.sample_sizes)
    result = function(*parts[: _num_required_arguments(function)])
    if isinstance(result, tuple):
        return tuple(batch.create_with_sample_sizes_like_self(part) for part in result)
    return batch.create_with_sample_sizes_like_self(result)


def with_valid_filler(batch: BatchCore) -> Tensor:
    """The data with a valid entry in each slot of filler, from which no gradient flows back.

    A constant would not do: there is none at which every function has a finite derivative.
    """
    tensor, sizes = batch.tensor, batch.sample_sizes
    harmless = tensor.dtype is torch.bool or (tensor.is_floating_point() and not torch.is_grad_enabled())
    if harmless or not tensor.numel():
        return tensor
    first = tensor.detach().narrow(batch.non_uniform_dim, 0, 1)
    largest = sizes.reshape(-1).argmax()  # has an entry if any sample has
    entry = first.reshape(-1, *first.shape[batch.num_batch_dims :]).index_select(0, largest).squeeze(0)
    is_number = tensor.is_floating_point() or tensor.is_complex()
    entry = torch.where(sizes.any(), entry, _generic(entry) if is_number else 0)
    return torch.where(batch.aligned_mask, tensor, entry)


def _generic(entry: Tensor) -> Tensor:
    """Different numbers between 0 and 1: logarithms, deviations and most else have finite derivatives there."""
    count = entry.numel()
    numbers = torch.arange(1, count + 1, device=entry.device, dtype=torch.float32) / (count + 1)
    return numbers.to(entry.dtype).view(entry.shape)


def _check_mixes_nothing(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, _MIXING) and (part.training or not _has_own_statistics(part)):
            name = type(part).__name__
            raise TypeError(
                f"apply needs a function that treats each entry alone, but {name} mixes entries and filler; "
                f"{_instead_of(part)}"
            )


def _has_own_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _instead_of(module: nn.Module) -> str:
    if isinstance(module, nn.MultiheadAttention):
        return "pass it batch.with_padded_set_to(0).tensor and key_padding_mask=ragged.key_padding_mask(batch)"
    if isinstance(module, nn.RNNBase):
        return "pass it torch.nn.utils.rnn.pack_padded_sequence of .tensor and .sample_sizes"
    return NORM_OF_ENTRIES


def _num_required_arguments(function: Callable[..., Any]) -> int:
    # The signature of a module's __call__ says nothing; that of its forward does.
    described: Any = function.forward if isinstance(function, nn.Module) else function
    if hasattr(described, "__code__") and not hasattr(described, "__wrapped__"):
        # As below, for what the compiler can trace: functions, lambdas and methods.
        required = (
            described.__code__.co_argcount - len(described.__defaults__ or ()) - isinstance(described, MethodType)
        )
    else:
        required = _num_required_by_signature(described)
    if required > 3:
        raise TypeError(f"apply needs a function of 1 to 3 arguments (tensor, mask, sample_sizes), got {required}")
    return max(required, 1)


def _num_required_by_signature(function: Callable[..., Any]) -> int:
    if isinstance(function, BuiltinFunctionType):  # such as torch.exp: no signature to be had
        return 1
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)
