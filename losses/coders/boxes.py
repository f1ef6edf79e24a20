"""Box coders: boxes relative to priors, as a network predicts them, and back.

A coder is a small set of parameters and two pure functions: ``encode(priors, boxes)`` makes the regression targets (…,
4), and ``decode(priors, deltas)`` turns predicted deltas into boxes (…, 4); leading dimensions broadcast. Either is the
inverse of the other for boxes that have an area. Both compute, and return, float32 at least. Every input is allowed:
boxes without area encode to finite deltas, deltas of any size decode to finite boxes, and gradients are finite. A NaN
propagates to the value and the gradient, so replace filler with a valid box first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from losses.functional.numerics import check_fraction
from matchers.geometry.boxes import check_boxes, convert
from ragged.interop.operands import method_takes_batches, takes_batches
from ragged.values.checks import (
    check_all_positive,
    check_broadcast,
    check_is_sequence,
    check_is_tensor,
    check_number,
    check_same_device,
)
from ragged.values.once import known_row, row
from ragged.values.precision import wide
from ragged.values.readable import can_have_own_derivative

CanvasSize = Tensor | tuple[float, float]
"""Height and width of the image, or a tensor ``(*batch, 2)`` of them, in the unit of the boxes."""

# A side of a prior, or a stride, below which it means nothing, in whatever unit.
NO_SIDE = 1e-7
# A box is never taken for narrower than this part of its prior, nor for wider than the inverse of it.
_SMALLEST_RATIO = 1e-6


class BoxCoder(Protocol):
    """What criteria need of a coder: ``encode`` and ``decode``. Anything that has both will do.

    >>> class Absolute:
    ...     def encode(self, priors, boxes):
    ...         return boxes
    ...     def decode(self, priors, deltas):
    ...         return deltas
    >>> RTMDetCriterion(num_classes=3, strides=(8,), bbox_coder=Absolute()).bbox_coder.decode(None, torch.ones(4))
    tensor([1., 1., 1., 1.])
    """

    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Regression targets (…, 4) of ``boxes`` relative to ``priors``."""
        ...

    def decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        """Boxes (…, 4) from what was predicted relative to ``priors``."""
        ...


