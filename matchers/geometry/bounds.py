"""What coordinates are bounded by, and boxes as bounded corners."""

from __future__ import annotations

import torch
from torch import Tensor

from ragged.values.readable import can_have_own_derivative


def largest_coordinate(dtype: torch.dtype) -> float:
    """What coordinates are bounded by, so that products of two lengths, and squares of them, are finite."""
    return float(torch.finfo(dtype).max ** 0.25)


def bounded_corners(boxes: Tensor, *, rows: int = 4) -> Tensor:
    """The bounded corners of xyxy boxes ``(…, 4)``, coordinates first, contiguous: ``(4, …)``.

    Args:
        boxes: ``(…, 4)``.
        rows: How many rows the result has; those behind the corners are to be written. 4 unless ``can_be_written``.
    """
    bound, corners = largest_coordinate(boxes.dtype), boxes.movedim(-1, 0)
    if not can_be_written(boxes):
        return corners.clamp(-bound, bound).contiguous()
    found = torch.empty((rows, *corners.shape[1:]), dtype=boxes.dtype, device=boxes.device)
    torch.clamp(corners, -bound, bound, out=found[:4])
    return found


def can_be_written(tensor: Tensor) -> bool:
    """Whether nothing is differentiated or traced: results can be written where they are to be."""
    return can_have_own_derivative(tensor) and not (torch.is_grad_enabled() and tensor.requires_grad)
