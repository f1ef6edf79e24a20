"""All properties of an operation in one line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of, is_batch
from ragged.testing.outcome import evaluate
from ragged.testing.properties.compiling import assert_compiles
from ragged.testing.properties.gradients import assert_gradients
from ragged.testing.properties.invariance import (
    assert_batch_equivariant,
    assert_filler_invariant,
    assert_padding_invariant,
    assert_sample_independent,
)
from ragged.testing.properties.per_sample import assert_matches_per_sample
from ragged.testing.properties.precision import assert_dtype_stable
from ragged.testing.properties.purity import assert_pure
from ragged.testing.properties.synchronisation import assert_no_host_sync

PROPERTIES: dict[str, Callable[..., None]] = {
    "purity": assert_pure,
    "filler": assert_filler_invariant,
    "padding": assert_padding_invariant,
    "order": assert_batch_equivariant,
    "independence": assert_sample_independent,
    "gradients": assert_gradients,
    "precision": assert_dtype_stable,
    "synchronisation": assert_no_host_sync,
    "compilation": assert_compiles,
}
"""What ``check_op`` checks, by the names that its ``without`` takes."""


def check_op(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    constants: Collection[int] = (),
    reference: Callable[..., Any] | None = None,
    without: Collection[str] = (),
) -> tuple[str, ...]:
    """Check every property of ``PROPERTIES`` that the operation can have, and the values against a reference.

    Args:
        op: The operation, called as ``op(*arguments, *shared)``.
        arguments: Ragged batches, tensors with the same leading batch dimensions, and containers of them.
        shared: Further arguments, which all samples share, such as the weights of a layer. They are differentiated as
            the others are.
        constants: Positions of arguments that the operation takes for constants; see ``assert_gradients``.
        reference: The same for one sample, see ``assert_matches_per_sample``.
        without: Properties that the operation does not promise: a mean over the batch has no ``"independence"``, one
            that reads a size on the host no ``"synchronisation"`` and no ``"compilation"``.

    Returns:
        The names of the properties that were checked: ``"gradients"`` is not among them if no result has a gradient,
        nor ``"precision"`` without floating arguments.

    Raises:
        PropertyViolation: As soon as a property does not hold.
        ValueError: ``without`` names something else than a property.

    >>> from ragged import RaggedBatch, sum_over_targets
    >>> batch = RaggedBatch(torch.rand(2, 3), sample_sizes=[3, 1])
    >>> "gradients" in check_op(sum_over_targets, batch, reference=lambda sample: sample.sum(0))
    True
    >>> check_op(lambda batch: batch.tensor.mean(1), batch, without=["order"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ragged.testing.outcome.PropertyViolation: filler invariance ("garbage" filler): result of sample 0 is ...
    ...
    """
    unknown = set(without) - PROPERTIES.keys()
    if unknown:
        raise ValueError(f"unknown property {min(unknown)!r}; there are {', '.join(PROPERTIES)}")
    skipped = set(without) | _not_applicable(op, arguments, shared)
    if reference is not None:
        assert_matches_per_sample(op, reference, *arguments, shared=shared, gradients="gradients" not in without)
    checked = [name for name in PROPERTIES if name not in skipped]
    for name in checked:
        if name == "synchronisation":
            assert_no_host_sync(op, *arguments, *shared)
        elif name == "gradients":
            assert_gradients(op, *arguments, shared=shared, constants=constants)
        else:
            PROPERTIES[name](op, *arguments, shared=shared)
    return (*checked, *(["reference"] if reference is not None else []))


def _not_applicable(op: Callable[..., Any], arguments: Any, shared: Sequence[Any]) -> set[str]:
    outcome = evaluate(op, arguments, shared=shared, batch_shape=batch_shape_of(arguments))
    skipped = set() if any(name.startswith("gradient of") for name in outcome) else {"gradients"}
    data = [leaf.tensor if is_batch(leaf) else leaf for leaf in pytree.tree_leaves(arguments, is_leaf=is_batch)]
    if not any(isinstance(each, Tensor) and each.is_floating_point() for each in data):
        skipped.add("precision")
    return skipped
