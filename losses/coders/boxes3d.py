"""The coder of boxes in 3D."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from losses.coders.boxes import NO_SIDE
from losses.functional.numerics import check_floating
from ragged.interop.operands import method_takes_batches
from ragged.values.precision import wide


@dataclass(frozen=True, kw_only=True)
class Box3DCoder:
    """The coder of DETR3D: log sizes, and sine and cosine of the yaw.

    A box is ``x, y, z, w, l, h, yaw, vx, vy``: its centre and size in a unit of length, its turn about the upright axis
    in radians, and its velocity. Its code is ``x, y, log w, log l, z, log h, sin yaw, cos yaw, vx, vy``. Without the
    velocity, a box has 7 numbers and a code has 8. An unknown velocity is NaN and stays NaN.

    Source: Wang et al., DETR3D, 2021, whose order of parameters PETR and StreamPETR share.

    >>> from losses.coders.boxes3d import Box3DCoder
    >>> Box3DCoder().encode(torch.tensor([4.0, 5.0, 6.0, 1.0, 1.0, 1.0, 0.0]))
    tensor([4., 5., 0., 0., 6., 0., 0., 1.])
    >>> Box3DCoder().decode(torch.tensor([4.0, 5.0, 0.0, 0.0, 6.0, 0.0, 0.0, 2.0, 0.5, -1.0]))
    tensor([ 4.0000,  5.0000,  6.0000,  1.0000,  1.0000,  1.0000,  0.0000,  0.5000,
            -1.0000])
    """

    @method_takes_batches(boxes=1)
    def encode(self, boxes: Tensor) -> Tensor:
        """Codes (…, 10) of boxes (…, 9), or (…, 8) of (…, 7); float32 at least.

        Raises:
            ValueError, TypeError: ``boxes`` does not have 7 or 9 numbers in its last dimension, or is not floating.
        """
        _check_last(boxes, (7, 9), "boxes")
        own = wide(boxes)
        place, z, size, yaw, velocity = own.split([2, 1, 3, 1, own.shape[-1] - 7], -1)
        footprint, height = size.clamp(min=NO_SIDE).log().split([2, 1], -1)
        return torch.cat([place, footprint, z, height, yaw.sin(), yaw.cos(), velocity], -1)

    @method_takes_batches(codes=1)
    def decode(self, codes: Tensor) -> Tensor:
        """Boxes (…, 9) of codes (…, 10), or (…, 7) of (…, 8); the yaw lies in [-pi, pi].

        Raises:
            ValueError, TypeError: Codes of another shape or dtype.
        """
        _check_last(codes, (8, 10), "codes")
        own = wide(codes)
        limit = math.log(torch.finfo(own.dtype).max) / 2
        place, footprint, z, height, sine, cosine, velocity = own.split([2, 2, 1, 1, 1, 1, own.shape[-1] - 8], -1)
        size = torch.cat([footprint, height], -1).clamp(-limit, limit).exp()
        # The angle of nothing is 0, and its gradient is finite.
        cosine = cosine.masked_fill((sine == 0) & (cosine == 0), 1)
        return torch.cat([place, z, size, torch.atan2(sine, cosine), velocity], -1)


def _check_last(values: Tensor, sizes: tuple[int, int], name: str) -> None:
    check_floating(values, name)
    if values.dim() == 0 or values.shape[-1] not in sizes:
        without, with_velocity = sizes
        raise ValueError(
            f"{name} must have shape (…, {without}), or (…, {with_velocity}) with a velocity, got {tuple(values.shape)}"
        )
