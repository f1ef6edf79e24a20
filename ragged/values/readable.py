"""Packed or static: whether the host can look at values, decided here for all packages.

Where it can, at no cost (an eager CPU tensor), code is *packed*: it computes only what counts, in shapes that depend on
values. Elsewhere (on an accelerator, where a look waits; in a graph, where there is nothing to see) it is *static*: all
slots are computed, and a mask says which of them count. Both give the same. Code that has two ways asks
``values_are_readable``, and names them ``_packed`` and ``_static``, in this order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from ragged.values.memory import is_transposed


def has_values(tensor: Tensor) -> bool:
    """Whether ``tensor`` stands for plain numbers: not traced, not fake, not on meta, not a ``vmap`` of many."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, Parameter)  # fake tensors are a subclass
        and not tensor.is_meta
        and not _stands_for_many(tensor)
    )


def _stands_for_many(tensor: Tensor) -> bool:
    """Whether a ``vmap`` is at work, below any derivative that is being taken."""
    functorch = torch._C._functorch
    while functorch.is_gradtrackingtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return functorch.is_functorch_wrapped_tensor(tensor)


def values_are_readable(tensor: Tensor) -> bool:
    """Whether the host can read ``tensor`` without a synchronisation or a graph break."""
    return tensor.device.type == "cpu" and has_values(tensor)


def has_own_derivatives(tensor: Tensor) -> bool:
    """Whether the host can read ``tensor``, and ``can_have_own_derivative``."""
    return values_are_readable(tensor) and can_have_own_derivative(tensor)


def can_have_own_derivative(tensor: Tensor) -> bool:
    """Whether only a backward pass can differentiate what is done to ``tensor``.

    Then a derivative can be written by hand. Function transforms, forward-mode derivatives and traces need operations
    of torch.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)  # many gradients, of grad(is_grads_batched=True)
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._is_tracing()
    )


def known_within(tensor: Tensor, low: float, high: float) -> bool:
    """Whether all values can be read and lie in ``low … high``: a quick way past ``check_values`` in the usual case."""
    if tensor.numel() == 0 or not values_are_readable(tensor):
        return False
    # torch would copy what is transposed.
    smallest, largest = (tensor.mT if is_transposed(tensor) else tensor).aminmax()
    return low <= smallest.item() and largest.item() <= high


def known_finite(values: Tensor) -> bool:
    """Whether the host can see at a glance that all values are finite: a sum is so only if all its terms are."""
    return values_are_readable(values) and bool(values.sum().isfinite())