@dataclass(frozen=True, kw_only=True)
class DeltaXYWHCoder:
    """The coder of R-CNN: centre offsets relative to the prior's size, and log size ratios.

    ``dx = (x - px) / pw``, ``dy = (y - py) / ph``, ``dw = log(w / pw)``, ``dh = log(h / ph)``, then
    ``(d - mean) / std``. Priors and boxes are xyxy, in the same unit, whichever it is; deltas have none.

    Args:
        means, stds: Means and standard deviations of (dx, dy, dw, dh). Faster R-CNN uses stds (0.1, 0.1, 0.2, 0.2).
        wh_ratio_clip: Bounds decoded sizes: the ratio to the prior's width and height lies in ``[r, 1 / r]``, where
            ``r`` is this number. With None, only the dtype bounds it.

    Source: Ren et al., Faster R-CNN, 2015, equation 2.

    >>> from losses.coders.boxes import DeltaXYWHCoder
    >>> coder, prior = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2)), torch.tensor([0.0, 0.0, 10.0, 20.0])
    >>> coder.encode(prior, torch.tensor([1.0, 0.0, 11.0, 20.0]))
    tensor([1., 0., 0., 0.])
    >>> coder.decode(prior, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    tensor([ 1.,  0., 11., 20.])
    """

    means: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    wh_ratio_clip: float | None = 16 / 1000

    def __post_init__(self) -> None:
        for name, values in (("means", self.means), ("stds", self.stds)):
            check_is_sequence(values, name, "4 numbers")
            if len(values) != 4:
                raise ValueError(f"{name} must have 4 entries (of dx, dy, dw, dh), got {len(values)}")
            for value in values:
                check_number(value, name, low=None)
        check_all_positive(self.stds, "stds")
        if self.wh_ratio_clip is not None:
            check_fraction(self.wh_ratio_clip, "wh_ratio_clip")

    @method_takes_batches(priors=1, boxes=1)
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Deltas (…, 4) of xyxy ``boxes`` (…, 4) relative to xyxy ``priors`` (…, 4)."""
        priors, boxes = inputs(priors, boxes, "boxes")
        deltas = relative_to(convert(priors, "xyxy", "cxcywh"), convert(boxes, "xyxy", "cxcywh"))
        deltas = deltas - known_row(self.means, deltas) if any(self.means) else deltas
        return deltas / known_row(self.stds, deltas)

    @method_takes_batches(priors=1, deltas=1)
    def decode(self, priors: Tensor, deltas: Tensor, *, canvas_size: CanvasSize | None = None) -> Tensor:
        """Boxes (…, 4), xyxy, from ``deltas`` relative to xyxy ``priors``; clipped to ``canvas_size``, if given."""
        priors, deltas = inputs(priors, deltas, "deltas")
        deltas = torch.addcmul(known_row(self.means, deltas), deltas, known_row(self.stds, deltas))
        limit = None if self.wh_ratio_clip is None else -math.log(self.wh_ratio_clip)
        boxes = convert(from_relative(convert(priors, "xyxy", "cxcywh"), deltas, limit), "cxcywh", "xyxy")
        return clip_to_canvas(boxes, canvas_size)


@dataclass(frozen=True, kw_only=True)
class SSDCoder:
    """The coder of SSD: like ``DeltaXYWHCoder``, but for cxcywh boxes, with one scale for the centre and one for the
    size.

    ``dx = (x - px) / pw / scale_xy``, ``dw = log(w / pw) / scale_wh``, the same with y and h. Priors and boxes are
    cxcywh, in the same unit; usually both are fractions of the image, as ``ssd_default_boxes`` are.

    Args:
        scale_xy, scale_wh: The "variances" of the original implementation.

    Source: Liu et al., SSD, 2016, equation 2.

    >>> from losses.coders.boxes import SSDCoder
    >>> SSDCoder().encode(torch.tensor([0.5, 0.5, 0.25, 0.2]), torch.tensor([0.75, 0.5, 0.25, 0.2]))
    tensor([10.,  0.,  0.,  0.])
    """

    scale_xy: float = 0.1
    scale_wh: float = 0.2

    def __post_init__(self) -> None:
        check_all_positive((self.scale_xy, self.scale_wh), "scale_xy and scale_wh")

    @method_takes_batches(priors=1, boxes=1)
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Deltas (…, 4) of cxcywh ``boxes`` (…, 4) relative to cxcywh ``priors`` (…, 4)."""
        priors, boxes = inputs(priors, boxes, "boxes")
        deltas = relative_to(priors, boxes)
        return deltas / known_row(self._scales, deltas)

    @method_takes_batches(priors=1, deltas=1)
    def decode(self, priors: Tensor, deltas: Tensor, *, canvas_size: CanvasSize | None = None) -> Tensor:
        """Boxes (…, 4), cxcywh, from ``deltas`` relative to cxcywh ``priors``, cut off at the border of the image.

        Boxes are clipped only if you pass ``canvas_size``; for normalized boxes pass (1, 1).
        """
        priors, deltas = inputs(priors, deltas, "deltas")
        boxes = from_relative(priors, deltas * known_row(self._scales, deltas), None)
        if canvas_size is None:
            return boxes
        return convert(clip_to_canvas(convert(boxes, "cxcywh", "xyxy"), canvas_size), "xyxy", "cxcywh")

    @property
    def _scales(self) -> tuple[float, float, float, float]:
        return self.scale_xy, self.scale_xy, self.scale_wh, self.scale_wh


@takes_batches(boxes=1)
def clip_to_canvas(boxes: Tensor, canvas_size: CanvasSize | None) -> Tensor:
    """Cut xyxy boxes ``(*batch, N, 4)`` off at the border of the image; as they are if there is no ``canvas_size``.

    >>> from losses.coders.boxes import clip_to_canvas
    >>> clip_to_canvas(torch.tensor([[-1.0, 2.0, 5.0, 9.0]]), (6, 4))
    tensor([[0., 2., 4., 6.]])
    """
    if canvas_size is None:
        return boxes
    check_boxes(boxes, "boxes")
    if isinstance(canvas_size, Tensor):
        check_is_tensor(canvas_size, "canvas_size")
        check_same_device(canvas_size.device, boxes.device, name="canvas_size", reference="boxes")
        if canvas_size.dim() == 0 or canvas_size.shape[-1] != 2:
            raise ValueError(
                f"canvas_size must have shape (*batch, 2), height and width, got {tuple(canvas_size.shape)}"
            )
        corner = canvas_size.to(boxes.dtype).flip(-1)
        limit = torch.cat([corner, corner], -1)
        if boxes.dim() > 1:
            limit = limit.unsqueeze(-2)
        check_broadcast(boxes.shape, limit.shape, "boxes", "canvas_size (*batch, 1, 2)")
    else:
        if not isinstance(canvas_size, Sequence) or len(canvas_size) != 2:
            raise ValueError(f"canvas_size must be a tensor (*batch, 2) or a pair (height, width), got {canvas_size!r}")
        height, width = canvas_size
        for side in canvas_size:
            check_number(side, "each side of canvas_size", low=None)
        limit = row((width, height, width, height), boxes)
    return boxes.clamp(min=0).clamp(max=limit)


