"""A matcher that is checked: its errors become violations, and what it gives is comparable by image and prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from hypothesis.errors import HypothesisException
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments.assignment import Assignment, Plan
from matchers.testing.scene import Scene
from ragged.testing import PropertyViolation

Matcher = Callable[..., Assignment | Plan]
Parts = dict[str, Tensor]
REFUSALS = (ValueError, TypeError, KeyError, NotImplementedError)
"""What a matcher or criterion says of something that it does not take."""
# How often, and by how much of their size, predictions are moved to see whether a tie decides.
_TRIALS, _NUDGE = 6, 1e-5


class UnderTest:
    """Calls the matcher with its priors.

    Args:
        matcher: As for ``check_matcher``.
        priors: None if it takes none.
        rtol, atol: How far qualities and weights may differ.
    """

    def __init__(self, matcher: Matcher, priors: Tensor | None, rtol: float, atol: float) -> None:
        self.matcher, self.rtol, self.atol = matcher, rtol, atol
        self.priors: tuple[Tensor, ...] = () if priors is None else (priors,)
        self._known: tuple[Scene, Parts] | None = None

    def with_priors(self, priors: Tensor | None) -> UnderTest:
        """The same matcher for other priors."""
        return UnderTest(self.matcher, priors, self.rtol, self.atol)

    def __call__(self, predictions: Any, targets: Any, *priors: Tensor) -> Any:
        """What the matcher gives; an error of its own is the cause of a violation."""
        try:
            return self.matcher(predictions, targets, *priors)
        except (PropertyViolation, HypothesisException):
            raise
        except Exception as error:
            raise PropertyViolation(f"the matcher raises {type(error).__name__}: {error}") from error

    def parts(self, scene: Scene, *, priors: tuple[Tensor, ...] | None = None) -> Parts:
        """What it gives for a scene, by name."""
        given = self.priors if priors is None else priors
        return parts_of(self(_detached(scene.predictions), scene.targets, *given))

    def first(self, scene: Scene) -> Parts:
        """The same, computed once for a scene that several properties look at."""
        if self._known is None or self._known[0] is not scene:
            self._known = (scene, self.parts(scene))
        return self._known[1]

    def expect_same(self, found: Parts, expected: Parts, claim: str, scene: Scene | None = None) -> None:
        """Raise unless both results are the same; the message names the image, the prediction and both values.

        Given the scene that was matched, images do not count where a tie decides.
        """
        if found.keys() != expected.keys():
            raise PropertyViolation(f"{claim}: there are {list(found)}, expected {list(expected)}")
        for name, one in found.items():
            other = expected[name]
            if one.shape != other.shape:
                raise PropertyViolation(f"{claim}: {name} has shape {tuple(one.shape)}, expected {tuple(other.shape)}")
            differs = ~torch.isclose(one, other, rtol=self.rtol, atol=self.atol, equal_nan=True)
            if scene is not None and differs.any():
                differs = differs & ~self._has_ties(scene).view(-1, *(1,) * (differs.dim() - 1))
            if differs.any():
                at = tuple(differs.nonzero()[0].tolist())
                raise PropertyViolation(
                    f"{claim}: {name} of {place(at)} is {one[at].item():.6g}, expected {other[at].item():.6g}"
                )

    def _has_ties(self, scene: Scene) -> Tensor:
        """``(B,)``: whether predictions that are hardly other ones have another result."""
        first = self.first(scene)
        found = torch.zeros(scene.targets.batch_shape, dtype=torch.bool)
        for seed in range(_TRIALS):
            moved = nudged(scene.predictions, torch.Generator().manual_seed(seed))
            for name, part in self.parts(replace(scene, predictions=moved)).items():
                other = ~torch.isclose(part, first[name], rtol=1e-2, atol=1e-2, equal_nan=True)
                found |= other.flatten(1).any(1) if other.dim() > 1 else other
        return found


def nudged(predictions: Any, generator: torch.Generator) -> Any:
    """The same predictions, each number a little larger or smaller."""

    def nudge(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        noise = torch.rand(leaf.shape, generator=generator) - 0.5
        return leaf.detach() + (noise * _NUDGE * (1 + leaf.detach().abs())).to(leaf)

    return pytree.tree_map(nudge, predictions)


def unless_refused(call: Callable[[], Parts]) -> Parts | None:
    """What the call gives; None if the matcher refuses what it is given, with an error that says so."""
    try:
        return call()
    except PropertyViolation as violation:
        if isinstance(violation.__cause__, REFUSALS):
            return None
        raise


def place(at: tuple[int, ...]) -> str:
    """A position ``(image, prediction, target)`` in words; dimensions in front of the image are layers."""
    names = ("image", "prediction", "target")
    return ", ".join(f"{name} {index}" for name, index in zip(names, at, strict=False))


def parts_of(result: Any) -> Parts:
    """The tensors of a result: (B, P), and of a plan (B, P, G) with 0 for filler."""
    if isinstance(result, Assignment):
        return {"target_index": result.target_index, "quality": result.quality.detach()}
    if isinstance(result, Plan):
        weights = result.weights.with_padded_set_to(0).tensor.detach()
        return {"weights": weights, "background": result.background.detach()}
    raise PropertyViolation(
        f"the result is a {type(result).__name__}, no Assignment or Plan: Assignment.from_index makes one of an index"
    )


def _detached(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)
