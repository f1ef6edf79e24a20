"""Box arithmetic on corner boxes; every function broadcasts over the leading dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

_MIN_AREA = 1e-6


def area(boxes: Tensor) -> Tensor:
    """Return the areas (...) of boxes (..., 4) given as xyxy; a box with a negative side has area 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def iou_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return overlap over union, and the union's area, of xyxy boxes (..., 4) that broadcast against each other."""
    top_left = torch.maximum(first[..., :2], second[..., :2])
    bottom_right = torch.minimum(first[..., 2:], second[..., 2:])
    shared = area(torch.cat([top_left, bottom_right], dim=-1))
    union = area(first) + area(second) - shared
    return shared / union.clamp(min=_MIN_AREA), union


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap over union (...) of xyxy boxes (..., 4) that broadcast against each other."""
    return iou_and_union(first, second)[0]


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalised IoU (...), in (-1, 1], of xyxy boxes (..., 4) that broadcast against each other.

    ``GIoU = IoU - (hull - union) / hull`` with the smallest box ``hull`` that holds both (Rezatofighi et al., 2019).
    """
    overlap, union = iou_and_union(first, second)
    top_left = torch.minimum(first[..., :2], second[..., :2])
    bottom_right = torch.maximum(first[..., 2:], second[..., 2:])
    hull = area(torch.cat([top_left, bottom_right], dim=-1))
    return overlap - (hull - union) / hull.clamp(min=_MIN_AREA)
