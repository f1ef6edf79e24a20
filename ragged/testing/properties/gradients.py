"""Checker: gradients are those of the values, first and second, also where samples are empty."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of, cast, emptied, is_batch, refill
from ragged.testing.outcome import evaluate, real_parts, violation

# So far arguments are moved to see a gradient change; its square is far above the rounding of float64.
_STEP = 1e-4


def assert_gradients(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    constants: Collection[int] = (),
    second: bool = True,
    eps: float = 1e-6,
) -> None:
    """Gradients agree with finite differences in float64, filler gets none, and empty samples make no NaN.

    Args:
        op: The operation, called as ``op(*arguments, *shared)``.
        arguments: As in ``assert_filler_invariant``; floating ones are differentiated. Values should lie off the kinks
            of the operation (ties, boxes that touch), where a gradient is not defined.
        shared: Further arguments, which all samples share; floating ones are differentiated as well.
        constants: Positions of arguments that the operation takes for constants, targets of a loss for example. They
            must get no gradient. Shared arguments count on behind the others.
        second: Also check second derivatives.
        eps: The step of the finite differences.

    Raises:
        PropertyViolation: With torch's report, the argument whose gradient is not finite, or the constant that has one.
        ValueError: There is nothing to differentiate.
    """
    double = [*refill(cast(list(arguments), torch.float64), "garbage"), *cast(list(shared), torch.float64)]
    leaves, structure = pytree.tree_flatten(double)
    owners = [number for number, each in enumerate(double) for _ in pytree.tree_leaves(each)]
    places = [k for k, leaf in enumerate(leaves) if _is_floating(leaf) and owners[k] not in constants]
    inputs = [leaves[place].detach().clone().requires_grad_() for place in places]

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        given = list(leaves)
        for place, value in zip(places, values, strict=True):
            given[place] = value.clone()  # which the operation may write into
        try:
            result = op(*pytree.tree_unflatten(given, structure))
        except RuntimeError as error:
            if "dtype" not in str(error):
                raise
            advice = "if it holds a tensor (a closure, a layer in it), pass that in shared=, to be cast along"
            raise violation("gradients", f"float64 arguments: {error}; {advice}", arguments) from error
        return _differentiable_entries(result)

    if not inputs or not function(*inputs):
        raise ValueError("no result depends on a floating argument: there is nothing to differentiate")
    _assert_finite_with_empty_samples(op, arguments, shared)
    _assert_no_gradient(op, arguments, shared, constants)
    try:
        torch.autograd.gradcheck(function, inputs, eps=eps)
        if second:
            if any(each is not None and each.requires_grad for each in _first_gradients(function, inputs)):
                _check_second(function, inputs, eps)
            _assert_constant_gradients_are(function, inputs)
    except GradcheckError as error:
        raise violation("gradients", str(error), arguments) from error
    except (NotImplementedError, RuntimeError) as error:
        if "not implemented" not in str(error):
            raise
        problem = f"torch has no second derivative of the operation: {error}; check the first, second=False"
        raise violation("gradients", f"{problem}, and give check_op without=['gradients']", arguments) from error


def _check_second(function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor], eps: float) -> None:
    """Second derivatives along random directions, the same in each run; along a single one, a mistake may be hidden."""
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.autograd.gradgradcheck(function, inputs, eps=eps, fast_mode=True)


def _assert_finite_with_empty_samples(op: Callable[..., Any], arguments: Any, shared: Sequence[Any]) -> None:
    for first_only, constants in itertools.product((True, False), (False, True) if shared else (False,)):
        changed = refill(emptied(arguments, first_only=first_only), "nan")
        claim = f"gradients ({'the first sample' if first_only else 'every sample'} empty)"
        options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape_of(arguments)}
        outcome = evaluate(op, changed, constants=constants, claim=claim, **options)
        for name, leaf in outcome.items():
            gradient = leaf.tensor if is_batch(leaf) else leaf
            if name.startswith("gradient of") and gradient is not None and not gradient.isfinite().all():
                at = tuple((~gradient.isfinite()).nonzero()[0].tolist())
                raise violation(claim, f"{name} is {gradient[at].item()} at {at}", changed)


def _assert_no_gradient(
    op: Callable[..., Any], arguments: Any, shared: Sequence[Any], constants: Collection[int]
) -> None:
    outcome = evaluate(op, arguments, shared=shared, batch_shape=batch_shape_of(arguments))
    for name, gradient in outcome.items():
        found = re.match(r"gradient of (shared )?argument (\d+)", name)
        if found is None or gradient is None:
            continue
        if int(found[2]) + (len(arguments) if found[1] else 0) in constants:
            raise violation("gradients", f"there is a {name}, expected none of a constant", arguments)


def _differentiable_entries(result: Any) -> tuple[Tensor, ...]:
    """The results that depend on an input, with zeros for filler, and for what is infinite: it has no slope."""
    leaves = pytree.tree_leaves(result, is_leaf=is_batch)
    entries = [torch.where(leaf.aligned_mask, leaf.tensor, 0) if is_batch(leaf) else leaf for leaf in leaves]
    entries = [entry for entry in entries if isinstance(entry, Tensor) and entry.requires_grad]
    return tuple(torch.where(entry.isinf(), 0, entry) for entry in entries)


def _assert_constant_gradients_are(function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> None:
    """A first gradient that torch takes for a constant does not change with the arguments: nothing was detached."""
    moved = [(each.detach() + _STEP).requires_grad_() for each in inputs]
    pairs = zip(_first_gradients(function, inputs), _first_gradients(function, moved), strict=True)
    for number, (here, there) in enumerate(pairs):
        if here is None or there is None or here.requires_grad:
            continue
        if not torch.allclose(here, there, rtol=_STEP**2, atol=_STEP**2, equal_nan=True):
            raise GradcheckError(f"the gradient of input {number} depends on the inputs, but has no gradient itself")


def _first_gradients(function: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> list[Tensor | None]:
    total = torch.stack([real_parts(result).sum() for result in function(*inputs)]).sum()
    return list(torch.autograd.grad(total, inputs, create_graph=True, allow_unused=True))


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
