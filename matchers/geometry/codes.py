"""Parameters of boxes with a weight each, as detectors in 3D regress them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ragged.values.checks import (
    check_is_sequence,
    check_is_tensor,
    check_not_negative,
    check_same_device,
)


def check_codes(found: Tensor, wanted: Tensor, name: str, other: str) -> None:
    """Raise unless these are floating tensors ``(…, D)`` of as many parameters."""
    for values, own in ((found, name), (wanted, other)):
        check_is_tensor(values, own)
        if not values.is_floating_point():
            raise TypeError(f"{own} must have a floating dtype, got {values.dtype}; convert with .float()")
        if values.dim() == 0:
            raise ValueError(f"{own} must have shape (…, D), got ()")
    if found.shape[-1] != wanted.shape[-1]:
        raise ValueError(
            f"{name} and {other} must have as many parameters D, got shapes {tuple(found.shape)} and "
            f"{tuple(wanted.shape)}"
        )
    check_same_device(wanted.device, found.device, name=other, reference=name)


def checked_code_weights(weights: Sequence[float], count: int | None = None) -> tuple[float, ...]:
    """The weights as numbers; raises if one is negative, or if there are not as many as parameters."""
    check_is_sequence(weights, "code_weights", "numbers")
    for weight in weights:
        check_not_negative(weight, "each of code_weights")
    if count is not None and len(weights) != count:
        raise ValueError(f"code_weights must have a number for each of the {count} parameters, got {len(weights)}")
    return tuple(map(float, weights))
