"""The bins of D-FINE: sides of a box relative to those of a reference box, on a scale that is fine near them only.

A side is the mean (``integral``) of a distribution over ``reg_max + 1`` bins, whose values ``weighting_function`` has.
Source: Peng et al., D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement, 2024.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.coders.boxes import NO_SIDE, inputs
from ragged.interop.operands import takes_batches
from ragged.interop.registration import register_named_tuple
from ragged.values.checks import check_count, check_is_tensor, check_number, check_same_device
from ragged.values.once import known_row
from ragged.values.precision import wide

# A bin narrower than this has no inside.
_NO_WIDTH = 1e-12


class BinTargets(NamedTuple):
    """The two bins around a value, and their weights: ``weight_left * W[left] + weight_right * W[left + 1]``; weights
    sum to 1.

    ``left`` (…, 4) is int64 and at most R - 2, so that ``left + 1`` is a bin as well.
    """

    left: Tensor
    weight_right: Tensor
    weight_left: Tensor


def weighting_function(
    reg_max: int,
    up: float | Tensor,
    reg_scale: float | Tensor,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Values W(n) of the bins of D-FINE: close to each other around 0, wide apart far from it.

    With ``a = |up * reg_scale|``, ``h = reg_max / 2`` and ``s = (a + 1) ** (1 / (h - 1))``: ``W(0) = -2 a``,
    ``W(n) = 1 - s ** (h - n)`` left of the middle, ``W(h) = 0``, and ``W(reg_max - n) = -W(n)`` on the right.

    Args:
        reg_max: Number of bins minus 1; even, at least 4.
        up: Position of the outermost bins: they move a side by ``2 * up`` sizes of the reference box. A number or a
            tensor of one element.
        reg_scale: Larger values make the bins around 0 narrower. A number or a tensor of one element.
        device, dtype: Of the result, if neither ``up`` nor ``reg_scale`` is a tensor; otherwise theirs, and float32 at
            least.

    Returns:
        (reg_max + 1,), increasing. Differentiable with respect to ``up`` and ``reg_scale``.

    Raises:
        ValueError: ``reg_max`` is odd or too small, or a tensor does not have exactly one element.

    Source: Peng et al., D-FINE, 2024, the weighting function W(n), in sizes of the reference box over ``reg_scale``.

    >>> from losses.coders.dfine_bins import weighting_function
    >>> weighting_function(8, 0.5, 4.0)
    tensor([-4.0000, -2.0000, -1.0801, -0.4422,  0.0000,  0.4422,  1.0801,  2.0000,
             4.0000])
    """
    check_count(reg_max, "reg_max")
    if reg_max < 4 or reg_max % 2:
        raise ValueError(f"reg_max must be even and at least 4, got {reg_max}")
    for name, value in (("up", up), ("reg_scale", reg_scale)):
        check_scalar(value, name)
        if isinstance(value, Tensor):
            if isinstance(up, Tensor):
                check_same_device(value.device, up.device, name=name, reference="up")
            device, dtype = value.device, torch.float64 if value.dtype == torch.float64 else torch.float32
    half = reg_max // 2
    reach = _scalar(up) * _scalar(reg_scale)
    if not isinstance(reach, Tensor):
        reach = torch.full((), reach, device=device, dtype=dtype)
    # s ** k - 1 of the inner bins; twice what is one bin nearer to the middle, a, of the outermost ones.
    steps = [abs(n - half) / (half - 1) for n in range(1, reg_max)]
    signs = [-2.0, *[-1.0] * (half - 1), 0.0, *[1.0] * (half - 1), 2.0]
    grown = torch.expm1(reach.abs().log1p() * known_row([1.0, *steps, 1.0], reach))
    return grown * known_row(signs, grown)


