"""Criteria that bugs are planted into: what catches them is a property of ``losses.testing``, or the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from losses import total
from losses.testing import CRITERION_PROPERTIES, CriterionCase, leaves_of
from matchers import Targets
from tests.mutation.planting import REFERENCE

Reference = Callable[[Any, Any, Targets], dict[str, Tensor]]
SIZES = [3, 0, 1]


@dataclass(frozen=True)
class OfCriterion:
    """A criterion; the class of what its case makes is looked for in the copy that has the bug."""

    case: CriterionCase
    reference: Reference

    def find(self, code: Callable[[str], Any], properties: Sequence[str]) -> dict[str, str]:
        """The first of ``properties`` that the criterion lacks; see ``planting.Case``."""
        kind = type(self.case.make())
        planted = getattr(code(kind.__module__), kind.__name__)

        def make(**options: Any) -> Any:
            criterion = self.case.make(**options)
            criterion.__class__ = planted
            return criterion

        case = replace(self.case, make=make)
        for name in properties:
            try:
                if name == REFERENCE:
                    assert_as_reference(case, self.reference, SIZES)
                else:
                    CRITERION_PROPERTIES[name](case)
            except AssertionError as violation:
                return {name: str(violation).splitlines()[0]}
        return {}


def assert_as_reference(
    case: CriterionCase, reference: Reference, sizes: Sequence[int], dtype: torch.dtype = torch.float64
) -> None:
    """Assert that the terms, and the gradients of their sum, are those of the reference.

    Raises:
        AssertionError: They are not.
    """
    tolerance = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    criterion = case.make()
    predictions, targets = case.cast(case.predictions(sizes), dtype), case.targets(sizes).to(dtype)
    found = case.losses(criterion, predictions, targets)
    expected = reference(criterion, predictions, targets)
    assert found.keys() == expected.keys(), f"terms are {sorted(found)}, expected {sorted(expected)}"
    leaves = leaves_of(predictions)
    gradients = []
    for losses in (found, expected):
        parts = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in losses.items()}
        known = {name: value for name, value in parts.items() if value.requires_grad}
        gradients.append(torch.autograd.grad(total(known), leaves, materialize_grads=True))
    for name, value in found.items():
        wanted = torch.as_tensor(expected[name]).double().detach()
        torch.testing.assert_close(
            value.detach().double(), wanted, **tolerance, msg=lambda text, n=name: f"{n}: {text}"
        )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, **tolerance)
