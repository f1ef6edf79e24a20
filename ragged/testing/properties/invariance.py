"""Checkers: a sample's result depends on the sample alone, not on filler, padding, order, or other samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from ragged.batch.per_entry import with_valid_filler
from ragged.testing.arguments import (
    Position,
    batch_shape_of,
    has_samples,
    in_order,
    is_batch,
    map_batches,
    map_samples,
    named_leaves,
    positions,
    refill,
    reordered,
    take,
    trimmed,
    widened,
)
from ragged.testing.differences import Tolerance, assert_same
from ragged.testing.filler import FILLERS
from ragged.testing.outcome import Outcome, evaluate, is_of_shared, sum_of_shared, without_shared
from ragged.testing.probes import floating, map_floating_batches
from ragged.testing.violation import violation


def assert_filler_invariant(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    fillers: Sequence[str] = FILLERS,
    rtol: float = 0.0,
    atol: float = 0.0,
) -> None:
    """What the filler of the arguments holds changes no value and no gradient, and filler gets no gradient.

    Args:
        op: The operation, called as ``op(*arguments, *shared)``. Its result is any pytree; of a ragged batch the
            entries are compared, of a tensor everything.
        arguments: Ragged batches, tensors with the same leading batch dimensions, and containers of them. An argument
            without any padding is given some.
        shared: Further arguments, which all samples share: anchors, class weights, the weights of a layer. Floating
            ones are differentiated, too: no gradient of theirs depends on filler.
        fillers: Kinds of filler to try, see ``filler_value``.
        rtol, atol: How far values may differ; by default they must be equal.

    Raises:
        PropertyViolation: With the kind of filler, the first sample and position, and both values.

    >>> from ragged import RaggedBatch
    >>> batch = RaggedBatch(torch.ones(2, 3), sample_sizes=[3, 1])
    >>> assert_filler_invariant(lambda batch: batch.tensor.sum(1), batch)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ragged.testing.violation.PropertyViolation: filler ("garbage" filler): result of sample 0 is ...
    ...
    """
    batch_shape = batch_shape_of(arguments)
    options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape}
    arguments = widened(arguments, 1, "zeros")
    outcomes = []
    # An operation may protect what it differentiates alone: weights, too, must be safe from data without a gradient.
    for constants in (False, True) if shared else (False,):
        options["constants"] = constants
        # Zeros may be as harmful as what is compared with them; an entry of the batch is not.
        usual = _with_entries_as_filler(arguments) if constants else arguments
        expected = evaluate(op, usual, claim="filler (one more slot)", **options)
        if constants and not any(map(is_of_shared, expected)):
            break
        for kind in fillers:
            changed, claim = refill(arguments, kind), f'filler ("{kind}" filler)'
            found = evaluate(op, changed, claim=claim, **options)
            assert_same(
                found,
                expected,
                claim=claim,
                arguments=changed,
                batch_shape=batch_shape,
                tolerance=Tolerance(rtol, atol),
                shared=shared,
            )
            outcomes.append((found, claim, changed))
    for outcome in outcomes:
        _assert_filler_has_no_gradient(*outcome)


def _with_entries_as_filler(arguments: Any) -> Any:
    return map_batches(lambda batch: batch.create_with_sample_sizes_like_self(with_valid_filler(batch)), arguments)


def _assert_filler_has_no_gradient(outcome: Outcome, claim: str, arguments: Any) -> None:
    for name, leaf in outcome.items():
        if not name.startswith("gradient of") or not is_batch(leaf):
            continue
        wrong = (leaf.tensor != 0) & ~leaf.aligned_mask  # NaN is not 0 either
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            raise violation(claim, f"{name} is {leaf.tensor[at].item()} in the filler, at {at}", arguments)


def assert_padding_invariant(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    slacks: Sequence[int] = (1, 6),
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """How much padding there is changes no value and no gradient: none at all, or some slots more of any filler.

    A tensor that is as wide as the padding does not fit any more; make it a ragged batch. Arguments and errors are as
    in ``assert_filler_invariant``, but values may differ by what is usual for their dtype: a sum over more slots
    rounds differently.
    """
    batch_shape = batch_shape_of(arguments)
    options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape}
    expected = evaluate(op, arguments, **options)
    forms = {"no more padding than needed": trimmed(arguments)}
    for slack in slacks:
        for kind in ("zeros", "nan"):
            forms[f"{slack} more slots of {kind}"] = widened(arguments, slack, kind)
    for form, changed in forms.items():
        claim = f"padding ({form})"
        assert_same(
            evaluate(op, changed, claim=claim, **options),
            expected,
            claim=claim,
            arguments=changed,
            batch_shape=batch_shape,
            tolerance=Tolerance(rtol, atol),
            shared=shared,
        )
    _assert_padding_below_and_above(op, arguments, shared, batch_shape, Tolerance(rtol, atol))


def _of_one_sign(tensor: Tensor, sign: int) -> Tensor:
    return sign * (tensor.abs() + 1)


def _assert_padding_below_and_above(
    op: Callable[..., Any], arguments: Any, shared: Any, batch_shape: Position, tolerance: Tolerance
) -> None:
    """The same for numbers that are all negative, and all positive: padding of 0 is the largest then, or the least."""
    if not floating(arguments):
        return
    for name, sign in (("negative", -1), ("positive", 1)):
        signed = map_floating_batches(partial(_of_one_sign, sign=sign), arguments)
        few, more = trimmed(signed), widened(signed, 1, "zeros")
        try:
            expected, found = (
                evaluate(op, each, shared=shared, batch_shape=batch_shape, gradients=False) for each in (few, more)
            )
        except Exception:  # the operation takes no such numbers
            continue
        assert_same(
            found,
            expected,
            claim=f"padding ({name} numbers, with one more slot, then with none)",
            arguments=more,
            batch_shape=batch_shape,
            tolerance=tolerance,
            shared=shared,
        )


def assert_batch_equivariant(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Samples in another order give the same results in that order; results of no sample stay as they are.

    Every batch dimension is turned round and rotated. Arguments and errors are as in ``assert_padding_invariant``. A
    result that happens to begin with the batch shape counts as one of samples: choose a batch of another size.
    """
    batch_shape = batch_shape_of(arguments)
    options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape}
    original = evaluate(op, arguments, **options)
    for dim, size in enumerate(batch_shape):
        for order in (list(range(size))[::-1], [*range(1, size), *range(min(size, 1))]):
            changed = reordered(arguments, dim, order)
            expected = {
                name: leaf if is_of_shared(name) else _reordered_leaf(leaf, dim, order, batch_shape)
                for name, leaf in original.items()
            }
            claim = f"order (samples {order} along dimension {dim})"
            assert_same(
                evaluate(op, changed, claim=claim, **options),
                expected,
                claim=claim,
                arguments=changed,
                batch_shape=batch_shape,
                tolerance=Tolerance(rtol, atol),
                shared=shared,
            )


