"""An operation in float64 as a function of numbers, and finite differences of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.testing.arguments import batch_shape_of, cast, has_samples, is_batch, refill
from ragged.testing.violation import violation
from ragged.values.checks import sample_name

Point = list[Tensor]
Value = Callable[[Point], Tensor]


class Step(NamedTuple):
    """How far finite differences go, and how far slopes may be from the gradient."""

    eps: float
    rtol: float
    atol: float


class Problem(NamedTuple):
    """A gradient that is not the slope; at a tie or kink there is no slope that it should be."""

    text: str
    is_kink: bool


class DoubleFunction:
    """The sums of the results of an operation, as a function of its floating arguments as real float64 tensors."""

    def __init__(
        self, op: Callable[..., Any], arguments: Sequence[Any], shared: Sequence[Any], constants: Collection[int]
    ) -> None:
        self.op, self.count, self.batch_shape = op, len(arguments), batch_shape_of(arguments)
        double = [*refill(cast(list(arguments), torch.float64), "garbage"), *cast(list(shared), torch.float64)]
        self.leaves, self.structure = pytree.tree_flatten(double)
        self.given = (arguments, shared)
        named = [(owner, *pair) for owner, each in enumerate(double) for pair in pytree.tree_flatten_with_path(each)[0]]
        kept = [k for k, (owner, _, leaf) in enumerate(named) if _is_floating(leaf) and owner not in constants]
        self.places = kept
        self.names = [self._name(named[k][0], pytree.keystr(named[k][1])) for k in kept]
        self.inputs = [_real(self.leaves[k].detach().clone()) for k in kept]

    def _name(self, owner: int, path: str) -> str:
        what = f"argument {owner}" if owner < self.count else f"shared argument {owner - self.count}"
        return what + path.removesuffix(".tensor")

    def arguments_at(self, point: Point) -> tuple[Any, ...]:
        """The arguments with other numbers, without the shared ones."""
        given = list(self.leaves)
        for place, value in zip(self.places, point, strict=True):
            given[place] = _as(value.detach().clone(), self.leaves[place])
        return tuple(pytree.tree_unflatten(given, self.structure)[: self.count])

    def results(self, point: Point) -> list[Tensor]:
        """The results that depend on an input, real, with zeros for filler, and for what has no slope: NaN and Inf."""
        given = list(self.leaves)
        for place, value in zip(self.places, point, strict=True):
            given[place] = _as(value, self.leaves[place]).clone()  # which the operation may write into
        try:
            result = self.op(*pytree.tree_unflatten(given, self.structure))
        except RuntimeError as error:
            if "dtype" not in str(error):
                raise
            advice = "if it holds a tensor (a closure, a layer in it), pass that in shared=, to be cast along"
            raise violation("gradients", f"float64 arguments: {error}; {advice}", *self.given) from error
        leaves = pytree.tree_leaves(result, is_leaf=is_batch)
        entries = [torch.where(leaf.aligned_mask, leaf.tensor, 0) if is_batch(leaf) else leaf for leaf in leaves]
        reals = [_real(entry) for entry in entries if isinstance(entry, Tensor) and entry.requires_grad]
        return [torch.where(entry.isfinite(), entry, 0) for entry in reals]

    def value(self, point: Point, *, weighted: bool) -> Tensor:
        """The sum of all results, or a sum with weights that differ from entry to entry."""
        entries = self.results([each.requires_grad_() for each in point])
        sums = [(entry * _directions(entry)).sum() if weighted else entry.sum() for entry in entries]
        return torch.stack([each.double() for each in sums]).sum() if sums else torch.zeros((), dtype=torch.float64)

    def gradient(self, point: Point, *, weighted: bool, again: bool = False) -> list[Tensor]:
        """Of ``value``; with ``again`` it has a gradient itself."""
        point = [each if again and each.requires_grad else each.detach().requires_grad_() for each in point]
        total = self.value(point, weighted=weighted)
        if not total.requires_grad:
            return [torch.zeros_like(each) for each in point]
        found = torch.autograd.grad(total, point, create_graph=again, allow_unused=True)
        return [torch.zeros_like(each) if g is None else g for each, g in zip(point, found, strict=True)]

    def where(self, number: int, index: int) -> str:
        """A number among the inputs, in words."""
        leaf, position = self.inputs[number], []
        for size in reversed(leaf.shape):
            position.append(index % size)
            index //= size
        at = tuple(reversed(position))
        name = self.names[number]
        dims = len(self.batch_shape) if not name.startswith("shared") and has_samples(leaf, self.batch_shape) else 0
        of_sample = f" of {sample_name(at[:dims])}" if dims else ""
        return f"gradient of {name}{of_sample}" + (f" at position {at[dims:]}" if at[dims:] else "")


def moved(point: Point, distance: float, seed: int = 0) -> Point:
    """Numbers a little further from 0, each by another amount: ties and kinks are left, domains seldom."""
    if not distance:
        return [each.detach().clone() for each in point]
    generator = torch.Generator().manual_seed(seed)
    shares = [torch.rand(each.shape, generator=generator, dtype=torch.float64) for each in point]
    away = [torch.where(each < 0, -1.0, 1.0) * (each.abs() + 0.1) for each in point]
    return [
        (each + distance * (0.1 + share) * far).detach() for each, share, far in zip(point, shares, away, strict=True)
    ]


def difference(value: Value, gradient: list[Tensor], point: Point, step: Step, seed: int) -> Problem | None:
    """What is wrong with the slope along a random direction, if it is not the gradient's."""
    generator = torch.Generator().manual_seed(seed)
    ways = [torch.rand(each.shape, generator=generator, dtype=torch.float64) * 2 - 1 for each in point]
    expected = sum(float((g * way).sum()) for g, way in zip(gradient, ways, strict=True))
    return compared(value, expected, point, ways, step)


