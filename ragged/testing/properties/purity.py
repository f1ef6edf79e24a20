"""Checkers: an operation leaves alone what it is given, what it gave before, and everybody's random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of, map_samples
from ragged.testing.differences import EXACT, Tolerance, assert_same
from ragged.testing.outcome import evaluate, named_results
from ragged.testing.probes import copied, map_data
from ragged.testing.violation import PropertyViolation, violation


def assert_pure(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """The operation writes into none of its arguments, filler included, and each call depends on its arguments alone.

    It is called, called for other samples, and called again: the last result must be that of the first call, which
    must still hold what it held. Containers must keep their items, batches their data, mask and sizes. A module must
    keep its buffers and parameters; torch its default dtype, and whether it records gradients.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.
        rtol, atol: How far the results of two calls may differ; by default by what is usual for their dtype.

    Raises:
        PropertyViolation: With the argument or the result that changed, the position, and both values.
    """
    batch_shape = batch_shape_of(arguments)
    given = {"argument": copied(list(arguments)), "shared argument": copied(list(shared))}
    before = {name: tensor.clone() for name, tensor in _tensors_by_name(given).items()}
    held_by_op, settings = _state_of(op), _settings()

    def call(values: Any) -> dict[str, Any]:
        try:
            # These very containers: an operation may take items out of them.
            result = op(*values, *given["shared argument"])
            now = _settings()
        finally:
            torch.set_default_dtype(settings["the default dtype"])
            torch.set_grad_enabled(settings["whether gradients are recorded"])
        for name in settings:
            if now[name] != settings[name]:
                problem = f"{name} is {now[name]} after the call, was {settings[name]}"
                raise violation("purity", problem, arguments, shared)
        return {
            name: leaf.detach() if hasattr(leaf, "detach") else leaf for name, leaf in named_results(result).items()
        }

    def check(found: Any, expected: Any, claim: str, tolerance: Tolerance) -> None:
        options: dict[str, Any] = {"arguments": arguments, "batch_shape": batch_shape, "shared": shared}
        assert_same(found, expected, claim=claim, tolerance=tolerance, **options)

    first = call(given["argument"])
    held = copied(first)
    check(_tensors_by_name(given), before, "purity (an argument, after the call)", EXACT)
    check(_state_of(op), held_by_op, "purity (the module, after the call)", EXACT)
    others = map_samples(_turned(len(batch_shape)), given["argument"])
    try:
        call(map_data(lambda data: data * 0.75 if data.is_floating_point() else data, others))
    except PropertyViolation:
        raise
    except Exception:  # the operation takes no such numbers
        call(others)
    check(first, held, "purity (a result, after another call)", EXACT)
    check(call(given["argument"]), held, "purity (second call, then first)", Tolerance(rtol, atol))


def assert_random_state_kept(op: Callable[..., Any], *arguments: Any, shared: Sequence[Any] = ()) -> None:
    """The operation neither draws from a global generator of torch, NumPy or Python nor seeds one.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.

    Raises:
        PropertyViolation: With the generator, and whether it was drawn from or seeded.
    """
    before = _random_states()
    after = []
    try:
        for step in range(2):
            torch.manual_seed(17 + step)
            random.seed(17 + step)
            np.random.seed(17 + step)  # noqa: NPY002 - the global generator is the point
            start = _random_states()
            given, given_shared = copied(list(arguments)), copied(list(shared))
            evaluate(op, given, shared=given_shared, batch_shape=batch_shape_of(arguments), gradients=False)
            after.append((start, _random_states()))
    finally:
        torch.set_rng_state(before["torch"])
        np.random.set_state(before["NumPy"])  # noqa: NPY002
        random.setstate(before["Python"])
    for name in before:
        (start, end), (other_start, other_end) = ((each[0][name], each[1][name]) for each in after)
        if _same(start, end) and _same(other_start, other_end):
            continue
        problem = f"draws from the global generator of {name}: give it a generator as an argument"
        if _same(end, other_end):
            problem = f"seeds the global generator of {name}: whatever is drawn later repeats itself"
        raise violation("randomness", f"the operation {problem}", arguments, shared)


def _random_states() -> dict[str, Any]:
    return {"torch": torch.get_rng_state(), "NumPy": np.random.get_state(), "Python": random.getstate()}  # noqa: NPY002


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    return bool((one == other).all()) if isinstance(one, (Tensor, np.ndarray)) else bool(one == other)


def _settings() -> dict[str, Any]:
    return {
        "the default dtype": torch.get_default_dtype(),
        "whether gradients are recorded": torch.is_grad_enabled(),
    }


def _state_of(op: Any) -> dict[str, Tensor]:
    """Buffers and parameters of a module, which is all that can be looked at."""
    if not isinstance(op, nn.Module):
        return {}
    named = [("buffer", op.named_buffers()), ("parameter", op.named_parameters())]
    return {f"its {what} {name}": each.detach().clone() for what, pairs in named for name, each in pairs}


def _turned(batch_dims: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.flip(tuple(range(batch_dims)))


def _tensors_by_name(given: dict[str, list[Any]]) -> dict[str, Tensor]:
    """All tensors, those of ragged batches one by one: a mask must not be written into either."""
    return {
        f"{what} {place}{pytree.keystr(path)}": leaf
        for what, values in given.items()
        for place, value in enumerate(values)
        for path, leaf in pytree.tree_flatten_with_path(value)[0]
        if isinstance(leaf, torch.Tensor)
    }
