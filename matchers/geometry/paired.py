"""Overlaps of paired boxes together with their derivative, where a backward pass will ask for it.

Torch differentiates each operation of a formula, and a derivative takes several times as many operations as the value.
Here it is a closed form as well, computed with the value: only ``(…, 4)`` numbers are kept, and the backward pass is
one product. ``matchers.geometry.overlaps`` has the formulas, and the derivative of this derivative.

A box is its reach here, ``(-x1, -y1, x2, y2)``, coordinates first: what two boxes share then is the minimum of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from matchers.geometry.bounds import largest_coordinate
from matchers.geometry.boxes import NO_AREA, NO_REST, NO_SIDE
from ragged.values.once import known_row
from ragged.values.precision import equally_wide
from ragged.values.readable import can_have_own_derivative


class Slopes(NamedTuple):
    """A measure of pairs, and its derivatives: what it wins with the intersection, and loses with all else."""

    value: Tensor
    overlap: Tensor
    """(…), the IoU."""
    of_areas: Tensor
    """(2, …), with the area of the intersection, which the union depends on, and with that of the first box."""
    of_hull: Tensor | None = None
    """(2, …), with the sides of the smallest box around both."""
    of_own_sides: Tensor | None = None
    """(2, …), with the sides of the first box, besides its area."""
    of_centre: Tensor | None = None
    """(2, …), with the sum of both corners of the first box."""


class Pair:
    """The lengths and areas of pairs of boxes ``(…, 4)`` and ``(…, 4)``, xyxy; of what both share, and of each."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        corners = torch.stack([first.movedim(-1, 0), second.movedim(-1, 0)], 1)
        bound, shape = largest_coordinate(corners.dtype), corners.shape[2:]
        self.reach = _room(corners, 4, 3, *shape)
        """(4, 3, …)."""
        shared, both = self.reach[:, 0], self.reach[:, 1:]
        torch.clamp(corners, -bound, bound, out=both)
        self.is_bounded = both[:, 0] != corners[:, 0]
        both[:2].neg_()
        torch.minimum(both[:, 0], both[:, 1], out=shared)
        sizes = _room(corners, 3, 3, *shape)
        self.sides = torch.add(self.reach[:2], self.reach[2:], out=sizes[:2])
        """(2, 3, …); negative where both share a gap."""
        self.lengths = self.sides.clamp(min=0)
        areas = torch.mul(*self.lengths, out=sizes[2])
        self.intersection = areas[0]
        # The smallest box around both has the sides of both, but for what they share; and so the union has the areas.
        self.around = _room(corners, 6, *shape)
        torch.add(sizes[:, 1], sizes[:, 2], out=self.around[2:5]).sub_(sizes[:, 0])
        self.centres, self.hull, self.union = self.around[:2], self.around[2:4], self.around[4]

    def gradient(self, slopes: Slopes) -> Tensor:
        """The derivative for the first box, (4, …)."""
        # An area grows with one side as the other side is long, unless that side is below 0.
        across = self.lengths[:, :2].flip(0).masked_fill_(self.sides[:, :2] < 0, 0)
        if slopes.of_hull is None:
            found = across.mul_(slopes.of_areas)
        else:  # what both share is no part of the hull, what the first box has is
            found = torch.addcmul(slopes.of_hull.unsqueeze(1), slopes.of_areas, across)
        won, lost = found.unbind(1)
        lost = lost if slopes.of_own_sides is None else lost.add_(slopes.of_own_sides)
        # What both share grows with the box of the smaller reach; with each by half if both reach as far.
        smaller = torch.sign(self.reach[:, 2] - self.reach[:, 1]).unflatten(0, (2, 2))
        found = torch.addcmul(torch.sub(lost, won, alpha=0.5), smaller, won, value=-0.5)
        found[1].neg_()  # a box loses what it reaches further
        found = found if slopes.of_centre is None else found.sub_(slopes.of_centre)
        return found.flatten(0, 1).masked_fill_(self.is_bounded, 0)


def iou(pair: Pair) -> Slopes:
    """``intersection / union``."""
    union, inverse = _inverse(pair.union)
    value, of_areas = pair.intersection / union, _room(union, 2, *union.shape)
    own = torch.mul(value, inverse, out=of_areas[1])
    torch.add(inverse, own, out=of_areas[0])
    return Slopes(value, value, of_areas)


def giou(pair: Pair) -> Slopes:
    """``IoU - (hull - union) / hull``."""
    area = torch.mul(*pair.hull, out=pair.around[5])
    excess = area - pair.union
    torch.maximum(area, pair.union, out=area)  # inverted boxes would make it smaller than the union
    (union, hull), (of_union, of_hull) = _inverse(pair.around[4:])
    overlap, of_areas = pair.intersection / union, _room(union, 2, *union.shape)
    # Where the hull is as large as the union, the derivative is half of that where it is larger.
    of_hull = torch.heaviside(excess, known_row((0.5,), excess)[0]).mul_(of_hull)
    own = torch.sub(overlap * of_union, of_hull, out=of_areas[1])
    torch.add(of_union, own, out=of_areas[0])
    of_area = (pair.union / hull).mul_(of_hull)
    value = torch.addcdiv(overlap, excess.clamp_(min=0), hull, value=-1)
    return Slopes(value, overlap, of_areas, pair.hull.flip(0).mul_(of_area))


