"""Checker: NaN and infinity among the entries of a sample stay there, and come out where the reference has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ragged.testing.arguments import batch_shape_of, positions
from ragged.testing.differences import assert_same_samples
from ragged.testing.outcome import evaluate
from ragged.testing.probes import Probe, floating, largest_sample, with_entry
from ragged.testing.properties.per_sample import compare_with_reference
from ragged.testing.violation import NotCheckable

# How many of the other samples are looked at.
_OTHERS = 4


def assert_nonfinite_contained(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    reference: Callable[..., Any] | None = None,
    contained: bool = True,
) -> None:
    """NaN, Inf and -Inf among the entries of one sample change no value and no gradient of the others.

    Args:
        op, arguments, shared: As in ``assert_filler_invariant``. The first number of the last entry of the largest
            sample is changed.
        reference: As in ``assert_matches_per_sample``. Where it gives NaN or Inf, the operation must give NaN or Inf,
            and the same values everywhere else. Results of whole numbers are compared for infinities alone.
        contained: Samples do not depend on each other; False leaves the comparison with the reference alone.

    Raises:
        PropertyViolation: With the sample and position, and both values.
        NotCheckable: There are no floating numbers, or nothing to compare with, or the operation rejects such values.
    """
    batch_shape = batch_shape_of(arguments)
    position, size = largest_sample(arguments)
    others = [each for each in positions(batch_shape) if each != position][:_OTHERS] if contained else []
    if not any(each.numel() for each in floating(arguments)):
        raise NotCheckable("there are no floating numbers")
    if not others and reference is None:
        raise NotCheckable("there is neither a second sample, which must not change, nor a reference")
    options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape}
    usual = evaluate(op, arguments, **options)
    for value, name in ((math.nan, "NaN"), (math.inf, "Inf"), (-math.inf, "-Inf")):
        changed = with_entry(arguments, Probe(position, max(size - 1, 0), value), one_number=True)
        try:
            found = evaluate(op, changed, **options)
        except Exception as error:
            raise NotCheckable(f"the operation rejects {name}: {type(error).__name__}: {error}") from error
        change = "nonfinite", f"{name} in sample {position}, then without it"
        assert_same_samples(
            found, usual, others, change=change, arguments=changed, batch_shape=batch_shape, shared=shared
        )
        if reference is not None and (size > 1 or value != -math.inf):
            claim = f"nonfinite ({name} among the entries, against the reference)"
            compare_with_reference(op, reference, changed, shared, claim, only=position, floats_alone=value != value)