def compared(value: Value, expected: float, point: Point, ways: list[Tensor], step: Step) -> Problem | None:
    """The slope along a direction, and what is expected of it."""

    def at(distance: float) -> float:
        return value([(each + distance * way).detach() for each, way in zip(point, ways, strict=True)]).item()

    here, ahead, behind = at(0), at(step.eps), at(-step.eps)
    right, left = (ahead - here) / step.eps, (here - behind) / step.eps
    slope = (ahead - behind) / (2 * step.eps)
    wrong = abs(slope - expected)
    noise = 1e-15 * abs(here) / step.eps
    if wrong <= step.atol + step.rtol * max(abs(slope), abs(expected)) + 8 * noise:
        return None
    # Beside a gradient that is not finite, equal slopes are those of a smooth function. NaN is no slope. Where a value
    # jumps on both sides, slopes may be equal, but a smaller step makes them steeper.
    wrong = wrong if math.isfinite(expected) else 1e-3 * (1 + abs(slope))
    closer = (at(step.eps / 4) - at(-step.eps / 4)) / (step.eps / 2)
    is_kink = not (abs(right - left) < wrong and abs(slope - closer) < wrong / 2)
    return Problem(f"is {expected:.6g}, expected {slope:.6g} by finite differences", is_kink)


def located(
    value: Value, gradient: list[Tensor], point: Point, step: Step, where: Callable[[int, int], str]
) -> Problem | None:
    """The first entry whose derivative is wrong, at no kink, and where there is none, the first at one."""
    kink = None
    for number, each in enumerate(point):
        for index in range(min(each.numel(), 300)):
            ways = [torch.zeros_like(other) for other in point]
            ways[number].view(-1)[index] = 1
            problem = compared(value, float(gradient[number].reshape(-1)[index]), point, ways, step)
            if problem is not None:
                named = Problem(f"{where(number, index)} {problem.text}", problem.is_kink)
                if not problem.is_kink:
                    return named
                kink = kink or named
    return kink


def _directions(entry: Tensor) -> Tensor:
    """Numbers from 0.5 to 1.5, the same for each shape."""
    return torch.rand(entry.shape, generator=torch.Generator().manual_seed(entry.dim()), dtype=torch.float64) + 0.5


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _as(value: Tensor, like: Tensor) -> Tensor:
    return torch.view_as_complex(value) if like.is_complex() else value


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
