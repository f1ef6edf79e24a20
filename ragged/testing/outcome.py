"""What an operation gives, values and gradients, and the comparison of two such outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from hypothesis.errors import HypothesisException
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import Position, has_samples, is_batch, map_leaves, named_leaves
from ragged.testing.as_code import as_code
from ragged.values.checks import sample_name
from ragged.values.precision import widest

Outcome = dict[str, Any]


class PropertyViolation(AssertionError):
    """An operation does not keep to a property; the message names it, the first sample, the position, the values."""


class Tolerance(NamedTuple):
    """How far values may differ; None means what is usual for the dtype."""

    rtol: float | None = None
    atol: float | None = None

    def of(self, dtype: torch.dtype) -> tuple[float, float]:
        """Relative and absolute tolerance for a dtype."""
        usual = {torch.float16: (1e-3, 1e-5), torch.bfloat16: (1.6e-2, 1e-5), torch.float64: (1e-7, 1e-7)}
        rtol, atol = usual.get(dtype, (1.3e-6, 1e-5) if dtype.is_floating_point or dtype.is_complex else (0.0, 0.0))
        return rtol if self.rtol is None else self.rtol, atol if self.atol is None else self.atol


EXACT = Tolerance(0.0, 0.0)
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
) -> Outcome:
    """Results of ``op(*arguments, *shared)`` by name, and the gradient of each floating argument, shared ones included.

    What is differentiated is a weighted sum of all entries of all results, filler excepted. The weight of an entry
    depends on its position in its sample, not on the sample, so that it moves along when samples do.

    With ``constants``, shared arguments alone are differentiated, as the weights of a layer are on data.

    With a ``claim``, that the operation works in this form of its arguments, an error of the operation is a violation
    of it. Without, the error comes out as it is.
    """
    if gradients:
        arguments = arguments if constants else map_leaves(_leaf_with_gradient, arguments)
        shared = map_leaves(_leaf_with_gradient, shared)
    leaves, structure = pytree.tree_flatten((list(arguments), list(shared)), is_leaf=is_batch)
    # A copy, for an operation may write into what it is given, and torch lets none write into a leaf.
    given = [_with_data(leaf, _data(leaf).clone()) if _needs_gradient(leaf) else leaf for leaf in leaves]
    try:
        of_samples, of_all = pytree.tree_unflatten(given, structure)
        result = op(*of_samples, *of_all)
    except (PropertyViolation, HypothesisException):
        raise
    except Exception as error:
        if claim is None:
            raise
        raise violation(claim, f"the operation raises {type(error).__name__}: {error}", arguments) from error
    outcome = named_leaves(result, "result")
    if all(leaf is None for leaf in outcome.values()):
        raise TypeError("the operation gives no result that could be checked")
    differentiable = [_weighted_sum(leaf, batch_shape) for leaf in outcome.values() if _needs_gradient(leaf)]
    outcome = {name: _detached(leaf) for name, leaf in outcome.items()}
    if not gradients or not differentiable:
        return outcome
    inputs = {
        name: leaf
        for what, values in zip(("argument", "shared argument"), pytree.tree_unflatten(leaves, structure), strict=True)
        for place, value in enumerate(values)
        for name, leaf in named_leaves(value, f"{what} {place}").items()
        if _needs_gradient(leaf)
    }
    if not inputs:  # what is differentiated are parameters of the operation itself
        return outcome
    total = torch.stack([each.to(widest(each.device)) for each in differentiable]).sum()
    found = torch.autograd.grad(total, [_data(leaf) for leaf in inputs.values()], allow_unused=True)
    for (name, leaf), gradient in zip(inputs.items(), found, strict=True):
        outcome[f"gradient of {name}"] = None if gradient is None else _with_data(leaf, gradient)
    return outcome


def is_of_shared(name: str) -> bool:
    """Whether a part of an outcome is the gradient of a shared argument, to which all samples add."""
    return name.startswith(_OF_SHARED)


def without_shared(outcome: Outcome) -> Outcome:
    """The parts of an outcome that samples have."""
    return {name: leaf for name, leaf in outcome.items() if not is_of_shared(name)}


def sum_of_shared(outcomes: Sequence[Outcome]) -> Outcome:
    """Gradients of shared arguments, added up over outcomes of single samples."""
    total: Outcome = {}
    for name, leaf in (item for outcome in outcomes for item in outcome.items()):
        if is_of_shared(name):
            known = total.get(name)
            total[name] = leaf if known is None else known if leaf is None else known + leaf
    return total


def assert_same(
    found: Outcome,
    expected: Outcome,
    *,
    claim: str,
    arguments: Any,
    batch_shape: Position,
    tolerance: Tolerance,
) -> None:
    """Raise ``PropertyViolation`` unless both outcomes are the same; filler does not count."""
    problem = first_difference(found, expected, batch_shape, tolerance)
    if problem is not None:
        raise violation(claim, problem, arguments)


def violation(claim: str, problem: str, arguments: Any) -> PropertyViolation:
    """The exception: what should hold, what does not, and the arguments to see it with."""
    return PropertyViolation(f"{claim}: {problem}\nReproduce with\n    arguments = {as_code(tuple(arguments))}")


def first_difference(found: Outcome, expected: Outcome, batch_shape: Position, tolerance: Tolerance) -> str | None:
    """The first difference of two outcomes in words, or None. A gradient without entries may be missing."""
    found, expected = _with_needed_gradients(found), _with_needed_gradients(expected)
    if found.keys() != expected.keys():
        return f"there are {', '.join(found) or 'no results'}, expected {', '.join(expected) or 'none'}"
    for name, one in found.items():
        problem = _difference(one, expected[name], () if is_of_shared(name) else batch_shape, tolerance)
        if problem is not None:
            return f"{name} {problem}"
    return None


def _with_needed_gradients(outcome: Outcome) -> Outcome:
    def is_needless(leaf: Any) -> bool:
        return leaf is None or _data(leaf).numel() == 0 or (is_batch(leaf) and not leaf.sample_sizes.any())

    return {name: leaf for name, leaf in outcome.items() if not (name.startswith("gradient of") and is_needless(leaf))}


def _difference(one: Any, other: Any, batch_shape: Position, tolerance: Tolerance) -> str | None:
    if is_batch(one) and is_batch(other):
        return _difference_of_batches(one, other, tolerance)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        dims = len(batch_shape) if has_samples(one, batch_shape) else 0
        return _difference_of_tensors(one, other, None, dims, tolerance)
    if isinstance(one, (Tensor, RaggedBatch)) or isinstance(other, (Tensor, RaggedBatch)) or one != other:
        return f"is {_shortly(one)}, expected {_shortly(other)}"
    return None


def _difference_of_batches(one: RaggedBatch, other: RaggedBatch, tolerance: Tolerance) -> str | None:
    sizes = _difference_of_tensors(one.sample_sizes, other.sample_sizes, None, one.num_batch_dims, EXACT)
    if sizes is not None:
        return f"has other sample sizes: {sizes}"
    if one.ragged_axis != other.ragged_axis:
        return f"is ragged along dimension {one.non_uniform_dim}, expected {other.non_uniform_dim}"
    width = min(one.max_sample_size, other.max_sample_size)  # every entry lies below it, for sizes are the same
    one, other = (batch.with_max_sample_size(width) for batch in (one, other))
    mask = one.aligned_mask.expand(one.shape) if one.dim() == other.dim() else None
    return _difference_of_tensors(one.tensor, other.tensor, mask, one.num_batch_dims, tolerance)


def _difference_of_tensors(
    one: Tensor, other: Tensor, mask: Tensor | None, batch_dims: int, tolerance: Tolerance
) -> str | None:
    if one.shape != other.shape:
        return f"has shape {tuple(one.shape)}, expected {tuple(other.shape)}"
    if one.dtype != other.dtype:
        return f"has dtype {one.dtype}, expected {other.dtype}"
    rtol, atol = tolerance.of(one.dtype)
    differs = ~torch.isclose(one, other, rtol=rtol, atol=atol, equal_nan=True)
    differs = differs if mask is None else differs & mask
    if not differs.any():
        return None
    at = tuple(differs.nonzero()[0].tolist())
    where = f"of {sample_name(at[:batch_dims])} " if batch_dims else ""
    place = f"at position {at[batch_dims:]} " if at[batch_dims:] else ""
    return f"{where}{place}is {one[at].item()}, expected {other[at].item()}"


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


def _shortly(value: Any) -> str:
    if isinstance(value, (Tensor, RaggedBatch)):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    return repr(value)
