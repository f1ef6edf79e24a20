"""Two outcomes of a criterion, terms and gradients, and what is different."""

from __future__ import annotations

from typing import Any

import torch

from losses.testing.case import Outcome
from ragged.testing import PropertyViolation


def expect_same(found: Outcome, expected: Outcome, forms: str, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Raise unless terms and gradients are the same; ``forms`` says of what the first and the second are."""
    expect(found[0].keys() == expected[0].keys(), f"gives {list(found[0])}, expected {list(expected[0])} ({forms})")
    pairs = [(f"the term {name}", value, expected[0][name]) for name, value in found[0].items()]
    gradients = zip(found[1], expected[1], strict=True)
    pairs += [(f"the gradient of prediction {place}", one, other) for place, (one, other) in enumerate(gradients)]
    for name, one, other in pairs:
        if one is None or other is None:
            expect(one is other, f"{name} is there in one case only ({forms})")
            continue
        expect_close(name, one, other, forms, rtol, atol)


def expect_close(name: str, one: Any, other: Any, forms: str, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Raise unless two tensors are the same; the message says where they are not, and both values."""
    expect(one.shape == other.shape, f"{name} has shape {tuple(one.shape)}, expected {tuple(other.shape)} ({forms})")
    differs = ~torch.isclose(one, other.to(one.dtype), rtol=rtol, atol=atol, equal_nan=True)
    if differs.any():
        at = tuple(differs.nonzero()[0].tolist())
        expect(False, f"{name} at {at} is {one[at].item()}, expected {other[at].item()} ({forms})")


def expect(ok: bool, problem: str) -> None:
    """Raise, saying what is wrong, unless all is well."""
    if not ok:
        raise PropertyViolation(f"criterion: {problem}")
