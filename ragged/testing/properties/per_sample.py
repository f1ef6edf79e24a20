"""Checker: an operation on a batch is a plain function of one sample, applied to every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ragged.testing.arguments import batch_shape_of, has_samples, map_leaves, positions, sample_at
from ragged.testing.outcome import (
    Outcome,
    Tolerance,
    assert_same,
    evaluate,
    is_of_shared,
    sum_of_shared,
    violation,
    without_shared,
)


def assert_matches_per_sample(
    op: Callable[..., Any],
    reference: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    gradients: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """The operation gives each sample what ``reference`` gives for it, values and gradients.

    Args:
        op: The operation, called as ``op(*arguments, *shared)``.
        reference: The same for one sample: called with ``(n, …)`` tensors without padding in place of ragged batches,
            and with tensors without batch dimensions. Containers keep their form. What it returns is compared with the
            sample's part of the result; numbers may stand for tensors.
        arguments, shared: As in ``assert_filler_invariant``.
        gradients: Also compare gradients; False for a reference that torch cannot differentiate.
        rtol, atol: How far values may differ; by default by what is usual for the dtype of the result.

    Raises:
        PropertyViolation: With the sample, the position, and both values.
        ValueError: Gradients are asked for, but the reference has none.

    >>> from ragged import RaggedBatch, sum_over_targets
    >>> batch = RaggedBatch(torch.rand(2, 3), sample_sizes=[3, 1])
    >>> assert_matches_per_sample(sum_over_targets, lambda sample: sample.sum(0), batch)
    """
    batch_shape = batch_shape_of(arguments)
    whole = evaluate(op, arguments, shared=shared, batch_shape=batch_shape, gradients=gradients)
    together, tolerance = without_shared(whole), Tolerance(rtol, atol)
    of_samples = []
    for position in positions(batch_shape):
        sample = map_leaves(partial(sample_at, position=position, batch_shape=batch_shape), list(arguments))
        of_sample = evaluate(reference, sample, shared=shared, gradients=gradients)
        of_samples.append(of_sample)
        expected = without_shared(of_sample)
        found = {
            name: leaf if leaf is None else sample_at(leaf, position, batch_shape) for name, leaf in together.items()
        }
        found = _without_needless_gradients(found, expected)
        _check_gradients_are_there(found, expected, reference)
        mixed = [name for name, leaf in together.items() if leaf is not None and not has_samples(leaf, batch_shape)]
        if mixed:
            raise violation("per-sample reference", f"{mixed[0]} does not begin with the batch shape", arguments)
        assert_same(
            found,
            {name: _like(leaf, found.get(name)) for name, leaf in expected.items()},
            claim=f"per-sample reference (sample {position}; first the operation, then the reference)",
            arguments=arguments,
            batch_shape=(),
            tolerance=tolerance,
        )
    _check_shared(whole, sum_of_shared(of_samples), reference, arguments, tolerance)


def _check_shared(
    whole: Outcome, expected: Outcome, reference: Callable[..., Any], arguments: Any, tolerance: Tolerance
) -> None:
    """The gradient of a shared argument is the sum of those that the samples have."""
    found = {name: leaf for name, leaf in whole.items() if is_of_shared(name)}
    needed = {name: leaf for name, leaf in found.items() if leaf is not None and leaf.any()}
    _check_gradients_are_there(needed, {name: leaf for name, leaf in expected.items() if leaf is not None}, reference)
    expected = {name: _like(expected.get(name), leaf) for name, leaf in needed.items()}
    claim = "per-sample reference (all samples; first the operation, then the sum of the reference)"
    assert_same(needed, expected, claim=claim, arguments=arguments, batch_shape=(), tolerance=tolerance)


def _without_needless_gradients(found: Outcome, expected: Outcome) -> Outcome:
    """A sample that the reference looks at no entry of has no gradient there; zeros say the same."""

    kept = {}
    for name, leaf in found.items():
        needless = name.startswith("gradient of") and expected.get(name) is None and (leaf is None or not leaf.any())
        if not needless:
            kept[name] = leaf
        elif name in expected:
            kept[name] = None
    return kept


def _check_gradients_are_there(found: Outcome, expected: Outcome, reference: Callable[..., Any]) -> None:
    missing = [name for name in found if name.startswith("gradient of") and name not in expected]
    if missing:
        name = getattr(reference, "__name__", type(reference).__name__)
        raise ValueError(f"{name} gives no {missing[0]}; to compare values alone, say gradients=False")


def _like(value: Any, found: Any) -> Any:
    """A number, or a tensor of another precision, in the form of what it is compared with."""
    if value is None or not isinstance(found, Tensor):
        return value
    return torch.as_tensor(value).to(found.dtype)