def diou(pair: Pair) -> Slopes:
    """``IoU - d² / c²``: distance of the centres over the diagonal of the hull."""
    found = iou(pair)
    _, first, second = (pair.reach[2:] - pair.reach[:2]).unbind(1)
    torch.sub(first, second, out=pair.centres)
    vectors = pair.around[:4].unflatten(0, (2, 2))  # twice the distance, and the diagonal
    across, down = vectors.square().unbind(1)
    apart, diagonal = across + down
    diagonal, inverse = _inverse(diagonal)
    ratio, slopes = apart / diagonal, _room(apart, 2, *apart.shape)
    of_centre = torch.mul(inverse, 0.5, out=slopes[0]).masked_fill_(ratio > 4, 0)
    torch.mul(of_centre, ratio, out=slopes[1]).neg_()
    of_centre, of_hull = vectors * slopes.unsqueeze(1)
    value = torch.sub(found.value, ratio.clamp(max=4), alpha=0.25)
    return found._replace(value=value, of_hull=of_hull, of_centre=of_centre)


def ciou(pair: Pair, *, detach_trade_off: bool) -> Slopes:
    """``DIoU - alpha v``, where v is of the difference of the angles of both boxes, and alpha may be a constant."""
    found = diou(pair)
    sides = pair.sides[:, 1:].clamp(min=NO_SIDE)
    angles = torch.atan(sides[0] / sides[1])
    apart = angles[0] - angles[1]
    scale = 4 / math.pi**2
    v = apart.square().mul_(scale)
    rest = (1 - found.overlap).add_(v)
    trade_off = of_v = v / rest.clamp(min=NO_REST)
    if not detach_trade_off:
        of_rest = trade_off.square().masked_fill_(rest < NO_REST, 0)
        of_v, scale = torch.sub(trade_off, of_rest, alpha=0.5), 2 * scale
        found = found._replace(of_areas=found.of_areas * (1 - of_rest))
    own = sides[:, 0]
    width, height = own.square()
    of_angle = (of_v * apart).mul_(2 * scale).div_(width + height)
    of_sides = own.flip(0).mul_(of_angle).masked_fill_(pair.sides[:, 1] < NO_SIDE, 0)
    of_sides[1].neg_()
    value = torch.addcmul(found.value, trade_off, v, value=-1)
    return found._replace(value=value, of_own_sides=of_sides)


def _room(like: Tensor, *shape: int) -> Tensor:
    """Where several results are put side by side, instead of being copied there."""
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _inverse(whole: Tensor) -> tuple[Tensor, Tensor]:
    """What is divided by, and the inverse of it, which is 0 where the whole is nothing."""
    bounded = whole.clamp(min=NO_AREA)
    return bounded, (whole > NO_AREA) / bounded


def has_closed_form(first: Tensor, second: Tensor) -> bool:
    """Whether ``measured`` is of use, and can be had: boxes are paired, and the first ones alone have a gradient."""
    return (
        torch.is_grad_enabled()
        and first.requires_grad
        and not second.requires_grad
        and first.shape == second.shape
        and first.device == second.device
        and can_have_own_derivative(first)
    )


def measured(
    first: Tensor, second: Tensor, closed: Callable[[Pair], Slopes], plain: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """A measure of pairs of boxes ``(…, 4)``, and their IoU, which is a constant; ``(…)`` each.

    Args:
        first, second: See ``has_closed_form``.
        closed: The measure and its derivative.
        plain: The measure by operations of torch.
    """
    found: tuple[Tensor, Tensor] = _Measured.apply(*equally_wide(first, second), closed, plain)
    return found


class _Measured(torch.autograd.Function):
    """``measured``; the derivative of the first boxes is kept, and differentiated by what ``plain`` says."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        closed: Callable[[Pair], Slopes],
        plain: Callable[[Tensor, Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        pair = Pair(first, second)
        found = closed(pair)
        overlap = found.overlap.view_as(found.overlap) if found.overlap is found.value else found.overlap
        ctx.mark_non_differentiable(overlap)
        ctx.set_materialize_grads(False)
        ctx.plain = plain
        ctx.save_for_backward(first, second, pair.gradient(found))
        return found.value, overlap

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        first, second, slopes = ctx.saved_tensors
        if gradients[0] is None:
            return None, None, None, None
        if torch.is_grad_enabled():  # the gradient shall be differentiated as well
            value = ctx.plain(first, second)
            return torch.autograd.grad(value, first, gradients[0], create_graph=True)[0], None, None, None
        return (slopes * gradients[0]).movedim(0, -1), None, None, None
