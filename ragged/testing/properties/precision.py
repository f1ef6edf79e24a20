"""Checker: half precision and autocast give what float32 gives, as far as the dtype can say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of, cast, is_batch
from ragged.testing.outcome import Outcome, Tolerance, assert_same, evaluate, without_shared

HALVES = (torch.float16, torch.bfloat16)


def assert_dtype_stable(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    dtypes: Sequence[torch.dtype] = HALVES,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Half-precision inputs and autocast give the values and gradients of float32, up to rounding of the result.

    Args:
        op, shared: As in ``assert_filler_invariant``; the operation may return either dtype. What is shared keeps its
            dtype, and its gradient is not compared: how a sum over all samples rounds depends on its length.
        arguments: As there. They are rounded to each of ``dtypes`` first, and computed on in it and in float32; an
            operation that decides by comparing (a matcher) then sees the same values twice.
        dtypes: Those to try, as input and under autocast.
        rtol, atol: How far values may differ; by default by 8 units of the dtype's precision.

    Raises:
        PropertyViolation: With the dtype, the first sample and position, and both values.
    """
    batch_shape = batch_shape_of(arguments)
    for dtype in dtypes:
        unit = torch.finfo(dtype).eps
        tolerance = Tolerance(8 * unit if rtol is None else rtol, 8 * unit if atol is None else atol)
        half = cast(list(arguments), dtype)
        full = cast(half, torch.float32)
        expected = evaluate(op, full, shared=shared, batch_shape=batch_shape)
        forms = {f"{dtype} inputs": (half, False), f"autocast to {dtype}": (full, True)}
        for form, (given, enabled) in forms.items():
            device = next((leaf.device.type for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)), "cpu")
            claim = f"precision ({form}, then float32)"
            with torch.autocast(device, dtype=dtype, enabled=enabled):
                found = evaluate(op, given, shared=shared, batch_shape=batch_shape, claim=claim)
            assert_same(
                without_shared(_in_float32(found)),
                without_shared(_in_float32(expected)),
                claim=claim,
                arguments=given,
                batch_shape=batch_shape,
                tolerance=tolerance,
            )


def _in_float32(outcome: Outcome) -> Outcome:
    def change(leaf: Any) -> Any:
        data = leaf.tensor if is_batch(leaf) else leaf
        return leaf.to(torch.float32) if isinstance(data, Tensor) and data.is_floating_point() else leaf

    return {name: change(leaf) for name, leaf in outcome.items()}
