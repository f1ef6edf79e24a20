"""A proof, on a machine without an accelerator, that a function would not make the host wait for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ragged.testing.outcome import real_parts
from ragged.testing.violation import PropertyViolation, reproduction


class HostSyncError(PropertyViolation):
    """Something needs a value, or another device, in the middle of the computation."""

    def __init__(self, message: str = "", *, property: str | None = "synchronisation") -> None:
        super().__init__(message, property=property)


# They copy from pageable host memory, or print values: an accelerator is waited for, though no dispatched operation
# of a meta tensor shows it.
_FROM_HOST = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
_PRINTING = (Tensor.__repr__, Tensor.__format__)

# They have shapes that do not depend on data, and read values all the same.
_READING = (torch.ops.aten.multinomial, torch.ops.aten._linalg_check_errors)
# Only a mask among their indices makes them read it, whatever their tags say.
_INDEXING = tuple(getattr(torch.ops.aten, name) for name in ("index", "index_put", "index_put_", "_index_put_impl_"))


_HELD = "if the operation holds a tensor (a closure, a layer in it), pass it as an argument, for check_op in shared="


class _RejectHostData(TorchFunctionMode):
    """On meta tensors: rejects tensors made there from Python values, and printing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRINTING:
            raise HostSyncError(f"{func.__name__} prints values")
        result = func(*args, **(kwargs or {}))
        if func in _FROM_HOST and result.device.type != "cpu":
            source = next((each for each in args if isinstance(each, Tensor) and each.device.type != "cpu"), None)
            if source is None or func is Tensor.new_tensor:
                raise HostSyncError(f"{func.__name__} copies values from the host")
        return result


class _RejectSyncs(TorchDispatchMode):
    """On meta tensors: rejects copies to other devices, mixed devices, and operations that need to read data.

    Copies from the host with ``non_blocking=True`` are right: the one who makes them sees to it that memory is pinned.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in _INDEXING:
            if any(index is not None and _is_mask(index) for index in args[1]):
                raise HostSyncError(f"{func} looks for the true entries of a mask")
        elif torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise HostSyncError(f"{func} depends on data")
        if func.overloadpacket in _READING:
            raise HostSyncError(f"{func} reads values")
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim()]
        result = func(*args, **kwargs)
        tensors += [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor) and leaf.dim()]
        devices = {tensor.device.type for tensor in tensors}
        if len(devices) > 1 and not _is_sent(func, result, kwargs):
            raise HostSyncError(f"{func} mixes devices {sorted(devices)}{_of_the_host(tensors)}")
        return result


def _is_sent(func: Any, result: Any, kwargs: Any) -> bool:
    """Whether this is a copy to the device that the host does not wait for."""
    return func is torch.ops.aten._to_copy.default and kwargs.get("non_blocking", False) and result.device.type != "cpu"


def _of_the_host(tensors: list[Tensor]) -> str:
    """What a tensor on the host usually is: one that the operation holds, which nobody could move."""
    held = next(tensor for tensor in tensors if tensor.device.type == "cpu")
    what = "parameter" if isinstance(held, nn.Parameter) else "tensor"
    return f": a {what} of shape {tuple(held.shape)} is on the host; {_HELD}"


def _forward_and_backward(function: Callable[..., Any], arguments: Any) -> None:
    leaves, structure = pytree.tree_flatten(arguments)
    leaves = [leaf.detach().requires_grad_() if _is_float(leaf) else leaf for leaf in leaves]
    results = pytree.tree_leaves(function(*pytree.tree_unflatten(leaves, structure)))
    differentiable = [
        real_parts(result).sum() for result in results if isinstance(result, Tensor) and result.requires_grad
    ]
    if differentiable:
        torch.stack(differentiable).sum().backward()


def _is_mask(index: Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype.is_floating_point


def assert_no_host_sync(op: Callable[..., Any], *arguments: Any) -> None:
    """The operation, forward and backward, never makes the host wait for an accelerator; none is needed to show it.

    It runs on meta tensors, which have no values and stand for another device than the host, and on fake CPU tensors,
    where ``item()``, ``nonzero`` and boolean indexing raise. Assigning to a boolean index is rejected even where the
    value is a single number, which torch would turn into a ``masked_fill``. A copy from the host with
    ``non_blocking=True`` is let through: pin its memory.

    Args:
        op: The operation. Parameters and buffers of an ``nn.Module`` move to the device along with the arguments.
        arguments: All tensors that live on the device, in any containers. A tensor that the operation holds in another
            way counts as one on the host.

    Raises:
        HostSyncError: With what asked for a value.

    >>> assert_no_host_sync(lambda x: x / x.sum().item(), torch.ones(3))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ragged.testing.properties.synchronisation.HostSyncError: synchronisation: aten._local_scalar_dense...
    ...
    """
    try:
        _assert_no_host_sync(op, arguments)
    except HostSyncError as error:
        lines = "\n".join(f"    {line}" for line in reproduction("synchronisation", arguments, ()))
        raise HostSyncError(f"synchronisation: {error}\nReproduce with\n{lines}") from error.__cause__


def _assert_no_host_sync(op: Callable[..., Any], arguments: Any) -> None:
    if isinstance(op, nn.Module):
        state = {**dict(op.named_parameters()), **dict(op.named_buffers())}
        module = op
        _assert_no_host_sync(lambda tensors, *given: functional_call(module, tensors, given), (state, *arguments))
        return
    on_meta = pytree.tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, arguments)
    try:
        with _RejectSyncs(), _RejectHostData():
            _forward_and_backward(op, on_meta)
        mode = torch._subclasses.FakeTensorMode()
        fake = pytree.tree_map(lambda leaf: mode.from_tensor(leaf) if isinstance(leaf, Tensor) else leaf, arguments)
        with mode:
            _forward_and_backward(op, fake)
    except HostSyncError:
        raise
    except Exception as error:
        held = f"; {_HELD}" if "meta" in str(error) and "device" in str(error) else ""
        raise HostSyncError(f"{type(error).__name__}: {error}{held}") from error
