"""Checker: an operation on a batch is a plain function of one sample, applied to every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ragged.testing.arguments import Position, batch_shape_of, has_samples, map_leaves, positions, sample_at
from ragged.testing.differences import Tolerance, assert_same
from ragged.testing.outcome import Outcome, evaluate, is_of_shared, sum_of_shared, without_shared
from ragged.testing.probes import HALVES, data_leaves, nudged
from ragged.testing.violation import PropertyViolation, violation


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
    tolerance = Tolerance(rtol, atol)
    try:
        _compare(op, reference, arguments, shared, gradients, tolerance)
    except PropertyViolation as error:
        if ": gradient of" not in str(error) or not _is_tie(op, reference, arguments, shared, tolerance):
            raise


def _is_tie(op: Callable[..., Any], reference: Callable[..., Any], arguments: Any, shared: Any, by: Tolerance) -> bool:
    """Whether gradients differ for these values alone, as at a tie, where one and the other may be right."""
    try:
        _compare(op, reference, arguments, shared, False, by)
        _compare(op, reference, nudged(arguments), shared, True, by)
    except Exception:
        return False
    return True


def _compare(
    op: Callable[..., Any],
    reference: Callable[..., Any],
    arguments: Any,
    shared: Any,
    gradients: bool,
    tolerance: Tolerance,
) -> None:
    batch_shape = batch_shape_of(arguments)
    whole = evaluate(op, arguments, shared=shared, batch_shape=batch_shape, gradients=gradients)
    together = without_shared(whole)
    of_samples = []
    for position in positions(batch_shape):
        sample = map_leaves(partial(sample_at, position=position, batch_shape=batch_shape), list(arguments))
        of_sample = evaluate(reference, sample, shared=shared, gradients=gradients, what="reference")
        of_samples.append(of_sample)
        expected = without_shared(of_sample)
        mixed = [name for name, leaf in together.items() if leaf is not None and not has_samples(leaf, batch_shape)]
        if mixed:
            raise violation("reference", f"{mixed[0]} does not begin with the batch shape", arguments, shared)
        found = {
            name: leaf if leaf is None else sample_at(leaf, position, batch_shape) for name, leaf in together.items()
        }
        found = _without_needless_gradients(found, expected)
        _check_gradients_are_there(found, expected, reference)
        claim = f"reference (sample {position}; first the operation, then the reference)"
        _check_dtypes(found, expected, claim, sample, (arguments, shared))
        assert_same(
            found,
            {name: _like(leaf, found.get(name)) for name, leaf in expected.items()},
            claim=claim,
            arguments=arguments,
            batch_shape=(),
            tolerance=tolerance,
            shared=shared,
        )
    _check_shared(whole, sum_of_shared(of_samples), reference, arguments, shared, tolerance)


def compare_with_reference(
    op: Callable[..., Any],
    reference: Callable[..., Any],
    arguments: Any,
    shared: Any,
    claim: str,
    *,
    only: Position | None = None,
    floats_alone: bool = False,
) -> None:
    """Values of changed arguments against the reference: those that it takes.

    NaN and Inf count as the same: which of them comes out depends on the order of a computation.

    Args:
        op, reference, arguments, shared: As in ``assert_matches_per_sample``.
        claim: Of the violation.
        only: The sample to compare; by default all.
        floats_alone: Compare no whole numbers.
    """
    batch_shape = batch_shape_of(arguments)
    options: dict[str, Any] = {"shared": shared, "gradients": False}
    expected, compared = [], list(positions(batch_shape)) if only is None else [only]
    for position in compared:
        sample = map_leaves(partial(sample_at, position=position, batch_shape=batch_shape), list(arguments))
        try:
            expected.append(evaluate(reference, sample, what="reference", **options))
        except Exception:  # the reference takes no such values
            return
    whole = evaluate(op, arguments, batch_shape=batch_shape, claim=claim, **options)
    for position, other in zip(compared, expected, strict=True):
        found = {name: leaf if leaf is None else sample_at(leaf, position, batch_shape) for name, leaf in whole.items()}
        kept = [name for name in found if name in other and not (floats_alone and _is_whole(found[name]))]
        assert_same(
            {name: _finite_or_nan(found[name]) for name in kept},
            {name: _finite_or_nan(_like(other[name], found[name])) for name in kept},
            claim=f"{claim}; sample {position}",
            arguments=arguments,
            batch_shape=(),
            tolerance=Tolerance(),
            shared=shared,
        )


def _is_whole(leaf: Any) -> bool:
    return not isinstance(leaf, Tensor) or not (leaf.is_floating_point() or leaf.is_complex())


def _finite_or_nan(leaf: Any) -> Any:
    return torch.where(leaf.isfinite(), leaf, torch.nan) if not _is_whole(leaf) else leaf


def _check_dtypes(found: Outcome, expected: Outcome, claim: str, sample: Any, given: tuple[Any, Any]) -> None:
    """The dtype of a result is that of the reference, which may compute in more, or in half precision."""
    leaves = data_leaves(sample)
    if not any(leaf.numel() for leaf in leaves):  # what stands for an empty sample is often of the default dtype
        return
    for name, leaf in found.items():
        other = expected.get(name)
        if name.startswith("gradient of") or not (isinstance(leaf, Tensor) and isinstance(other, Tensor)):
            continue
        one, two = leaf.dtype, other.dtype
        is_wide = two in (torch.float64, torch.complex128) and not any(each.dtype == two for each in leaves)
        computed_in_half = two in HALVES and one is torch.float32
        alike = (one.is_floating_point, one.is_complex) == (two.is_floating_point, two.is_complex)
        if one != two and not (alike and (is_wide or computed_in_half)):
            raise violation(claim, f"{name} has dtype {one}, expected {two}", *given)


def _check_shared(
    whole: Outcome,
    expected: Outcome,
    reference: Callable[..., Any],
    arguments: Any,
    shared: Any,
    tolerance: Tolerance,
) -> None:
    """The gradient of a shared argument is the sum of those that the samples have."""
    found = {name: leaf for name, leaf in whole.items() if is_of_shared(name)}
    needed = {name: leaf for name, leaf in found.items() if leaf is not None and leaf.any()}
    _check_gradients_are_there(needed, {name: leaf for name, leaf in expected.items() if leaf is not None}, reference)
    expected = {name: _like(expected.get(name), leaf) for name, leaf in needed.items()}
    claim = "reference (all samples; first the operation, then the sum of the reference)"
    options: dict[str, Any] = {"arguments": arguments, "batch_shape": (), "shared": shared}
    assert_same(needed, expected, claim=claim, tolerance=tolerance, **options)


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
