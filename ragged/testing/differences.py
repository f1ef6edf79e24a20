"""The comparison of two outcomes of an operation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import Position, has_samples, is_batch
from ragged.testing.outcome import Outcome, is_of_shared, of_sample, without_shared
from ragged.testing.violation import violation
from ragged.values.checks import sample_name


class Tolerance(NamedTuple):
    """How far values may differ; None means what is usual for the dtype."""

    rtol: float | None = None
    atol: float | None = None

    def of(self, dtype: torch.dtype) -> tuple[float, float]:
        """Relative and absolute tolerance for a dtype."""
        usual = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float64: (1e-7, 1e-7)}
        rtol, atol = usual.get(dtype, (1.3e-6, 1e-5) if dtype.is_floating_point or dtype.is_complex else (0.0, 0.0))
        return rtol if self.rtol is None else self.rtol, atol if self.atol is None else self.atol


EXACT = Tolerance(0.0, 0.0)


def assert_same(
    found: Outcome,
    expected: Outcome,
    *,
    claim: str,
    arguments: Any,
    batch_shape: Position,
    tolerance: Tolerance,
    shared: Any = (),
) -> None:
    """Raise ``PropertyViolation`` unless both outcomes are the same; filler does not count."""
    problem = first_difference(found, expected, batch_shape, tolerance)
    if problem is not None:
        raise violation(claim, problem, arguments, shared)


def assert_same_samples(
    found: Outcome,
    expected: Outcome,
    samples: Iterable[Position],
    *,
    change: tuple[str, str],
    arguments: Any,
    batch_shape: Position,
    shared: Any = (),
) -> None:
    """``assert_same`` of some samples, each by itself; ``change`` is a property, and how the arguments differ."""
    for position in samples:
        assert_same(
            without_shared(of_sample(found, position, batch_shape)),
            without_shared(of_sample(expected, position, batch_shape)),
            claim=f"{change[0]} ({change[1]}; sample {position} of the results)",
            arguments=arguments,
            batch_shape=(1,) * len(batch_shape),
            tolerance=Tolerance(),
            shared=shared,
        )


def first_difference(found: Outcome, expected: Outcome, batch_shape: Position, tolerance: Tolerance) -> str | None:
    """The first difference of two outcomes in words, or None. A gradient without entries may be missing."""
    found, expected = _with_needed_gradients(found), _with_needed_gradients(expected)
    if found.keys() != expected.keys():
        return f"there are {', '.join(found) or 'no results'}, expected {', '.join(expected) or 'none'}"
    for name, one in found.items():
        problem = _difference(one, expected[name], () if is_of_shared(name) else batch_shape, tolerance)
        if problem is not None:
            return f"{name} {problem}"
    return None


def _with_needed_gradients(outcome: Outcome) -> Outcome:
    def is_needless(leaf: Any) -> bool:
        return leaf is None or _data(leaf).numel() == 0 or (is_batch(leaf) and not leaf.sample_sizes.any())

    return {name: leaf for name, leaf in outcome.items() if not (name.startswith("gradient of") and is_needless(leaf))}


def _data(leaf: Any) -> Any:
    return leaf.tensor if is_batch(leaf) else leaf


def _difference(one: Any, other: Any, batch_shape: Position, tolerance: Tolerance) -> str | None:
    if is_batch(one) and is_batch(other):
        return _difference_of_batches(one, other, tolerance)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        dims = len(batch_shape) if has_samples(one, batch_shape) else 0
        return _difference_of_tensors(one, other, None, dims, tolerance)
    if isinstance(one, (Tensor, RaggedBatch)) or isinstance(other, (Tensor, RaggedBatch)) or one != other:
        return f"is {_shortly(one)}, expected {_shortly(other)}"
    return None


def _difference_of_batches(one: RaggedBatch, other: RaggedBatch, tolerance: Tolerance) -> str | None:
    sizes = _difference_of_tensors(one.sample_sizes, other.sample_sizes, None, one.num_batch_dims, EXACT)
    if sizes is not None:
        return f"has other sample sizes: {sizes}"
    if one.ragged_axis != other.ragged_axis:
        return f"is ragged along dimension {one.non_uniform_dim}, expected {other.non_uniform_dim}"
    width = min(one.max_sample_size, other.max_sample_size)  # every entry lies below it, for sizes are the same
    one, other = (batch.with_max_sample_size(width) for batch in (one, other))
    mask = one.aligned_mask.expand(one.shape) if one.dim() == other.dim() else None
    return _difference_of_tensors(one.tensor, other.tensor, mask, one.num_batch_dims, tolerance)


def _difference_of_tensors(
    one: Tensor, other: Tensor, mask: Tensor | None, batch_dims: int, tolerance: Tolerance
) -> str | None:
    if one.shape != other.shape:
        return f"has shape {tuple(one.shape)}, expected {tuple(other.shape)}"
    if one.dtype != other.dtype:
        return f"has dtype {one.dtype}, expected {other.dtype}"
    rtol, atol = tolerance.of(one.dtype)
    differs = ~torch.isclose(one, other, rtol=rtol, atol=atol, equal_nan=True)
    differs = differs if mask is None else differs & mask
    if not differs.any():
        return None
    at = tuple(differs.nonzero()[0].tolist())
    return f"{place_of(at, batch_dims)}is {one[at].item()}, expected {other[at].item()}"


def place_of(at: tuple[int, ...], batch_dims: int) -> str:
    """An index of a tensor in words: the sample, and the position in it."""
    where = f"of {sample_name(at[:batch_dims])} " if batch_dims else ""
    return where + (f"at position {at[batch_dims:]} " if at[batch_dims:] else "")


def _shortly(value: Any) -> str:
    if isinstance(value, (Tensor, RaggedBatch)):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    return repr(value)
