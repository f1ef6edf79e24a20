"""Gradients are those of the values: against finite differences in float64, first and second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.core.terms import total
from losses.functional import numerics
from losses.modules import classes as modules_of_classes
from losses.testing.case import CriterionCase, leaves_of
from losses.testing.properties.comparing import expect
from losses.testing.properties.constants import Constants
from losses.testing.roles import name_of
from matchers.geometry import paired
from ragged.testing import PropertyViolation

_STEPS = (1e-6, 1e-5, 1e-4, 1e-3)
"""So far predictions are moved; the first that agrees will do, for others may cross a kink, or be lost in rounding."""
_MOST = 400
"""Entries that are looked at one by one to find a wrong one."""


@contextmanager
def open_forms() -> Iterator[None]:
    """Losses and overlaps of ours by operations of torch: nobody sees what is constant in a closed form."""
    with (
        mock.patch.object(modules_of_classes, "can_sum_classes", return_value=False),
        mock.patch.object(paired, "has_closed_form", return_value=False),
        mock.patch.object(numerics, "has_closed_form", return_value=False),
    ):
        yield


class Slopes:
    """The terms of a criterion along lines through the predictions, what it detaches being constant."""

    def __init__(self, case: CriterionCase) -> None:
        predictions, targets = case.scene()
        self.case, self.targets, self.criterion = case, targets.to(torch.float64), case.make()
        self.predictions = case.cast(predictions, torch.float64)
        self.leaves = leaves_of(self.predictions)
        self.terms = self.losses(self.predictions)
        self.constants = Constants()
        with open_forms(), self.constants:
            self.losses(self.predictions)
        self._along: dict[tuple[float, bool], dict[str, Tensor]] = {}

    def losses(self, predictions: Any) -> dict[str, Tensor]:
        """The terms."""
        return {
            name: value.sum() for name, value in self.case.losses(self.criterion, predictions, self.targets).items()
        }

    def at(self, moves: list[Tensor], *, held: bool = True) -> dict[str, Tensor]:
        """The terms after a move of each leaf; with what is detached as it was, or as it comes."""
        given = self.moved(moves)
        if not held:
            return self.losses(given)
        with open_forms(), self.constants:
            return self.losses(given)

    def along(self, step: float, *, held: bool = True) -> dict[str, Tensor]:
        """The terms after a step along one direction, computed once for all of them."""
        if (step, held) not in self._along:
            self._along[step, held] = self.at([each * step for each in self.direction(0)], held=held)
        return self._along[step, held]

    def moved(self, moves: list[Tensor]) -> Any:
        """The predictions after a move of each leaf, as leaves that need a gradient."""
        waiting = iter(moves)

        def move(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or not leaf.requires_grad:
                return leaf
            return (leaf.detach() + next(waiting)).requires_grad_()

        return pytree.tree_map(move, self.predictions)

    def name_of_leaf(self, number: int) -> str:
        """``prediction 1 ('pred_boxes')``."""
        leaves, _ = pytree.tree_flatten_with_path(self.predictions)
        paths = [path for path, leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
        name = name_of(paths[number])
        return f"prediction {number}" + (f" ({name!r})" if isinstance(name, str) else "")

    def direction(self, seed: int) -> list[Tensor]:
        """Of every entry 0.5 to 1, of either sign."""
        generator = torch.Generator().manual_seed(seed)

        def one(leaf: Tensor) -> Tensor:
            drawn = torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
            return (drawn + 1) / 2 * torch.randint(0, 2, leaf.shape, generator=generator).mul(2).sub(1)

        return [one(leaf.detach()) for leaf in self.leaves]


def first(case: CriterionCase) -> None:
    """Gradients agree with finite differences in float64, and each term that changes has one, which leads uphill."""
    slopes = Slopes(case)
    for name, term in slopes.terms.items():
        if not term.requires_grad:
            _expect_constant(slopes, name)
            continue
        gradients = torch.autograd.grad(term, slopes.leaves, allow_unused=True, retain_graph=True)
        known = [
            torch.zeros_like(leaf) if each is None else each
            for each, leaf in zip(gradients, slopes.leaves, strict=True)
        ]
        _expect_slope(slopes, name, known)
        if any(each.any() for each in known):
            _expect_uphill(slopes, name, known)
        else:
            _expect_constant(slopes, name)
    _expect_all_layers(slopes)


def _expect_uphill(slopes: Slopes, name: str, gradients: list[Tensor]) -> None:
    """A step along the gradient makes a term larger, whatever it detaches."""
    same = _along(slopes, name, 1e-5), _along(slopes, name, 1e-5, held=False)
    if abs(same[0] - same[1]) <= 1e-4 * abs(same[0]):
        return  # nothing is detached: the gradient is that of the values
    length = float(sum(each.square().sum() for each in gradients)) ** 0.5
    ahead, behind = (
        slopes.at([each * step / length for each in gradients], held=False)[name].detach() for step in (1e-4, -1e-4)
    )
    slope = float(ahead - behind) / 2e-4
    expect(
        slope > -0.1 * length,
        f"a step along the gradient of the term {name} makes it smaller, with the slope {slope:.6g}, expected about "
        f"{length:.6g}: the gradient has the wrong sign",
    )


def _expect_slope(slopes: Slopes, name: str, gradients: list[Tensor]) -> None:
    direction = slopes.direction(0)
    products = [gradient * move for gradient, move in zip(gradients, direction, strict=True)]
    slope = float(sum(each.sum() for each in products))
    scale = float(sum(each.abs().sum() for each in products))
    found = _agreeing(lambda step: _along(slopes, name, step), slope, 1e-3 * scale + 1e-7)
    if found is not None:
        _name_the_entry(slopes, name, gradients)
        problem = f"the slope of the term {name} along a direction in all predictions is {slope:.6g} by its gradient"
        expect(False, f"{problem}, {found:.6g} by finite differences")


def _along(slopes: Slopes, name: str, step: float, *, held: bool = True) -> float:
    ahead, behind = (slopes.along(each, held=held)[name].detach() for each in (step, -step))
    return float(ahead - behind) / (2 * step)


def _difference(slopes: Slopes, name: str, direction: list[Tensor], step: float) -> float:
    ahead, behind = (slopes.at([each * move for each in direction])[name] for move in (step, -step))
    return float((ahead.detach() - behind.detach()) / (2 * step))


def _agreeing(difference: Callable[[float], float], slope: float, tolerance: float) -> float | None:
    """None if a finite difference agrees; the first of them otherwise."""
    first = None
    for step in _STEPS:
        found = difference(step)
        if abs(found - slope) <= tolerance + 1e-3 * abs(found):
            return None
        first = found if first is None else first
    return first


def _name_the_entry(slopes: Slopes, name: str, gradients: list[Tensor]) -> None:
    """Raise with the first entry of the predictions whose gradient is wrong."""
    looked_at = 0
    zeros = [torch.zeros_like(leaf) for leaf in gradients]
    for number, gradient in enumerate(gradients):
        for at in (tuple(index) for index in torch.ones_like(gradient).nonzero().tolist()):
            looked_at += 1
            if looked_at > _MOST:
                return
            direction = [each.clone() for each in zeros]
            direction[number][at] = 1
            slope = gradient[at].item()
            move = _difference_of(slopes, name, direction)
            found = _agreeing(move, slope, 1e-3 * abs(slope) + 1e-6)
            if found is not None:
                raise PropertyViolation(
                    f"criterion: the gradient of the term {name} for {slopes.name_of_leaf(number)} of image {at[0]} at "
                    f"{at[1:]} is {slope:.6g}, by finite differences {found:.6g}"
                )


def _difference_of(slopes: Slopes, name: str, direction: list[Tensor]) -> Callable[[float], float]:
    return lambda step: _difference(slopes, name, direction, step)


def _expect_constant(slopes: Slopes, name: str) -> None:
    """A term without a gradient does not change with the predictions: else something was detached."""
    moved = slopes.at([each * 1e-3 for each in slopes.direction(1)], held=False)[name]
    here = slopes.terms[name].detach()
    expect(
        bool(torch.isclose(moved.detach(), here, rtol=1e-6, atol=1e-9)),
        f"the term {name} changes with the predictions, from {here.item():.6g} to {moved.item():.6g}, but it has "
        "no gradient: it is detached from them. What is only for a log, as_terms= can leave out",
    )


def _expect_all_layers(slopes: Slopes) -> None:
    """Of predictions of the same name and shape, as layers have them, all have a gradient or none."""
    loss = total(slopes.terms)
    gradients = torch.autograd.grad(loss, slopes.leaves, allow_unused=True, retain_graph=True)
    leaves, _ = pytree.tree_flatten_with_path(slopes.predictions)
    paths = [path for path, leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
    groups: dict[Any, list[tuple[str, bool]]] = {}
    for path, leaf, gradient in zip(paths, slopes.leaves, gradients, strict=True):
        learns = gradient is not None and bool(gradient.any())
        if name_of(path) is not None:
            groups.setdefault((name_of(path), leaf.shape), []).append((pytree.keystr(path), learns))
    for group in groups.values():
        without = [name for name, learns in group if not learns]
        if without and len(without) < len(group):
            other = next(name for name, learns in group if learns)
            expect(
                False, f"the predictions {without[0]} have no gradient, though {other} have one: a layer is left out"
            )


def second(case: CriterionCase) -> None:
    """Second derivatives agree with finite differences of the gradient."""
    slopes = Slopes(case)
    one, other = slopes.direction(2), slopes.direction(3)
    names = [name for name, term in slopes.terms.items() if term.requires_grad]
    if not names:
        return
    gradients = _gradients(slopes.terms, names, slopes.leaves, graph=True)
    along = sum((gradient * move).sum() for gradient, move in zip(gradients, one, strict=True))
    slope, scale = 0.0, 1.0
    if isinstance(along, Tensor) and along.requires_grad:
        try:
            seconds = torch.autograd.grad(along, slopes.leaves, allow_unused=True)
        except RuntimeError as error:
            problem = f"torch has no second derivative of the criterion: {error}"
            raise PropertyViolation(f"criterion: {problem}") from error
        products = [each * move for each, move in zip(seconds, other, strict=True) if each is not None]
        slope, scale = float(sum(each.sum() for each in products)), float(sum(each.abs().sum() for each in products))

    def difference(step: float) -> float:
        values = []
        for move in (step, -step):
            given = slopes.moved([each * move for each in other])
            with open_forms(), slopes.constants:
                terms = slopes.losses(given)
            found = _gradients(terms, names, leaves_of(given), graph=False)
            values.append(float(sum((gradient * each).sum() for gradient, each in zip(found, one, strict=True))))
        return (values[0] - values[1]) / (2 * step)

    found = _agreeing(difference, slope, 1e-2 * scale + 1e-5)
    expect(
        found is None,
        f"the second derivative along two directions in all predictions is {slope:.6g}, by finite differences of the "
        f"gradient {found if found is None else round(found, 6)}",
    )


def _gradients(terms: dict[str, Tensor], names: list[str], leaves: list[Tensor], *, graph: bool) -> list[Tensor]:
    loss = total({name: terms[name] for name in names})
    found = torch.autograd.grad(loss, leaves, allow_unused=True, create_graph=graph)
    return [torch.zeros_like(leaf) if each is None else each for each, leaf in zip(found, leaves, strict=True)]
