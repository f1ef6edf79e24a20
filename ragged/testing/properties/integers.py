"""Checker: large integers keep every digit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ragged.testing.arguments import batch_shape_of, has_samples, is_batch, map_leaves
from ragged.testing.differences import place_of
from ragged.testing.outcome import Outcome, evaluate
from ragged.testing.probes import data_leaves, is_integer
from ragged.testing.properties.per_sample import compare_with_reference
from ragged.testing.violation import NotCheckable, violation

_SMALL = (1, 2, 1001)
# What float32 and float64 cannot tell from a neighbour; the last is large for the integers that torch usually has.
_LARGE = (2**24 + 1, 2**53 + 1)


def assert_large_integers(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    reference: Callable[..., Any] | None = None,
) -> None:
    """Integers beyond 2**24 and 2**53 keep every digit: they make no detour over floating numbers, nor over 32 bits.

    A number is added to one integer argument after the other. If small numbers, added to every entry, add multiples of
    themselves to the results (a sum, an order, a selection do so, labels and indices do not), a large one must do the
    same. A result that misses that by a rounding is a violation, one that is altogether different is none: it may be
    meant.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``.
        reference: As in ``assert_matches_per_sample``; values are compared with it, too.

    Raises:
        PropertyViolation: With the sample and position, and both values.
        NotCheckable: There are no integers with 32 bits or more, or the operation takes no others than these.
    """
    named = [k for k, leaf in enumerate(data_leaves(arguments)) if _is_long(leaf)]
    checked = [_checked(op, arguments, shared, reference, place) for place in named]
    if not named:
        raise NotCheckable("there are no integers with 32 bits or more")
    if not any(checked):
        raise NotCheckable("the operation takes no larger integers, or its results do not grow with them")


def _is_long(tensor: Tensor) -> bool:
    return is_integer(tensor) and tensor.dtype.itemsize >= 4 and tensor.numel() > 0


def _checked(op: Callable[..., Any], arguments: Any, shared: Any, reference: Any, place: int) -> bool:
    batch_shape = batch_shape_of(arguments)
    run = partial(evaluate, op, shared=shared, batch_shape=batch_shape, gradients=False)
    data = data_leaves(arguments)[place]
    large = [each for each in _LARGE if each < torch.iinfo(data.dtype).max // 2]
    try:
        here = run(arguments)
        responses = [_response(run(_added(arguments, place, each)), here, each) for each in _SMALL]
    except Exception:  # indices and labels out of range
        return False
    if any(each.keys() != here.keys() for each in responses):  # shapes depend on the numbers, and would be huge
        return False
    names = [name for name in here if all(_same(each.get(name), responses[0].get(name)) for each in responses)]
    names = [name for name in names if responses[0].get(name) is not None]
    for number in large if names or reference is not None else ():
        changed = _added(arguments, place, number)
        try:
            found = run(changed)
        except Exception:
            return False
        for name in names:
            claim = f"integers (larger by {number})"
            _check(here[name], responses[0][name], found[name], number, (claim, name, changed, shared), batch_shape)
        if reference is not None:
            claim = f"integers (larger by {number}, against the reference)"
            compare_with_reference(op, reference, changed, shared, claim)
    return bool(names) or reference is not None


def _added(arguments: Any, place: int, number: int) -> Any:
    """A number more in all entries of one argument."""
    seen = -1

    def change(leaf: Any) -> Any:
        nonlocal seen
        data = leaf.tensor if is_batch(leaf) else leaf
        if not isinstance(data, Tensor):
            return leaf
        seen += 1
        if seen != place:
            return leaf
        return leaf.create_with_sample_sizes_like_self(data + number) if is_batch(leaf) else data + number

    return map_leaves(change, list(arguments))


def _response(found: Outcome, here: Outcome, number: int) -> dict[str, Tensor | None]:
    """By how many times the number each integer result has grown, or None: not by a multiple of it."""
    responses: dict[str, Tensor | None] = {}
    for name, leaf in found.items():
        if _shape(leaf) != _shape(here.get(name)):
            continue
        one, other = _numbers(leaf), _numbers(here.get(name))
        responses[name] = None
        if one is not None and other is not None:
            grown = one - other
            if not bool((grown % number).any()):
                responses[name] = grown // number
    return responses


def _check(
    here: Any, factor: Tensor | None, found: Any, number: int, said: tuple[str, str, Any, Any], batch_shape: Any
) -> None:
    claim, name, changed, shared = said
    before, after = _numbers(here), _numbers(found)
    if factor is None or before is None or after is None or before.shape != after.shape:
        return
    expected = before + factor * number
    miss = (after - expected).abs()
    rounded = (miss != 0) & (miss.double() <= 1e-6 * expected.abs().double())
    wrapped = (miss != 0) & (after == (expected + 2**31) % 2**32 - 2**31)
    wrong = rounded | wrapped
    if wrong.any():
        at = tuple(wrong.nonzero()[0].tolist())
        where = place_of(at, len(batch_shape) if has_samples(found, batch_shape) else 0)
        raise violation(claim, f"{name} {where}is {after[at].item()}, expected {expected[at].item()}", changed, shared)


def _shape(leaf: Any) -> Any:
    return tuple(leaf.shape) if is_batch(leaf) or isinstance(leaf, Tensor) else None


def _numbers(leaf: Any) -> Tensor | None:
    if is_batch(leaf):
        leaf = torch.where(leaf.aligned_mask, leaf.tensor, 0)
    return leaf.long() if isinstance(leaf, Tensor) and is_integer(leaf) else None


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and bool((one == other).all())
