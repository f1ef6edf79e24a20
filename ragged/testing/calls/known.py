"""What earlier examples of a property test have shown of an operation already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ragged.testing.arguments import is_batch


def key_of(op: Any) -> Any:
    """What is the same for a function that each example makes again."""
    if isinstance(op, partial):
        return (key_of(op.func), *map(key_of, op.args), *((name, key_of(op.keywords[name])) for name in op.keywords))
    if isinstance(op, FunctionType):
        held = op.__closure__ or ()
        return (op.__code__, *(key_of(cell.cell_contents) for cell in held))
    if isinstance(op, (int, float, str, bytes, type(None))):
        return op
    if isinstance(op, MethodType):
        return op.__func__.__code__, key_of(op.__self__)
    if isinstance(op, BuiltinFunctionType):
        return op
    return type(op), repr(op) if isinstance(op, nn.Module) else None


def once_for_each_kind(check: Callable[..., None], op: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Check what depends on dimensions, kinds of numbers and empty tensors alone, unless such an example has passed.

    One that fails is not remembered, so that hypothesis finds it again.
    """
    leaves, structure = pytree.tree_flatten(list(arguments), is_leaf=is_batch)
    kinds = [
        (tuple(bool(size) for size in data.shape), data.is_floating_point(), getattr(leaf, "non_uniform_dim", None))
        for leaf in leaves
        if isinstance(data := leaf.tensor if is_batch(leaf) else leaf, Tensor)
    ]
    key = (key_of(op), str(structure), *kinds)
    if key in _PASSED:
        return
    check(op, *arguments)
    _PASSED.add(key)


_PASSED: set[Any] = set()
