"""All properties of an operation in one line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import hypothesis
from torch import Tensor

from ragged.testing.arguments import batch_shape_of, is_batch
from ragged.testing.calls.held import held_tensors, hint_of_held
from ragged.testing.calls.known import once_for_each_kind
from ragged.testing.outcome import evaluate
from ragged.testing.probes import copied, floating, in_float32
from ragged.testing.properties.compiling import assert_compiles, is_known_to_compile
from ragged.testing.properties.forms import assert_empty_batches, assert_layout_invariant, assert_zeros_are_entries
from ragged.testing.properties.gradients import assert_gradients, check_gradients
from ragged.testing.properties.integers import assert_large_integers
from ragged.testing.properties.invariance import (
    assert_batch_equivariant,
    assert_filler_invariant,
    assert_padding_invariant,
    assert_sample_independent,
)
from ragged.testing.properties.nonfinite import assert_nonfinite_contained
from ragged.testing.properties.per_sample import assert_matches_per_sample
from ragged.testing.properties.precision import NO_KERNEL, assert_dtype_stable
from ragged.testing.properties.purity import assert_pure, assert_random_state_kept
from ragged.testing.properties.sizes import assert_large_samples
from ragged.testing.properties.synchronisation import assert_no_host_sync
from ragged.testing.report import Checked, check_call, warn_of_missing_gradient
from ragged.testing.shrinking import shrunk
from ragged.testing.violation import NotCheckable, PropertyViolation, with_hint

PROPERTIES: dict[str, Callable[..., None]] = {
    "randomness": assert_random_state_kept,
    "purity": assert_pure,
    "filler": assert_filler_invariant,
    "padding": assert_padding_invariant,
    "order": assert_batch_equivariant,
    "independence": assert_sample_independent,
    "empty": assert_empty_batches,
    "layout": assert_layout_invariant,
    "zeros": assert_zeros_are_entries,
    "nonfinite": assert_nonfinite_contained,
    "sizes": assert_large_samples,
    "integers": assert_large_integers,
    "gradients": assert_gradients,
    "precision": assert_dtype_stable,
    "synchronisation": assert_no_host_sync,
    "compilation": assert_compiles,
}
"""What ``check_op`` checks, by the names that its ``without`` takes."""

# In half precision, right operations round differently in other forms of their arguments: "precision" looks at that.
_IN_FLOAT32 = {"reference", "padding", "order", "independence", "empty", "zeros", "nonfinite", "sizes"}
_WITH_REFERENCE = ("zeros", "nonfinite", "sizes", "integers")
_OF_SAMPLES = ("empty", "nonfinite", "sizes")


def check_op(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    constants: Collection[int] = (),
    reference: Callable[..., Any] | None = None,
    without: Collection[str] = (),
) -> Checked:
    """Check every property of ``PROPERTIES`` that the operation can have, and the values against a reference.

    Args:
        op: The operation, called as ``op(*arguments, *shared)``.
        arguments: Ragged batches, tensors with the same leading batch dimensions, and containers of them.
        shared: Further arguments, which all samples share, such as the weights of a layer. They are differentiated as
            the others are.
        constants: Positions of arguments that the operation takes for constants; see ``assert_gradients``.
        reference: The same for one sample, see ``assert_matches_per_sample``. It is also called with zeros, NaN and
            infinity, with large integers and large samples, as far as it takes them.
        without: Properties that the operation does not promise: a mean over the batch has no ``"independence"``, one
            that reads a size on the host no ``"synchronisation"`` and no ``"compilation"``.

    Returns:
        The names of the properties that were checked. Its attribute ``unchecked`` says of each other property why it
        was not: ``"gradients"`` if no result has a gradient, ``"precision"`` without floating arguments.

    Raises:
        PropertyViolation: As soon as a property does not hold. Outside of hypothesis, which shrinks examples itself,
            the arguments in it are the fewest samples and entries that show it.
        TypeError: ``op`` or ``reference`` is a class or no callable, or ``without`` is a string.
        ValueError: ``without`` names something else than a property.

    Warns:
        UncheckedWarning: A floating result of floating arguments has no gradient.

    >>> from ragged import RaggedBatch, sum_over_targets
    >>> batch = RaggedBatch(torch.rand(2, 3), sample_sizes=[3, 1])
    >>> checked = check_op(sum_over_targets, batch, reference=lambda sample: sample.sum(0))
    >>> "gradients" in checked, checked.unchecked
    (True, {'integers': 'there are no integers with 32 bits or more'})
    >>> check_op(lambda batch: batch.tensor.mean(1), batch, without=["order"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ragged.testing.violation.PropertyViolation: filler ("garbage" filler): result of sample 0 is ...
    ...
    """
    check_call(op, reference, shared, constants, without, PROPERTIES, "check_op")
    checked: list[str] = []
    unchecked = {name: "left out by without=" for name in PROPERTIES if name in without}

    def check(name: str, *given: Any) -> str | None:
        if name in _IN_FLOAT32 or needs_float32:
            given, of_all = in_float32(list(given)), in_float32(list(shared))
            return _check(name, op, given, of_all, constants, reference, without)
        return _check(name, op, given, shared, constants, reference, without)

    needs_float32 = _first_call(op, arguments, shared, unchecked)
    for held, tensor in held_tensors(op).items():
        if tensor.requires_grad:
            unchecked[f"gradient of {held}"] = "the operation holds this tensor: pass it in shared="
    # An operation that writes into its arguments would change those of all properties behind.
    first = ["randomness", "purity", *(["reference"] if reference is not None else [])]
    for name in [*first, *(each for each in PROPERTIES if each not in first)]:
        if name in without:
            continue
        try:
            why = check(name, *arguments)
        except NotCheckable as reason:
            unchecked.setdefault(name, str(reason))
            continue
        except PropertyViolation as found:
            hint = hint_of_held(op, batch_shape_of(arguments))
            if hypothesis.currently_in_test_context() or name == "compilation":
                raise with_hint(found, hint) from found.__cause__
            least = shrunk(lambda *given, name=name: check(name, *given), arguments, found)
            raise with_hint(least, hint) from least.__cause__
        if why is None or name == "gradients":
            checked.append(name)
        if why is not None:
            unchecked["second derivatives" if name == "gradients" else name] = why
    return Checked(sorted(checked, key=[*PROPERTIES, "reference"].index), unchecked)


def _check(
    name: str,
    op: Callable[..., Any],
    arguments: Any,
    shared: Sequence[Any],
    constants: Collection[int],
    reference: Callable[..., Any] | None,
    without: Collection[str],
) -> str | None:
    """Check one property; returns why something was left out, or None."""
    options: dict[str, Any] = {"shared": shared}
    if name == "reference":
        assert reference is not None
        gradients = "gradients" not in without
        assert_matches_per_sample(op, reference, *arguments, gradients=gradients, **options)
        return None
    if name == "gradients":
        return check_gradients(op, *arguments, constants=constants, **options)
    if name == "synchronisation":
        given = (*arguments, *shared)
        if hypothesis.currently_in_test_context():
            once_for_each_kind(assert_no_host_sync, op, given)
        else:
            assert_no_host_sync(op, *given)
        return None
    if name == "compilation" and hypothesis.currently_in_test_context():
        return is_known_to_compile(op, arguments, shared)
    if name in _WITH_REFERENCE:
        options["reference"] = reference
    if name in _OF_SAMPLES:
        options["contained"] = not {"independence", "padding"} & set(without)
    PROPERTIES[name](op, *arguments, **options)
    return None


def _first_call(op: Callable[..., Any], arguments: Any, shared: Sequence[Any], unchecked: dict[str, str]) -> bool:
    """Note a floating result without a gradient; an error of the operation comes out, with the call in its notes.

    Returns whether the operation needs float32 in place of half precision, which the device does not have for it.
    """
    given, given_shared, needs_float32 = copied(list(arguments)), copied(list(shared)), False
    try:
        outcome = evaluate(op, given, shared=given_shared, batch_shape=batch_shape_of(arguments))
    except RuntimeError as error:
        if not NO_KERNEL.search(str(error)):
            raise
        needs_float32, given, given_shared = True, in_float32(given), in_float32(given_shared)
        outcome = evaluate(op, given, shared=given_shared, batch_shape=batch_shape_of(arguments))
    if any(name.startswith("gradient of") for name in outcome) or not floating(arguments):
        return needs_float32
    cut = [name for name, leaf in outcome.items() if _is_floating(leaf)]
    if cut and "gradients" not in unchecked:
        unchecked["gradients"] = f"{cut[0]} has no gradient, though it is floating and arguments are"
        warn_of_missing_gradient(unchecked["gradients"])
    return needs_float32


def _is_floating(leaf: Any) -> bool:
    data = leaf.tensor if is_batch(leaf) else leaf
    return isinstance(data, Tensor) and data.is_floating_point()