@takes_batches(points=1, distance=1)
def distance2bbox(points: Tensor, distance: Tensor, *, reg_scale: float | Tensor) -> Tensor:
    """Boxes of D-FINE from the distances of the sides to a reference box.

    A side lies ``(0.5 * reg_scale + d) * size / reg_scale`` from the centre, so that d = 0 is the side of the reference
    box.

    Args:
        points: Reference boxes (…, 4), cxcywh.
        distance: ``d`` (…, 4), in the order ltrb: the means (``integral``) over the values of ``weighting_function``.
        reg_scale: As for ``weighting_function``.

    Returns:
        (…, 4), cxcywh, in the unit of ``points``.

    Source: Peng et al., D-FINE, 2024.

    >>> from losses.coders.dfine_bins import distance2bbox
    >>> distance2bbox(torch.tensor([0.5, 0.5, 0.2, 0.4]), torch.tensor([0.0, 0.0, 2.0, 0.0]), reg_scale=4.0)
    tensor([0.5500, 0.5000, 0.3000, 0.4000])
    """
    points, distance = inputs(points, distance, "distance")
    check_scalar(reg_scale, "reg_scale", points)
    scale = _scalar(reg_scale)
    unit = points[..., 2:] / scale
    # Centre and size without the corners in between, which would cancel.
    left_top, right_bottom = distance[..., :2], distance[..., 2:]
    center = points[..., :2] + (right_bottom - left_top) * unit / 2
    return torch.cat([center, points[..., 2:] + (left_top + right_bottom) * unit], -1)


@takes_batches(points=1, boxes=1)
def bbox2distance(
    points: Tensor, boxes: Tensor, *, reg_max: int, reg_scale: float | Tensor, up: float | Tensor
) -> BinTargets:
    """The D-FINE bins around each side of a box: the targets of the fine-grained localisation loss.

    Sides beyond the outermost bins have all weight on these. The result has no gradient.

    Args:
        points: Reference boxes (…, 4), cxcywh.
        boxes: (…, 4), cxcywh as well, in the same unit.
        reg_max, reg_scale, up: As for ``weighting_function``.

    Returns:
        ``left`` in ``0 … reg_max - 1``, ``weight_right`` and ``weight_left``, each (…, 4), in the order ltrb.

    Source: Peng et al., D-FINE, 2024, fine-grained localisation loss; the inverse of ``distance2bbox``.

    >>> from losses.coders.dfine_bins import bbox2distance
    >>> point, box = torch.tensor([0.5, 0.5, 0.2, 0.2]), torch.tensor([0.5, 0.5, 0.25, 0.35])
    >>> left, weight_right, weight_left = bbox2distance(point, box, reg_max=8, reg_scale=4.0, up=0.5)
    >>> left, weight_right
    (tensor([5, 6, 5, 6]), tensor([0.0905, 0.4565, 0.0905, 0.4565]))
    """
    points, boxes = inputs(points, boxes, "boxes")
    check_scalar(reg_scale, "reg_scale", points)
    check_scalar(up, "up", points)
    with torch.no_grad():
        values = weighting_function(reg_max, up, reg_scale, device=points.device, dtype=points.dtype).to(points.dtype)
        # How far the sides are from the centre of the reference box, (…, 2, 2): left and top, right and bottom.
        apart, half = points[..., :2] - boxes[..., :2], boxes[..., 2:] / 2
        reach = torch.addcmul(half.unsqueeze(-2), apart.unsqueeze(-2), known_row((1.0, -1.0), half).unsqueeze(-1))
        sizes = points[..., 2:].clamp(min=NO_SIDE).unsqueeze(-2)
        distance = (reach / sizes).sub_(0.5).mul_(_scalar(reg_scale)).flatten(-2)
        left = torch.bucketize(distance, values[1:-1], right=True)
        low, high = values.unfold(0, 2, 1)[left].unbind(-1)
        weight_right = ((distance - low) / (high - low).clamp(min=_NO_WIDTH)).clamp(0, 1)
        return BinTargets(left, weight_right, 1 - weight_right)


def check_scalar(value: float | Tensor, name: str, like: Tensor | None = None) -> None:
    """Raise unless ``value`` is a number or a tensor of one real number, on the device of ``like``."""
    if not isinstance(value, Tensor):
        return check_number(value, name, low=None)
    check_is_tensor(value, name)
    if value.numel() != 1:
        raise ValueError(f"{name} must have one element, got shape {tuple(value.shape)}")
    if value.dtype.is_complex or value.dtype == torch.bool:
        raise TypeError(f"{name} must be a real number, got {value.dtype}")
    if like is not None:
        check_same_device(value.device, like.device, name=name, reference="points")
    return None


def _scalar(value: float | Tensor) -> Any:
    """A tensor of one element without dimensions, in float32 at least; numbers as they are."""
    return wide(value).reshape(()) if isinstance(value, Tensor) else value


register_named_tuple(BinTargets)
