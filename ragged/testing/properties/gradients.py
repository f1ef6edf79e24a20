"""Checker: gradients are those of the values, first and second, also where samples are empty."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, cast

import torch
from hypothesis.errors import HypothesisException
from torch import Tensor

from ragged.testing.arguments import batch_shape_of, emptied, has_samples, is_batch, refill
from ragged.testing.differences import place_of
from ragged.testing.outcome import Outcome, evaluate, is_of_shared
from ragged.testing.properties.slopes import DoubleFunction, Point, Problem, Step, Value, difference, located, moved
from ragged.testing.violation import NotCheckable, PropertyViolation, violation

# A gradient is compared where it is asked for, then where neither ties nor kinks are; then with steps that an operation
# which computes in float32 sees.
_DISTANCES = (0.0, 1e-4, 1e-3, 1e-2)
_COARSE = Step(1e-3, 2e-2, 2e-3)
# The words of torch for an operation whose gradient has none.
_NO_SECOND = ("not implemented", "once_differentiable", "does not require grad")
_AT_KINK = (
    "the slopes on both sides differ, at a tie or kink: choose values off it, or give check_op without=['gradients']"
)


def assert_gradients(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    constants: Collection[int] = (),
    second: bool = True,
    eps: float = 1e-6,
) -> None:
    """Gradients agree with finite differences in float64, filler gets none, and empty samples make no NaN.

    The slopes of two sums of all results are compared along random directions. Where the slopes on both sides differ,
    as at ties and kinks (``relu`` at 0, ``max`` of equal entries), the arguments are moved a little. A second
    derivative that torch does not have is not compared.

    Args:
        op: The operation, called as ``op(*arguments, *shared)``.
        arguments: As in ``assert_filler_invariant``; floating ones are differentiated.
        shared: Further arguments, which all samples share; floating ones are differentiated as well.
        constants: Positions of arguments that the operation takes for constants, targets of a loss for example. They
            must get no gradient. Shared arguments count on behind the others.
        second: Also check second derivatives.
        eps: The step of the finite differences.

    Raises:
        PropertyViolation: With the sample and position, the gradient and the slope; or with the argument whose gradient
            is not finite, or the constant that has one.
        NotCheckable: There is nothing to differentiate; a ``ValueError``.
    """
    check_gradients(op, *arguments, shared=shared, constants=constants, second=second, eps=eps)


def check_gradients(
    op: Callable[..., Any],
    *arguments: Any,
    shared: Sequence[Any] = (),
    constants: Collection[int] = (),
    second: bool = True,
    eps: float = 1e-6,
) -> str | None:
    """The same; returns why second derivatives were not compared, or None if they were."""
    function = DoubleFunction(op, arguments, shared, constants)
    start = [each.requires_grad_() for each in function.inputs]
    if not start or not function.results(start):
        raise NotCheckable("no result depends on a floating argument: there is nothing to differentiate")
    usual = evaluate(op, arguments, shared=shared, batch_shape=batch_shape_of(arguments))
    _assert_finite_with_empty_samples(op, arguments, shared, usual)
    _assert_no_gradient(usual, arguments, shared, constants)
    step, kink = Step(eps, 1e-4, 1e-5), None
    for used, distance in [*((step, each) for each in _DISTANCES), *((_COARSE, each) for each in _DISTANCES[:2])]:
        point = moved(function.inputs, distance)
        try:
            problem = _problem(function, point, used)
            why, problem = _second_problem(function, point, used) if second and not problem else (None, problem)
        except Exception as error:
            if not distance or isinstance(error, (PropertyViolation, HypothesisException)):
                raise
            continue  # the operation takes no such values
        if problem is None:
            return why
        if not problem.is_kink:
            given = arguments if not distance else function.arguments_at(point)
            raise violation("gradients", problem.text, given, shared)
        kink = kink or problem
    assert kink is not None
    raise violation("gradients", f"{_at_kink(function, step) or kink.text}; {_AT_KINK}", arguments, shared)


def _problem(function: DoubleFunction, point: Point, step: Step) -> Problem | None:
    for weighted in (False, True):
        gradient = function.gradient(point, weighted=weighted)
        problem = _wrong(partial(function.value, weighted=weighted), gradient, point, step, function.where)
        if problem is not None:
            return problem
    return None


def _wrong(
    value: Value, gradient: list[Tensor], point: Point, step: Step, where: Callable[[int, int], str]
) -> Problem | None:
    """Where the gradient is no slope; entries are looked at one by one if they must be."""
    problem = None
    if not all(bool(each.isfinite().all()) for each in gradient):
        problem = Problem("a gradient is not finite", is_kink=True)
    else:
        for seed in range(2):
            problem = problem or difference(value, gradient, point, step, seed)
        if problem is None or problem.is_kink:
            return problem
    found = located(value, gradient, point, step, where)
    return problem if found is None or (found.is_kink and not problem.is_kink) else found


def _second_problem(function: DoubleFunction, point: Point, step: Step) -> tuple[str | None, Problem | None]:
    """Why there are no second derivatives, or where they are wrong."""
    ways = [torch.cos(torch.arange(each.numel(), dtype=torch.float64) + 1).view(each.shape) + 2 for each in point]

    def slope(at: Point) -> Tensor:
        return _dot(function.gradient(at, weighted=True), ways)

    inputs = [each.detach().requires_grad_() for each in point]
    try:
        total = _dot(function.gradient(inputs, weighted=True, again=True), ways)
        found = torch.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else [None] * len(inputs)
    except (NotImplementedError, RuntimeError) as error:
        if not any(words in str(error) for words in _NO_SECOND):
            raise
        return f"torch has no second derivative: {error}", None
    gradient = [torch.zeros_like(each) if g is None else g for each, g in zip(point, found, strict=True)]

    def where(number: int, index: int) -> str:
        return f"second derivative, from the {function.where(number, index)},"

    return None, _wrong(slope, gradient, point, step, where)


def _dot(values: list[Tensor], ways: list[Tensor]) -> Tensor:
    return torch.stack([(value * way).sum() for value, way in zip(values, ways, strict=True)]).sum()


def _at_kink(function: DoubleFunction, step: Step) -> str | None:
    """The first entry at a kink, in words."""
    point = moved(function.inputs, 0.0)
    for weighted in (False, True):
        gradient = function.gradient(point, weighted=weighted)
        found = located(partial(function.value, weighted=weighted), gradient, point, step, function.where)
        if found is not None:
            return found.text
    return None


def _assert_finite_with_empty_samples(
    op: Callable[..., Any], arguments: Any, shared: Sequence[Any], usual: Outcome
) -> None:
    """No gradient that is finite otherwise is NaN because a sample has no entry."""
    batch_shape = batch_shape_of(arguments)
    for first_only, constants in itertools.product((True, False), (False, True) if shared else (False,)):
        changed = refill(emptied(arguments, first_only=first_only), "nan")
        claim = f"gradients ({'the first sample' if first_only else 'every sample'} empty)"
        options: dict[str, Any] = {"shared": shared, "batch_shape": batch_shape}
        outcome = evaluate(op, changed, constants=constants, claim=claim, **options)
        for name, leaf in outcome.items():
            if not name.startswith("gradient of") or leaf is None:
                continue
            gradient, before = _data_of(leaf), usual.get(name)
            wrong = ~gradient.isfinite()
            if before is not None and _data_of(before).shape == gradient.shape:
                wrong = wrong & _data_of(before).isfinite()
            if wrong.any():
                at = tuple(wrong.nonzero()[0].tolist())
                dims = 0 if is_of_shared(name) or not has_samples(leaf, batch_shape) else len(batch_shape)
                raise violation(claim, f"{name} {place_of(at, dims)}is {gradient[at].item()}", changed, shared)


def _data_of(leaf: Any) -> Tensor:
    return cast(Tensor, leaf.tensor if is_batch(leaf) else leaf)


def _assert_no_gradient(usual: Outcome, arguments: Any, shared: Sequence[Any], constants: Collection[int]) -> None:
    for name, gradient in usual.items():
        found = re.match(r"gradient of (shared )?argument (\d+)", name)
        if found is None or gradient is None:
            continue
        if int(found[2]) + (len(arguments) if found[1] else 0) in constants:
            raise violation("gradients", f"there is a {name}, expected none of a constant", arguments, shared)
