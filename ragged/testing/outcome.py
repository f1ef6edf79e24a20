"""What an operation gives: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis.errors import HypothesisException
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import Position, UnknownLeaf, has_samples, is_batch, map_leaves, named_leaves, take
from ragged.testing.violation import PropertyViolation, violation, with_call
from ragged.values.precision import widest

Outcome = dict[str, Any]

_OF_SHARED = "gradient of shared argument"


def evaluate(
    op: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    shared: Sequence[Any] = (),
    batch_shape: Position = (),
    gradients: bool = True,
    constants: bool = False,
    claim: str | None = None,
    what: str = "op",
) -> Outcome:
    """Results of ``op(*arguments, *shared)`` by name, and the gradient of each floating argument, shared ones included.

    What is differentiated is a weighted sum of all entries of all results, filler excepted. The weight of an entry
    depends on its position in its sample, not on the sample, so that it moves along when samples do.

    With ``constants``, shared arguments alone are differentiated, as the weights of a layer are on data.

    With a ``claim``, that the operation works in this form of its arguments, an error of the operation is a violation
    of it. Without, the error comes out as it is, with a note of the call, in which the callable is named ``what``.
    """
    given, given_shared = arguments, shared
    if gradients:
        arguments = arguments if constants else map_leaves(_leaf_with_gradient, arguments)
        shared = map_leaves(_leaf_with_gradient, shared)
    leaves, structure = pytree.tree_flatten((list(arguments), list(shared)), is_leaf=is_batch)
    try:
        outcome = named_results(_call(op, leaves, structure))
        results = list(outcome.values())
        outcome = {name: _detached(leaf) for name, leaf in outcome.items()}
        if gradients:
            outcome |= _gradients(results, batch_shape, *pytree.tree_unflatten(leaves, structure))
    except (UnknownLeaf, NoResult, PropertyViolation, HypothesisException):
        raise
    except Exception as error:
        if claim is None:
            with_call(error, what, given, given_shared)
            raise
        problem = f"the operation raises {type(error).__name__}: {error}"
        raise violation(claim, problem, given, given_shared) from error
    return outcome


class NoResult(TypeError):
    """An operation gives nothing that can be compared."""


def named_results(result: Any) -> Outcome:
    """The parts of a result by name.

    Raises:
        NoResult: There are none, or they are None.
    """
    outcome = named_leaves(result, "result")
    if all(leaf is None for leaf in outcome.values()):
        raise NoResult("the operation gives no result that could be checked")
    return outcome


def _call(op: Callable[..., Any], leaves: list[Any], structure: pytree.TreeSpec) -> Any:
    """What it returns of a copy, for it may write into what it is given, and torch lets none write into a leaf."""
    copies = [_with_data(leaf, _data(leaf).clone()) if _needs_gradient(leaf) else leaf for leaf in leaves]
    of_samples, of_all = pytree.tree_unflatten(copies, structure)
    default = torch.get_default_dtype()
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # both may be changed by an operation
            return op(*of_samples, *of_all)
    finally:
        if torch.get_default_dtype() != default:
            torch.set_default_dtype(default)


def _gradients(results: list[Any], batch_shape: Position, arguments: Any, shared: Any) -> Outcome:
    """Of a sum of all results; none where parameters of the operation itself are differentiated."""
    differentiable = [_weighted_sum(leaf, batch_shape) for leaf in results if _needs_gradient(leaf)]
    inputs = {
        name: leaf
        for what, values in (("argument", arguments), ("shared argument", shared))
        for place, value in enumerate(values)
        for name, leaf in named_leaves(value, f"{what} {place}").items()
        if _needs_gradient(leaf)
    }
    if not inputs or not differentiable:
        return {}
    total = torch.stack([each.to(widest(each.device)) for each in differentiable]).sum()
    found = torch.autograd.grad(total, [_data(leaf) for leaf in inputs.values()], allow_unused=True)
    return {
        f"gradient of {name}": None if gradient is None else _with_data(leaf, gradient)
        for (name, leaf), gradient in zip(inputs.items(), found, strict=True)
    }


def is_of_shared(name: str) -> bool:
    """Whether a part of an outcome is the gradient of a shared argument, to which all samples add."""
    return name.startswith(_OF_SHARED)


def without_shared(outcome: Outcome) -> Outcome:
    """The parts of an outcome that samples have."""
    return {name: leaf for name, leaf in outcome.items() if not is_of_shared(name)}


def of_sample(outcome: Outcome, position: Position, batch_shape: Position) -> Outcome:
    """The part of an outcome that one sample has, as a batch of one."""
    return dict(zip(outcome, take(list(outcome.values()), position, batch_shape), strict=True))


def sum_of_shared(outcomes: Sequence[Outcome]) -> Outcome:
    """Gradients of shared arguments, added up over outcomes of single samples."""
    total: Outcome = {}
    for name, leaf in (item for outcome in outcomes for item in outcome.items()):
        if is_of_shared(name):
            known = total.get(name)
            total[name] = leaf if known is None else known if leaf is None else known + leaf
    return total


def _leaf_with_gradient(leaf: Any) -> Any:
    data = _data(leaf)
    if not isinstance(data, Tensor) or not (data.is_floating_point() or data.is_complex()):
        return leaf
    return _with_data(leaf, data.detach().clone().requires_grad_())


def _weighted_sum(leaf: Any, batch_shape: Position) -> Tensor:
    data = _data(leaf)
    skipped = len(batch_shape) if has_samples(leaf, batch_shape) else 0
    if is_batch(leaf):
        skipped = leaf.num_batch_dims
        data = torch.where(leaf.aligned_mask, data, 0)
    wide = widest(data.device)
    angle = torch.ones((), dtype=wide, device=data.device)
    for dim in range(skipped, data.dim()):
        index = torch.arange(1, data.shape[dim] + 1, dtype=wide, device=data.device)
        angle = angle + (0.7 + 0.37 * (dim - skipped)) * index.view(-1, *(1,) * (data.dim() - dim - 1))
    values = real_parts(data)
    return (values * (1.25 + angle.cos()).to(values.dtype)).sum()


def real_parts(data: Tensor) -> Tensor:
    """The data, or of complex numbers the sums of real and imaginary part."""
    return data.real + data.imag if data.is_complex() else data


def _data(leaf: Any) -> Any:
    return leaf.tensor if is_batch(leaf) else leaf


def _with_data(leaf: Any, data: Tensor) -> Any:
    return leaf.create_with_sample_sizes_like_self(data) if is_batch(leaf) else data


def _needs_gradient(leaf: Any) -> bool:
    data = _data(leaf)
    return isinstance(data, Tensor) and data.requires_grad


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, (Tensor, RaggedBatch)) else leaf
