"""Checker: half precision, float64 and autocast give what float32 gives, as far as the dtype can say."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import Position, batch_shape_of, cast, is_batch, positions, refill, take
from ragged.testing.differences import Tolerance, assert_same, first_difference
from ragged.testing.outcome import Outcome, evaluate, without_shared
from ragged.testing.probes import HALVES, floating, map_data, nudged
from ragged.testing.violation import NotCheckable, PropertyViolation, violation

# The largest number of the arguments: its exponential is infinite in float16, a few squares are not.
_LARGEST = 80.0
_MOST = 60000.0
# What makes infinities of numbers that are too large. A logarithm or a quotient makes them of 0.
_OVERFLOWING = {"add", "addmm", "bmm", "cosh", "cumprod", "cumsum", "exp", "exp2", "expm1", "mean", "mm", "mul"}
_OVERFLOWING |= {"baddbmm", "pow", "prod", "sinh", "square", "sub", "sum", "var"}
# The words of torch for what a device has no half precision for.
NO_KERNEL = re.compile("not implemented for '(Half|BFloat16)'")


def assert_dtype_stable(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    dtypes: Sequence[torch.dtype] = HALVES,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Half-precision inputs and autocast give the values and gradients of float32, up to rounding of the result.

    Values must also be those of float64, which must come out as float64 where they have a gradient; and nothing in
    between may overflow float16 where the result does not: arguments are made larger for that, up to 80.

    Args:
        op, shared: As in ``assert_filler_invariant``; the operation may return either dtype. What is shared keeps its
            dtype, and its gradient is not compared: how a sum over all samples rounds depends on its length.
        arguments: As there. They are rounded to each of ``dtypes`` first, and computed on in it and in float32; an
            operation that decides by comparing (a matcher) then sees the same values twice. Where a change by as much
            as the dtype rounds decides otherwise, nothing is compared.
        dtypes: Those to try, as input and under autocast.
        rtol, atol: How far values may differ; by default by 8 units of the dtype's precision.

    Raises:
        PropertyViolation: With the dtype, the first sample and position, and both values.
        NotCheckable: There are no floating numbers.
    """
    batch_shape = batch_shape_of(arguments)
    if not floating(arguments):
        raise NotCheckable("there are no floating numbers")
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
            try:
                with torch.autocast(device, dtype=dtype, enabled=enabled):
                    found = evaluate(op, given, shared=shared, batch_shape=batch_shape, claim=claim)
            except PropertyViolation as error:
                if NO_KERNEL.search(str(error)):
                    continue
                raise
            try:
                assert_same(
                    without_shared(_in_float32(found)),
                    without_shared(_in_float32(expected)),
                    claim=claim,
                    arguments=given,
                    batch_shape=batch_shape,
                    tolerance=tolerance,
                    shared=shared,
                )
            except PropertyViolation:
                if _is_near(without_shared(found), without_shared(expected), full, batch_shape, 8 * unit):
                    continue
                if not _decides_otherwise(op, full, shared, expected, unit):
                    raise
                # A tie in one sample excuses no other one.
                if math.prod(batch_shape) > 1:
                    for position in positions(batch_shape):
                        alone = take(arguments, position, batch_shape)
                        assert_dtype_stable(op, *alone, shared=shared, dtypes=(dtype,), rtol=rtol, atol=atol)
        if dtype is torch.float16:
            _assert_no_overflow(op, half, shared, batch_shape)
    _assert_float64(op, arguments, shared, batch_shape)


def _is_near(found: Outcome, expected: Outcome, arguments: Any, batch_shape: Position, unit: float) -> bool:
    """Whether gradients alone differ, by no more than they round: a quotient of results and arguments has their size.

    The gradient of what does not change along a direction, such as a norm, is a difference of two such numbers.
    """
    results = [name for name in expected if not name.startswith("gradient of")]
    values = [each[each.isfinite()].abs() for each in floating([expected[name] for name in results])]
    given = [each[each.isfinite() & (each != 0)].abs() for each in floating(refill(arguments, "zeros"))]
    largest = max((float(each.max()) for each in values if each.numel()), default=0.0)
    least = min((float(each.min()) for each in given if each.numel()), default=1.0)
    by_part = {"": (results, unit), "gradient": (expected.keys() - set(results), unit * max(1.0, largest / least))}
    return found.keys() == expected.keys() and all(
        first_difference(
            _in_float32({name: found[name] for name in names}),
            _in_float32({name: expected[name] for name in names}),
            batch_shape,
            Tolerance(unit, atol),
        )
        is None
        for names, atol in by_part.values()
    )


def _decides_otherwise(op: Callable[..., Any], arguments: Any, shared: Any, usual: Outcome, unit: float) -> bool:
    """Whether values as near as the dtype rounds give altogether different results, as at a tie.

    Whole numbers may change after a few roundings; what is continuous changes by no more than that.
    """
    batch_shape = batch_shape_of(arguments)
    whole = {name for name, leaf in usual.items() if not name.startswith("gradient of") and not floating([leaf])}
    for seed in range(6):
        units, names = (8, whole) if seed % 2 else (2, usual.keys())
        near = nudged(arguments, units * unit, seed, both_ways=True)
        try:
            found = evaluate(op, near, shared=shared, batch_shape=batch_shape)
            known = ({name: leaf for name, leaf in each.items() if name in names} for each in (found, usual))
            one, other = map(without_shared, known)
        except Exception:
            return True
        if first_difference(one, other, batch_shape, Tolerance(32 * unit, 32 * unit)) is not None:
            return True
    return False


