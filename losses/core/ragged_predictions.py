"""Predictions whose number differs from image to image: their filler has no loss."""

from __future__ import annotations

from torch import Tensor

from matchers.assignments.parts import IGNORED
from ragged import RaggedBatch
from ragged.values.checks import check_values, sample_name
from ragged.values.sizes import prefix_mask


def check_filler_is_ignored(labels: Tensor, sizes: Tensor | None) -> None:
    """Raise ``ValueError``, naming the sample, unless filler has no label and is no background either.

    Args:
        labels: ``(*batch, P)``, classes or indices of targets, or below 0 as in an ``Assignment``.
        sizes: ``(*batch,)``, how many of P predictions there are; None for all.
    """
    if sizes is None or labels.shape[:-1] != sizes.shape:  # another shape is for others to refuse
        return
    check_values(
        (labels == IGNORED) | prefix_mask(sizes, labels.shape[-1]),
        lambda at: (
            f"prediction {at[-1]} of {sample_name(at[:-1])} is filler, as there are {int(sizes[at[:-1]])} predictions, "
            f"and must be ignored ({IGNORED}), got {int(labels[at])}; matchers by cost of this package do so, one of "
            "your own sees Predictions.mask"
        ),
        summary="a loss of ragged predictions: filler is not ignored",
    )


def check_filler_has_no_mass(weights: Tensor, background: Tensor, sizes: Tensor | None) -> None:
    """Raise ``ValueError``, naming the sample, unless the weights and background of filler are 0.

    Args:
        weights: ``(*batch, P, G)``, finite.
        background: ``(*batch, P)``, finite.
        sizes: ``(*batch,)``, how many of P predictions there are; None for all.
    """
    if sizes is None:
        return
    check_values(
        ((background == 0) & (weights == 0).all(-1)) | prefix_mask(sizes, background.shape[-1]),
        lambda at: (
            f"prediction {at[-1]} of {sample_name(at[:-1])} is filler, as there are {int(sizes[at[:-1]])} predictions, "
            "and must have no mass in a plan"
        ),
        summary="a loss of ragged predictions: filler has mass",
    )


def of_sizes(values: RaggedBatch, sizes: Tensor | None) -> RaggedBatch:
    """Values ``(*batch, P)`` of predictions, of so many of each image ``(*batch,)``; of all if that is None."""
    if sizes is None:
        return values
    return RaggedBatch._unchecked(values.tensor, prefix_mask(sizes, values.max_sample_size), sizes, values.ragged_axis)
