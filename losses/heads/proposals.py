"""The predictions of the second stage of a detector for proposed boxes, whose number differs from image to image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from losses.functional.numerics import check_floating
from matchers.geometry.boxes import check_boxes
from ragged import RaggedBatch, combine_data, unpack
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_same_device, check_values


@dataclass(frozen=True, eq=False)
class ProposalPredictions:
    """The predictions of a head for P proposals of B images; filler of all three is 0.

    Args:
        logits: (B, P, C).
        deltas: (B, P, 4 K), boxes of each of K classes.
        proposals: (B, P, 4), xyxy in pixels.
        mask: (B, P), true for proposals, false for filler.
    """

    logits: Tensor
    deltas: Tensor
    proposals: Tensor
    mask: Tensor


def as_proposals(proposals: Any) -> RaggedBatch:
    """Boxes (B, P, 4), ragged along P, of a RaggedBatch, a tensor, or a list with (n, 4) for each image.

    Raises:
        TypeError, ValueError: They are something else.
    """
    if isinstance(proposals, Tensor):
        check_boxes(proposals, "proposals")
        if proposals.dim() != 3:
            raise ValueError(f"proposals must have shape (B, P, 4), got {tuple(proposals.shape)}")
        return RaggedBatch.from_full_tensor(proposals)
    if isinstance(proposals, Sequence) and all(isinstance(each, Tensor) for each in proposals):
        for image, each in enumerate(proposals):
            check_boxes(each, f"proposals of image {image}")
        proposals = combine_data(list(proposals))
    if not isinstance(proposals, RaggedBatch):
        got = type(proposals).__name__
        raise TypeError(f"proposals must be a RaggedBatch, a tensor (B, P, 4) or a list of tensors (n, 4), got {got}")
    check_boxes(proposals.tensor, "proposals")
    if proposals.num_batch_dims != 1 or proposals.ragged_axis != 0 or proposals.dim() != 3:
        raise ValueError(f"proposals must have shape (B, P, 4), ragged along P, got {tuple(proposals.shape)}")
    return proposals


def of_proposals(values: Any, proposals: RaggedBatch, name: str) -> Tensor:
    """Values (B, P, K) of a RaggedBatch or a tensor, or of rows (sum of n, K), image after image; filler is 0.

    Raises:
        TypeError, ValueError: They are not floating, or of other proposals.
    """
    data = values.tensor if isinstance(values, RaggedBatch) else values
    check_floating(data, name)
    check_same_device(data.device, proposals.device, name=name, reference="the proposals")
    if not isinstance(values, RaggedBatch) and data.dim() == 2:
        sizes = proposals.sample_sizes
        check_values(
            sizes.sum() == len(data),
            lambda _: f"{name} must have a row for each of {int(sizes.sum())} proposals, got {len(data)}",
            summary=f"{name} must have a row for each proposal",
        )
        return unpack(data, proposals.sample_sizes, max_size=proposals.max_sample_size).tensor
    shape = tuple(proposals.tensor.shape[:2])
    if data.dim() != 3 or tuple(data.shape[:2]) != shape:
        raise ValueError(f"{name} must have shape {(*shape, 'K')}, or rows (R, K), got {tuple(data.shape)}")
    return data.masked_fill(~proposals.mask.unsqueeze(-1), 0)


register_dataclass(ProposalPredictions)
