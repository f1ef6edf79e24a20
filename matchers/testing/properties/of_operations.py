"""A matcher as an operation on predictions and targets: what ``ragged.testing`` says of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.pairs.predictions import Predictions
from matchers.testing.scene import Scene
from matchers.testing.under_test import UnderTest
from ragged.testing import assert_compiles, assert_no_host_sync


def by_kit(checker: Callable[..., None], exact: bool = False) -> Callable[[UnderTest, Scene], None]:
    """A checker of operations, for the matcher as an operation on predictions and targets."""

    def check(matcher: UnderTest, scene: Scene) -> None:
        options = {} if exact else {"rtol": matcher.rtol, "atol": matcher.atol}
        scene = _one_layer(scene)
        arguments = (scene.predictions, scene.targets)
        # Matching is not differentiated: gradients of a matcher that forgets to detach are its own affair.
        checker(lambda *given: matcher(*_detached(given)), *arguments, shared=matcher.priors, **options)

    return check


def compilation(matcher: UnderTest, scene: Scene) -> None:
    """One graph, the same values."""
    scene = _one_layer(scene)
    options = {"rtol": matcher.rtol, "atol": matcher.atol}
    assert_compiles(matcher.matcher, scene.predictions, scene.targets, shared=matcher.priors, **options)


def synchronisation(matcher: UnderTest, scene: Scene) -> None:
    """Nothing waits for the device."""
    assert_no_host_sync(matcher.matcher, scene.predictions, scene.targets, *matcher.priors)


def _one_layer(scene: Scene) -> Scene:
    """Without the batch dimensions that only predictions have."""
    extra = len(scene.predictions.batch_shape) - len(scene.targets.batch_shape)
    if not extra:
        return scene
    first: Predictions = pytree.tree_map(lambda leaf: leaf[(0,) * extra], scene.predictions)
    return Scene(first, scene.targets)


def _detached(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)
