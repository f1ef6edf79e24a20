"""On a CUDA device: every operation has the values and gradients of the CPU, without a synchronisation."""

from __future__ import annotations

import pytest
import torch
from determinism import assert_repeats, moved
from registry import GIVE_NUMBERS, operations
from registry.entries import Operation
from runs import run_operation
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of
from ragged.testing.differences import Tolerance, assert_same
from ragged.testing.outcome import evaluate

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# The solver is on the host, which waits for the costs.
WAITING = ("batched_linear_sum_assignment", "one_to_one_assignment")
OPERATIONS = {
    name: entry
    for name, entry in operations()
    if "synchronisation" not in entry.without and not name.startswith(WAITING)
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_on_cuda(name: str) -> None:
    check_values_and_gradients_of_the_cpu(OPERATIONS[name])
    check_that_nothing_waits(OPERATIONS[name])
    if name not in GIVE_NUMBERS:
        arguments = moved((*OPERATIONS[name].arguments(), *OPERATIONS[name].shared), "cuda")
        assert_repeats(lambda: run_operation(OPERATIONS[name].function, arguments), name, "cuda")


def check_values_and_gradients_of_the_cpu(entry: Operation) -> None:
    arguments = list(entry.arguments())
    options = {"batch_shape": batch_shape_of(arguments)}
    expected = evaluate(entry.function, arguments, shared=entry.shared, **options)
    found = evaluate(entry.function, moved(arguments, "cuda"), shared=moved(entry.shared, "cuda"), **options)
    assert_same(
        moved(found, "cpu"),
        expected,
        claim="the same on both devices",
        arguments=arguments,
        tolerance=Tolerance(1e-4, 1e-5),
        **options,
    )


def check_that_nothing_waits(entry: Operation) -> None:
    arguments, shared = moved(list(entry.arguments()), "cuda"), moved(entry.shared, "cuda")
    leaves, structure = pytree.tree_flatten(arguments)
    leaves = [
        leaf.requires_grad_() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf for leaf in leaves
    ]
    given = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = pytree.tree_leaves(entry.function(*pytree.tree_unflatten(given, structure), *shared))
        parts = [part.sum() for part in results if isinstance(part, Tensor) and part.requires_grad]
        if parts:
            torch.stack([part.double() for part in parts]).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
