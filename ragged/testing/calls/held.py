"""Tensors that an operation holds, in a closure or as a global, which no checker can change along."""

from __future__ import annotations

from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import Tensor

from ragged.testing.arguments import Position, is_batch


def held_tensors(op: Any) -> dict[str, Tensor]:
    """By name: of closures, defaults, globals that its body names, and arguments of partials."""
    if isinstance(op, partial):
        given = {f"argument {place}": value for place, value in enumerate(op.args)} | op.keywords
        return held_tensors(op.func) | _tensors(given)
    if isinstance(op, MethodType):
        return held_tensors(op.__func__)
    if not isinstance(op, FunctionType):
        return {}
    names, body = op.__globals__, op.__code__
    known = {name: names[name] for name in _names_of(body) if name in names}
    for name, cell in zip(body.co_freevars, op.__closure__ or (), strict=True):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return _tensors(known | dict(enumerate(op.__defaults__ or ())) | (op.__kwdefaults__ or {}))


def hint_of_held(op: Any, batch_shape: Position) -> str:
    """What to do with a tensor that the operation holds, if that may be why a property fails; empty otherwise."""
    count = len(batch_shape)
    for name, tensor in held_tensors(op).items():
        shape = tuple(tensor.shape)
        if count and shape[:count] == batch_shape:
            problem = f"of shape {shape}, as if it had a part for each sample: pass it as an argument"
        elif tensor.requires_grad:
            problem = f"of shape {shape}, which requires a gradient: pass it in shared="
        else:
            continue
        return f"; the operation holds a tensor {name!r} {problem}, for what it holds does not change along"
    return ""


def _names_of(body: CodeType) -> set[str]:
    """Those that the body, or a function made in it, looks up among globals and attributes."""
    inner = [_names_of(each) for each in body.co_consts if isinstance(each, CodeType)]
    return set(body.co_names).union(*inner)


def _tensors(values: dict[Any, Any]) -> dict[str, Tensor]:
    data = {str(name): value.tensor if is_batch(value) else value for name, value in values.items()}
    return {name: value for name, value in data.items() if isinstance(value, Tensor)}
