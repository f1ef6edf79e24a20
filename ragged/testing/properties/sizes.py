"""Checker: samples of many entries are treated as small ones are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import Position, batch_shape_of, is_batch, map_leaves, map_samples, take, trimmed
from ragged.testing.differences import Tolerance, assert_same
from ragged.testing.enlarging import aligned, enlarged, rows_at
from ragged.testing.outcome import Outcome, evaluate, of_sample
from ragged.testing.probes import batches_in, floating, is_integer, largest_sample
from ragged.testing.properties.per_sample import compare_with_reference
from ragged.testing.violation import NotCheckable, PropertyViolation, violation

SMALL, LARGE = 4, 28
# So many entries at an end without any influence are no accident.
_MISSED = 8


def assert_large_samples(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    reference: Callable[..., Any] | None = None,
    contained: bool = True,
) -> None:
    """Samples of 28 entries and more are treated as those of 4.

    The samples of the arguments are made larger: by mixtures of their entries, by repeated flags and labels, and by
    unused numbers where integers are all different, as indices are. Then,

    - the operation works, and a large sample alone gives what it gives in its batch;
    - if each of 4 entries can change the results, the entries at an end of 28 can;
    - if the order of 4 entries does not matter to the results, or is that of the results, so it is with 28.

    An operation that looks at the first entries alone, on purpose, does not promise this.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.
        reference: As in ``assert_matches_per_sample``; values are compared with it, too.
        contained: Samples do not depend on each other; False leaves the comparison with the reference alone.

    Raises:
        PropertyViolation: With the sample and position, and both values.
        NotCheckable: No sample has an entry, or the operation takes no larger samples of such integers.
    """
    position, size = largest_sample(arguments)
    if size == 0:
        raise NotCheckable("no sample has an entry")
    batch_shape = batch_shape_of(arguments)
    large, whole = _evaluated(op, arguments, shared, batch_shape)
    if contained:
        alone = trimmed(take(large, position, batch_shape))
        ones = (1,) * len(batch_shape)
        claim = f"sizes (sample {position} with {LARGE} entries and more, alone, then in its batch)"
        assert_same(
            evaluate(op, alone, shared=shared, batch_shape=ones, gradients=False, claim=claim),
            of_sample(whole, position, batch_shape),
            claim=claim,
            arguments=large,
            batch_shape=ones,
            tolerance=Tolerance(),
            shared=shared,
        )
    if reference is not None:
        claim = f"sizes (samples with {LARGE} entries and more, against the reference)"
        compare_with_reference(op, reference, large, shared, claim)
    if contained and floating(arguments) and len(_group(arguments, position)) == len(batches_in(arguments)):
        _assert_entries_count(op, arguments, shared, position)


def _evaluated(op: Callable[..., Any], arguments: Any, shared: Any, batch_shape: Position) -> tuple[Any, Outcome]:
    """Larger samples, and what the operation gives for them."""
    has_integers = any(is_integer(each.tensor) for each in batches_in(arguments))
    claim = f"sizes (samples with {LARGE} entries and more)"
    for unused in (True, False) if has_integers else (False,):
        large = enlarged(arguments, LARGE, unused=unused)
        try:
            return large, evaluate(op, large, shared=shared, batch_shape=batch_shape, gradients=False, claim=claim)
        except PropertyViolation as error:
            if not has_integers:
                raise
            reason = error.__cause__
    raise NotCheckable(f"the operation takes no larger samples of such integers: {reason}") from reason


def _group(arguments: Any, position: Position) -> list[RaggedBatch]:
    """The batches with as many entries in one sample as the first."""
    batches = batches_in(arguments)
    return [each for each in batches if each.sample_sizes[position] == batches[0].sample_sizes[position]]


def _assert_entries_count(op: Callable[..., Any], arguments: Any, shared: Any, position: Position) -> None:
    one = trimmed(take(arguments, position))
    small = _relations(op, trimmed(enlarged(one, SMALL, exactly=True)), shared, SMALL)
    if small is None or not (small[0].all() or any(small[1].values())):
        return
    # Indices must reach all entries; labels cannot go on without end.
    for unused in (True, False):
        large_arguments = enlarged(one, LARGE, exactly=True, unused=unused)
        large = _relations(op, large_arguments, shared, LARGE)
        if large is not None:
            break
    else:
        return
    counts, kinds = large
    missed = (~counts).nonzero().flatten().tolist()
    at_an_end = missed and missed in (list(range(missed[0], LARGE)), list(range(missed[-1] + 1)))
    if small[0].all() and at_an_end and _MISSED <= len(missed) < LARGE:
        problem = f"entry {missed[0]} of a sample changes no result, whatever it is, nor do {len(missed) - 1} beside it"
        raise violation(
            f"sizes (a sample with {LARGE} entries)", f"{problem}; each of {SMALL} does", large_arguments, shared
        )
    for name, alike in small[1].items():
        # What does both, such as zeros for each entry, says nothing of others.
        if len(alike) == 1 and not alike & kinds.get(name, set()):
            problem = f"{name} is another when its {LARGE} entries have another order; of {SMALL} it {min(alike)}"
            raise violation(f"sizes (a sample with {LARGE} entries)", problem, large_arguments, shared)


def _relations(op: Callable[..., Any], one: Any, shared: Any, size: int) -> tuple[Tensor, dict[str, set[str]]] | None:
    """Which entries of a sample can change a result, and which results do not change, or move along, with the order."""
    dims = len(batch_shape_of(one))
    copies = _copies(one, dims, size + 3)
    batch_shape = (*(1,) * (dims - 1), size + 3)
    orders = torch.stack([torch.arange(size), torch.arange(size).flip(0), torch.arange(size).roll(size // 2 - 1)])
    orders = torch.cat([orders[:1].expand(size, -1), orders])
    counts = torch.zeros(size, dtype=torch.bool)
    kinds: dict[str, set[str]] = {}
    try:
        for value in _VALUES:
            changed = _changed(copies, size, value, dims)
            found = evaluate(op, changed, shared=shared, batch_shape=batch_shape, gradients=False)
            for leaf in found.values():
                counts |= _differs_from_last(leaf, dims, size)
        turned = map_leaves(lambda leaf: _in_orders(leaf, orders, dims), copies)
        found = evaluate(op, turned, shared=shared, batch_shape=batch_shape, gradients=False)
        for name, leaf in found.items():
            kinds[name] = set(_kinds(leaf, orders, dims, size))
    except Exception:  # the operation takes no such values
        return None
    return counts, kinds


_VALUES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda entry: entry * 0.5,
    lambda entry: entry.abs() + 100,
    lambda entry: -entry.abs() - 100,
)


def _copies(one: Any, dims: int, count: int) -> Any:
    def repeat(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(count, dims - 1)

    return map_samples(repeat, one)


def _changed(copies: Any, size: int, value: Callable[[Tensor], Tensor], dims: int) -> Any:
    """Copy number k has another entry number k."""
    is_own = torch.zeros(size + 3, size, dtype=torch.bool)
    is_own[:size] = torch.eye(size, dtype=torch.bool)

    def change(leaf: Any) -> Any:
        if not is_batch(leaf) or not leaf.tensor.is_floating_point():
            return leaf
        entries = leaf.tensor.movedim(leaf.non_uniform_dim, dims)
        wide = torch.nn.functional.pad(is_own, (0, entries.shape[dims] - size))
        changed = torch.where(aligned(wide.view(*(1,) * (dims - 1), *wide.shape), entries), value(entries), entries)
        return leaf.create_with_sample_sizes_like_self(changed.movedim(dims, leaf.non_uniform_dim))

    return map_leaves(change, copies)


def _in_orders(leaf: Any, orders: Tensor, dims: int) -> Any:
    """The entries of each copy in an order of its own."""
    if not is_batch(leaf):
        return leaf
    entries = leaf.tensor.movedim(leaf.non_uniform_dim, dims).narrow(dims, 0, orders.shape[1])
    rows = rows_at(entries, orders.view(*(1,) * (dims - 1), *orders.shape), dims)
    return leaf.create_with_sample_sizes_like_self(rows.movedim(dims, leaf.non_uniform_dim))


def _flat(leaf: Any, dims: int) -> Tensor | None:
    """One row for each copy, without filler."""
    data = torch.where(leaf.aligned_mask, leaf.tensor, 0) if is_batch(leaf) else leaf
    if not isinstance(data, Tensor) or data.dim() < dims:
        return None
    return data.flatten(0, dims - 1) if dims > 1 else data


def _differs_from_last(leaf: Any, dims: int, size: int) -> Tensor:
    rows = _flat(leaf, dims)
    if rows is None or len(rows) != size + 3:
        return torch.zeros(size, dtype=torch.bool)
    rows = rows.reshape(size + 3, -1)
    same = torch.isclose(rows[:size], rows[-1:], rtol=1e-9, atol=0.0, equal_nan=True)
    return ~same.all(-1)


def _kinds(leaf: Any, orders: Tensor, dims: int, size: int) -> Iterator[str]:
    rows = _flat(leaf, dims)
    if rows is None or len(rows) != size + 3 or not rows.is_floating_point():
        return
    last, turned = rows[size], rows[size + 1 :]
    if torch.allclose(turned, last.expand_as(turned), rtol=1e-4, atol=1e-5, equal_nan=True):
        yield "stays the same"
    if is_batch(leaf) and bool((leaf.sample_sizes == size).all()):
        axis = leaf.ragged_axis
        expected = torch.stack([last.index_select(axis, order) for order in orders[size + 1 :]])
        if torch.allclose(turned.narrow(1 + axis, 0, size), expected, rtol=1e-4, atol=1e-5, equal_nan=True):
            yield "moves along"
