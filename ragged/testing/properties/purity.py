"""Checker: an operation leaves alone what it is given, and what it gave before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of, map_samples
from ragged.testing.outcome import EXACT, Tolerance, assert_same, evaluate


def assert_pure(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """The operation writes into none of its arguments, filler included, and each call depends on its arguments alone.

    It is called, called for other samples, and called again: the last result must be that of the first call, which
    must still hold what it held.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.
        rtol, atol: How far the results of two calls may differ; by default by what is usual for their dtype.

    Raises:
        PropertyViolation: With the argument or the result that changed, the position, and both values.
    """
    batch_shape = batch_shape_of(arguments)
    given = {"argument": _copied(list(arguments)), "shared argument": _copied(list(shared))}
    named = _tensors_by_name(given)
    before = {name: tensor.clone() for name, tensor in named.items()}
    options: dict[str, Any] = {"batch_shape": batch_shape, "gradients": False}

    def call(values: Any) -> dict[str, Any]:
        return evaluate(op, values, shared=given["shared argument"], **options)

    def check(found: Any, expected: Any, claim: str, tolerance: Tolerance) -> None:
        assert_same(found, expected, claim=claim, arguments=arguments, batch_shape=batch_shape, tolerance=tolerance)

    first = call(given["argument"])
    held = _copied(first)
    check(named, before, "purity (an argument, after the call)", EXACT)
    call(map_samples(_turned(len(batch_shape)), given["argument"]))
    check(first, held, "purity (a result, after another call)", EXACT)
    check(call(given["argument"]), held, "purity (second call, then first)", Tolerance(rtol, atol))


def _turned(batch_dims: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.flip(tuple(range(batch_dims)))


def _copied(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, tree)


def _tensors_by_name(given: dict[str, list[Any]]) -> dict[str, Tensor]:
    """All tensors, those of ragged batches one by one: a mask must not be written into either."""
    return {
        f"{what} {place}{pytree.keystr(path)}": leaf
        for what, values in given.items()
        for place, value in enumerate(values)
        for path, leaf in pytree.tree_flatten_with_path(value)[0]
        if isinstance(leaf, torch.Tensor)
    }
