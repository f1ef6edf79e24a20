"""Checker: an operation compiles as one graph, for all amounts of padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend

from ragged.testing.arguments import batch_shape_of, widened
from ragged.testing.calls.known import key_of
from ragged.testing.differences import Tolerance, assert_same
from ragged.testing.outcome import evaluate
from ragged.testing.probes import batches_in
from ragged.testing.violation import violation


def assert_compiles(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    backend: str = "aot_eager",
    slacks: Sequence[int] = (0, 3, 1, 6),
    max_graphs: int = 3,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """The operation compiles with ``fullgraph=True``, gives the eager values and gradients, and seldom recompiles.

    Args:
        op, arguments, shared: As in ``assert_padding_invariant``; the padding is what changes from call to call.
        backend: Of ``torch.compile``; ``"inductor"`` makes machine code and takes seconds.
        slacks: Slots of padding to add, one call for each.
        max_graphs: How many graphs all these calls may take: usually one for the first size and one for all others;
            torch makes one more for a dimension of size 0, and for 1.
        rtol, atol: How far values may differ from those without compilation.

    Raises:
        PropertyViolation: With the reason that torch gives, the numbers of graphs, or both values.
    """
    torch._dynamo.reset()
    batch_shape = batch_shape_of(arguments)
    options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape}
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(op, fullgraph=True, backend=counter)
    for slack in slacks:
        changed = widened(arguments, slack, "zeros") if slack else arguments
        claim = f"compilation ({slack} more slots; first compiled, then eager)"
        expected = evaluate(op, changed, claim=claim if slack else None, **options)
        try:
            found = evaluate(compiled, changed, **options)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise violation("compilation", f"torch gives up: {error}", changed, shared) from error
        except Exception as error:
            problem = f"the compiled operation raises {type(error).__name__}: {error}"
            raise violation("compilation", problem, changed, shared) from error
        assert_same(
            found,
            expected,
            claim=claim,
            arguments=changed,
            batch_shape=batch_shape,
            tolerance=Tolerance(rtol, atol),
            shared=shared,
        )
    max_graphs += any(not each.max_sample_size for each in batches_in(arguments))
    if counter.frame_count > max_graphs:
        problem = f"{counter.frame_count} graphs for {len(slacks)} sizes, expected {max_graphs} at most"
        raise violation("compilation", problem, arguments, shared)


def is_known_to_compile(op: Callable[..., Any], arguments: Any, shared: Sequence[Any]) -> str | None:
    """Check an example of a property test, unless one has shown before that the operation compiles; then, says so.

    Compilation takes seconds, and depends little on an example. One that fails is not remembered, so that hypothesis
    finds it again.
    """
    key = key_of(op)
    if not any(bool(each.sample_sizes.any()) for each in batches_in(arguments)):
        return "no sample has an entry; another example is compiled"
    if key in _COMPILED:
        return "an earlier example of this operation was compiled"
    assert_compiles(op, *arguments, shared=shared)
    _COMPILED.add(key)
    return None


_COMPILED: set[Any] = set()