def check_coder(coder: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``coder`` has what criteria need of one."""
    if isinstance(coder, type) or not all(callable(getattr(coder, method, None)) for method in ("encode", "decode")):
        raise TypeError(f"{name} must be a coder, with encode and decode, got {type(coder).__name__}")


# --- shared with the other coders ----------------------------------------------------------------------------------


def inputs(priors: Tensor, values: Tensor, name: str, *, points: bool = False) -> tuple[Tensor, Tensor]:
    """Checked, and in float32 at least. ``points``: a prior may be only x and y."""
    check_is_tensor(priors, "priors")
    if points and priors.dim() and priors.shape[-1] == 2 and priors.is_floating_point():
        shape: Sequence[int] = (*priors.shape[:-1], 4)
    else:
        check_boxes(priors, "priors")
        shape = priors.shape
    check_boxes(values, name)
    check_same_device(values.device, priors.device, name=name, reference="priors")
    check_broadcast(shape, values.shape, "priors", name)
    return wide(priors), wide(values)


def relative_to(priors: Tensor, boxes: Tensor) -> Tensor:
    """Offsets in sizes of the prior and logarithms of ratios; everything is cxcywh."""
    size = priors[..., 2:].clamp(min=NO_SIDE)
    offset = (boxes[..., :2] - priors[..., :2]) / size
    ratio = (boxes[..., 2:] / size).clamp(_SMALLEST_RATIO, 1 / _SMALLEST_RATIO)
    return torch.cat([offset, ratio.log()], -1)


def from_relative(priors: Tensor, deltas: Tensor, limit: float | None) -> Tensor:
    """The inverse of ``relative_to``; logarithms lie within plus and minus ``limit``."""
    if limit is None:
        # With the half of what the dtype can hold there is room for any prior, and for what the gradient multiplies.
        limit = math.log(torch.finfo(deltas.dtype).max) / 2
    if _has_closed_form(priors, deltas):
        found: Tensor = _FromRelative.apply(deltas, priors, limit)
        return found
    return _from_relative(priors, deltas, limit)


def _from_relative(priors: Tensor, deltas: Tensor, limit: float) -> Tensor:
    center = torch.addcmul(priors[..., :2], deltas[..., :2], priors[..., 2:])
    return torch.cat([center, priors[..., 2:] * deltas[..., 2:].clamp(-limit, limit).exp()], -1)


def _has_closed_form(priors: Tensor, deltas: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and deltas.requires_grad
        and not priors.requires_grad
        and priors.dtype == deltas.dtype
        and priors.dim() <= deltas.dim()
        and all(own in (1, size) for own, size in zip(priors.shape[::-1], deltas.shape[::-1], strict=False))
        and can_have_own_derivative(deltas)
    )


class _FromRelative(torch.autograd.Function):
    """``from_relative`` with its derivative: the sizes of priors for centres, and for sizes what they are."""

    @staticmethod
    def forward(ctx: Any, deltas: Tensor, priors: Tensor, limit: float) -> Tensor:
        found, sizes = torch.empty_like(deltas), priors[..., 2:]
        torch.addcmul(priors[..., :2], deltas[..., :2], sizes, out=found[..., :2])
        bounded = deltas[..., 2:].clamp(-limit, limit)
        inside = bounded == deltas[..., 2:]
        own = torch.mul(bounded.exp_(), sizes, out=found[..., 2:])
        ctx.limit = limit
        ctx.save_for_backward(deltas, priors, own * inside)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        deltas, priors, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient shall be differentiated as well
            boxes = _from_relative(priors, deltas, ctx.limit)
            return torch.autograd.grad(boxes, deltas, gradients[0], create_graph=True)[0], None, None
        found = torch.empty_like(deltas)
        for half, given, slope in zip(
            found.split(2, -1), gradients[0].split(2, -1), (priors[..., 2:], slopes), strict=True
        ):
            torch.mul(given, slope, out=half)
        return found, None, None
