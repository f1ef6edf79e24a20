"""Predictions that differ in number from image to image, as padded tensors whose filler is clean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ragged import RaggedBatch
from ragged.batch.layout import check_same_sizes
from ragged.values.checks import check_same_device


def padded(parts: Mapping[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    """The parts of predictions with 0 in their filler, and how many predictions each image has.

    Args:
        parts: Tensors ``(*batch, P, …)`` or ragged batches of that shape by name; None where there is none.

    Returns:
        Tensors by name; and sizes ``(*batch,)``, or None if no part is ragged: then nothing has changed.

    Raises:
        ValueError: Some parts are ragged and others not, or ragged along another dimension, or sizes differ.
    """
    ragged = {name: part for name, part in parts.items() if isinstance(part, RaggedBatch)}
    if not ragged:
        return dict(parts), None
    (reference, first), *_ = ragged.items()
    filler = ~first.mask
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if part is not None:
            _check_fits(name, part, reference, first)
            part = part.tensor.masked_fill(filler.view(*filler.shape, *(1,) * (part.dim() - filler.dim())), 0)
        found[name] = part
    return found, first.sample_sizes


def _check_fits(name: str, part: Any, reference: str, first: RaggedBatch) -> None:
    """Raise unless a part is ragged along its predictions, as the first one is."""
    if not isinstance(part, RaggedBatch):
        raise ValueError(
            f"{reference} of the predictions are ragged, and {name} are {type(part).__name__}: give all of them as "
            f"ragged batches, with {reference}.create_with_sample_sizes_like_self({name})"
        )
    if part.ragged_axis != 0:
        raise ValueError(
            f"{name} of predictions must be ragged along P in (*batch, P, …), got {tuple(part.shape)} with "
            f"non_uniform_dim={part.non_uniform_dim}"
        )
    if part is first:
        return
    check_same_device(part.device, first.device, name=name, reference=reference)
    check_same_sizes(part, first, what=f"{name} and {reference} of the predictions")
    if part.max_sample_size != first.max_sample_size:
        raise ValueError(
            f"{name} are padded to {part.max_sample_size} predictions, {reference} to {first.max_sample_size}; use "
            "with_max_sample_size on one of them"
        )
