"""Layers of predictions: all are treated alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.core.terms import total
from losses.testing.case import CriterionCase
from losses.testing.properties.comparing import expect
from losses.testing.roles import is_of_images


def layers(case: CriterionCase) -> None:
    """Two auxiliary layers exchanged: the sum of all terms stays."""
    predictions, targets = case.scene()
    before = _total(case, predictions, targets)
    for what, change in _exchanges(case, predictions):
        after = _total(case, change(predictions), targets)
        expect(
            bool(torch.isclose(after, before, rtol=1e-4, atol=1e-5)),
            f"the sum of all terms is {after.item():.6g} with {what}, expected {before.item():.6g} as before: a layer "
            "counts more than another",
        )


def has_layers(case: CriterionCase) -> bool:
    """Whether there are layers that can be exchanged."""
    return bool(_exchanges(case, case.scene()[0]))


def _exchanges(case: CriterionCase, predictions: Any) -> list[tuple[str, Callable[[Any], Any]]]:
    return [
        (f"the first and the last of {key!r} exchanged", partial(_with_ends_exchanged, key=key))
        for key, value in (predictions.items() if isinstance(predictions, dict) else ())
        if isinstance(value, (list, tuple)) and len(value) > 1 and _are_alike(value)
    ]


def _are_alike(layers: Any) -> bool:
    shapes = [[leaf.shape for leaf in pytree.tree_leaves(each) if is_of_images(leaf)] for each in layers]
    return bool(shapes[0]) and all(each == shapes[0] for each in shapes) and all(isinstance(x, dict) for x in layers)


def _with_ends_exchanged(predictions: Any, key: str) -> Any:
    own = list(predictions[key])
    own[0], own[-1] = own[-1], own[0]
    return {**predictions, key: type(predictions[key])(own)}


def _total(case: CriterionCase, predictions: Any, targets: Any) -> Tensor:
    terms = case.losses(case.make(), predictions, targets)
    return total({name: value.sum() for name, value in terms.items()}).detach()
