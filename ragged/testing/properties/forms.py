"""Checkers: other forms of the same values in memory, batches without samples or entries, and entries of 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ragged.testing.arguments import (
    Position,
    batch_shape_of,
    cast,
    emptied,
    has_samples,
    is_batch,
    map_leaves,
    map_samples,
    positions,
    refill,
    trimmed,
)
from ragged.testing.differences import Tolerance, assert_same, assert_same_samples, place_of
from ragged.testing.outcome import Outcome, evaluate
from ragged.testing.probes import Probe, floating, largest_sample, with_entry
from ragged.testing.properties.per_sample import compare_with_reference
from ragged.testing.violation import NotCheckable, violation


def assert_layout_invariant(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """How data lie in memory changes nothing: with dimensions in another order, or in every second place of a buffer.

    Arguments and errors are as in ``assert_padding_invariant``. The code of a violation has contiguous data: the
    checker makes the other layouts of them.
    """
    batch_shape = batch_shape_of(arguments)
    forms = {"dimensions in another order in memory": _transposed, "every second place of a buffer": _spread}
    for form, change in forms.items():
        changed = [_in_layout(each, change) for each in arguments]
        changed_shared = [_in_layout(each, change) for each in shared]
        # A copy that records a gradient would be contiguous again.
        options: dict[str, Any] = {"batch_shape": batch_shape, "gradients": change is _transposed}
        claim = f"layout ({form})"
        assert_same(
            evaluate(op, changed, shared=changed_shared, claim=claim, **options),
            evaluate(op, arguments, shared=shared, **options),
            claim=claim,
            arguments=arguments,
            batch_shape=batch_shape,
            tolerance=Tolerance(rtol, atol),
            shared=shared,
        )


def _in_layout(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    def one(leaf: Any) -> Any:
        if is_batch(leaf):
            return leaf.create_with_sample_sizes_like_self(change(leaf.tensor.detach()))
        return change(leaf.detach()) if isinstance(leaf, Tensor) else leaf

    return map_leaves(one, tree)


def _transposed(tensor: Tensor) -> Tensor:
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


def _spread(tensor: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(tensor), tensor], -1)[..., 1]


def assert_empty_batches(
    op: Callable[..., Any], *arguments: Any, shared: Sequence[Any] = (), contained: bool = True
) -> None:
    """Batches without a sample, and samples without an entry, give results of the usual kind.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.
        contained: Samples do not depend on each other: an empty one changes no other.

    Raises:
        PropertyViolation: With the error of the operation, or the result of another type, dtype or shape.
        NotCheckable: The operation raises an error, and takes integers for each sample, which may be indices.
    """
    batch_shape = batch_shape_of(arguments)
    usual = evaluate(op, arguments, shared=shared, batch_shape=batch_shape)
    none = map_samples(lambda tensor: tensor.narrow(0, 0, 0), arguments, batch_shape)
    no_entry = emptied(arguments, first_only=False)
    forms = {
        "no sample has an entry": (refill(no_entry, "nan"), batch_shape),
        "no sample has an entry, and no padding": (trimmed(no_entry), batch_shape),
        "no sample in the batch": (none, (0, *batch_shape[1:])),
    }
    for form, (changed, shape) in forms.items():
        found = _evaluated(op, changed, shared, shape, f"empty ({form})")
        _assert_same_kind(found, usual, f"empty ({form})", (batch_shape, shape), changed, shared)
    first = refill(emptied(arguments, first_only=True), "nan")
    found = _evaluated(op, first, shared, batch_shape, "empty (the first sample)")
    others = list(positions(batch_shape))[1:4] if contained else []
    change = "empty", "the first sample, then as it was"
    assert_same_samples(found, usual, others, change=change, arguments=first, batch_shape=batch_shape, shared=shared)


def _evaluated(op: Callable[..., Any], arguments: Any, shared: Any, batch_shape: Position, claim: str) -> Outcome:
    try:
        return evaluate(op, arguments, shared=shared, batch_shape=batch_shape, claim=claim)
    except AssertionError as error:
        whole: list[bool] = []
        map_leaves(lambda leaf: whole.append(_may_be_index(leaf)), list(arguments))
        if any(whole) and error.__cause__ is not None:
            raise NotCheckable(f"of integers, which may be indices, {error.__cause__}") from error
        raise


def _may_be_index(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.dtype in (torch.int64, torch.int32)


def _assert_same_kind(
    found: Outcome, usual: Outcome, claim: str, shapes: tuple[Position, Position], arguments: Any, shared: Any
) -> None:
    batch_shape, shape = shapes
    results = [{name: leaf for name, leaf in each.items() if name.startswith("result")} for each in (found, usual)]
    if results[0].keys() != results[1].keys():
        problem = f"there are {', '.join(results[0])}, expected {', '.join(results[1])}"
        raise violation(claim, problem, arguments, shared)
    for name, leaf in results[0].items():
        other = results[1][name]
        if type(leaf) is not type(other):
            problem = f"is a {type(leaf).__name__}, expected a {type(other).__name__}"
        elif not (is_batch(leaf) or isinstance(leaf, Tensor)):
            continue
        elif leaf.dtype != other.dtype:
            problem = f"has dtype {leaf.dtype}, expected {other.dtype}"
        elif leaf.dim() != other.dim():
            problem = f"has {leaf.dim()} dimensions, expected {other.dim()}"
        elif has_samples(other, batch_shape) and tuple(leaf.shape[: len(shape)]) != shape:
            problem = f"has shape {tuple(leaf.shape)}, expected it to begin with the batch shape {shape}"
        else:
            continue
        raise violation(claim, f"{name} {problem}", arguments, shared)


def assert_zeros_are_entries(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    reference: Callable[..., Any] | None = None,
) -> None:
    """An entry of 0 counts as any other: it is not taken for filler.

    Results for an entry of 0 are between those for the smallest numbers above and below, where these two agree.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.
        reference: As in ``assert_matches_per_sample``; values are compared with it, too.

    Raises:
        PropertyViolation: With the sample and position, and both values.
        NotCheckable: No sample has two entries of floating numbers, or the operation takes no such values.
    """
    position, size = largest_sample(arguments)
    if size < 2 or not floating(arguments):
        raise NotCheckable("no sample has two entries of floating numbers")
    batch_shape = batch_shape_of(arguments)
    given, given_shared = cast(list(arguments), torch.float64), cast(list(shared), torch.float64)
    forms = [with_entry(given, Probe(position, size - 1, value)) for value in (0.0, 1e-9, -1e-9)]
    try:
        outcomes = [evaluate(op, form, shared=given_shared, batch_shape=batch_shape, gradients=False) for form in forms]
    except Exception as error:
        raise NotCheckable(f"with an entry of 0, {type(error).__name__}: {error}") from error
    for name, leaf in outcomes[0].items():
        values = [_numbers(each.get(name)) for each in outcomes]
        if any(each is None or each.shape != values[0].shape for each in values):
            continue
        at, above, below = values
        size_of = 1e-6 + above.abs()
        wrong = ((above - below).abs() < 1e-4 * size_of) & ((at - above).abs() > 1e-2 * size_of) & at.isfinite()
        if wrong.any():
            first = tuple(wrong.nonzero()[0].tolist())
            where = place_of(first, len(batch_shape) if has_samples(leaf, batch_shape) else 0)
            problem = (
                f"{name} {where}is {at[first].item()} for an entry of 0, expected {above[first].item()} as for 1e-9"
            )
            raise violation("zeros (is it taken for filler?)", problem, forms[0], given_shared)
    if reference is not None:
        zero = with_entry(arguments, Probe(position, size - 1, 0.0))
        compare_with_reference(op, reference, zero, shared, "zeros (an entry of 0, against the reference)")


def _numbers(leaf: Any) -> Any:
    if is_batch(leaf):
        leaf = torch.where(leaf.aligned_mask, leaf.tensor, 0)
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else None