def _reordered_leaf(leaf: Any, dim: int, order: Sequence[int], batch_shape: Position) -> Any:
    if not has_samples(leaf, batch_shape):
        return leaf
    return map_samples(lambda tensor: in_order(tensor, dim, order), leaf, batch_shape)


def assert_sample_independent(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    trim: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """A sample alone gives what it gives in its batch, values and gradients.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``. Every result must begin with the batch shape.
        trim: Give the sample alone no padding; False keeps that of the batch, for an operation that takes a tensor as
            wide as the padding.
        rtol, atol: How far values may differ; by default by what is usual for their dtype.

    Raises:
        PropertyViolation: With the first sample and position, and both values.
    """
    batch_shape = batch_shape_of(arguments)
    whole = evaluate(op, arguments, shared=shared, batch_shape=batch_shape)
    together, tolerance = without_shared(whole), Tolerance(rtol, atol)
    mixed = [name for name, leaf in together.items() if leaf is not None and not has_samples(leaf, batch_shape)]
    if mixed:
        problem = f"{mixed[0]} does not begin with the batch shape {batch_shape}, so that no sample has a part of it"
        raise violation("independence", problem, arguments)
    ones = (1,) * len(batch_shape)
    found_alone = []
    for position in positions(batch_shape):
        alone = take(arguments, position)
        alone = trimmed(alone) if trim else alone
        expected = named_leaves(take(list(together.values()), position, batch_shape), "")
        expected = dict(zip(together, expected.values(), strict=True))
        claim = f"independence (sample {position} alone, then in its batch)"
        found = evaluate(op, alone, shared=shared, batch_shape=ones, claim=claim)
        found_alone.append(found)
        assert_same(
            without_shared(found),
            expected,
            claim=claim,
            arguments=arguments,
            batch_shape=ones,
            tolerance=tolerance,
            shared=shared,
        )
    claim = "independence (the sum over samples alone, then their batch)"
    expected = {name: leaf for name, leaf in whole.items() if is_of_shared(name)}
    shared_alone = sum_of_shared(found_alone)
    assert_same(shared_alone, expected, claim=claim, arguments=arguments, batch_shape=(), tolerance=tolerance)