class _FirstInfinity(TorchDispatchMode):
    """The name of the first function that makes an infinity of finite float16 numbers that are too large for it."""

    name: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name in _OVERFLOWING and self.name is None and _is_infinite(result) and not _is_infinite((args, kwargs)):
            self.name = name
        return result


def _is_infinite(tree: Any) -> bool:
    tensors = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
    return any(each.dtype is torch.float16 and bool(each.isinf().any()) for each in tensors)


def _assert_no_overflow(op: Callable[..., Any], arguments: Any, shared: Any, batch_shape: Position) -> None:
    """In float16, of arguments whose largest number is so large, nothing overflows but results that must."""
    clean = floating(refill(arguments, "zeros"))
    sizes = [float(each[each.isfinite()].abs().max()) for each in clean if each.isfinite().any()]
    if not sizes or max(sizes) == 0:
        return

    def scaled(tensor: Tensor) -> Tensor:
        return (tensor.float() * (_LARGEST / max(sizes))).half() if tensor.is_floating_point() else tensor

    half = refill(map_data(scaled, arguments), "zeros")
    options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape, "gradients": False}
    watch = _FirstInfinity()
    try:
        expected = evaluate(op, cast(half, torch.float32), **options)
        with watch:
            found = evaluate(op, half, **options)
    except Exception:  # the operation takes no such values
        return
    if watch.name is None:
        return
    pairs = {name: (leaf, expected.get(name)) for name, leaf in found.items()}
    claim = f"precision (overflow in {watch.name} of float16 numbers up to {_LARGEST:.0f}, then float32)"
    assert_same(
        {name: _at_overflow(*pair, shown=pair[0]) for name, pair in pairs.items()},
        {name: _at_overflow(*pair, shown=pair[1]) for name, pair in pairs.items()},
        claim=claim,
        arguments=half,
        batch_shape=batch_shape,
        tolerance=Tolerance(),
        shared=shared,
    )


def _at_overflow(found: Any, expected: Any, *, shown: Any) -> Any:
    """Float32 numbers where one is not finite though the other fits into float16, and zeros elsewhere."""
    one, other, data = (each.tensor if is_batch(each) else each for each in (found, expected, shown))
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return None
    if not one.is_floating_point() or type(found) is not type(expected):
        return None
    kept = torch.where(~one.isfinite() & (other.float().abs() < _MOST), data.float(), 0)
    return shown.create_with_sample_sizes_like_self(kept) if is_batch(shown) else kept


def _assert_float64(op: Callable[..., Any], arguments: Any, shared: Any, batch_shape: Position) -> None:
    """Float64 gives what float32 gives, in float64."""
    single = cast(list(arguments), torch.float32)
    given, given_shared = (cast(list(each), torch.float64) for each in (single, shared))
    expected = evaluate(op, single, shared=cast(list(shared), torch.float32), batch_shape=batch_shape)
    claim = "precision (float64 inputs, then float32)"
    try:
        found = evaluate(op, given, shared=given_shared, batch_shape=batch_shape, claim=claim)
    except PropertyViolation as error:
        if "dtype" in str(error.__cause__):  # a tensor that the operation holds, of which "gradients" speaks
            return
        raise
    has_gradient = any(name.startswith("gradient of") for name in found)
    for name, leaf in found.items():
        usual = expected.get(name)
        narrow = isinstance(leaf, (Tensor, RaggedBatch)) and leaf.dtype is torch.float32
        if narrow and has_gradient and _only_float(found) and getattr(usual, "dtype", None) is torch.float32:
            raise violation(claim, f"{name} has dtype {leaf.dtype}, expected torch.float64", given, given_shared)
    try:
        assert_same(
            without_shared(_in_float32(found)),
            without_shared(_in_float32(expected)),
            claim=claim,
            arguments=given,
            batch_shape=batch_shape,
            tolerance=Tolerance(1e-4, 1e-4),
            shared=given_shared,
        )
    except PropertyViolation:
        if not _decides_otherwise(op, single, shared, expected, 1e-6):
            raise


def _only_float(outcome: Outcome) -> bool:
    """Whether a single result is floating, which then is the one with the gradient."""
    results = [leaf for name, leaf in outcome.items() if name.startswith("result")]
    return sum(leaf.is_floating_point() if isinstance(leaf, Tensor) else is_batch(leaf) for leaf in results) == 1


def _in_float32(outcome: Outcome) -> Outcome:
    def change(leaf: Any) -> Any:
        data = leaf.tensor if is_batch(leaf) else leaf
        return leaf.to(torch.float32) if isinstance(data, Tensor) and data.is_floating_point() else leaf

    return {name: change(leaf) for name, leaf in outcome.items()}
