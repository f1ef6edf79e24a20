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
from matchers.geometry.boxes import NO_AREA, NO_REST, NO_SIDE, product
from ragged.values.precision import equally_wide
from ragged.values.readable import can_have_own_derivative


class Slopes(NamedTuple):
    """A measure of pairs, and its derivatives: what it wins with the intersection, and loses with all else."""

    value: Tensor
    overlap: Tensor
    """(…), the IoU."""
    of_shared_area: Tensor
    """(…), with the area of the intersection, which the union depends on."""
    of_own_area: Tensor
    """(…), with the area of the first box, likewise."""
    of_hull: Tensor | None = None
    """(2, …), with the sides of the smallest box around both."""
    of_own_sides: Tensor | None = None
    """(2, …), with the sides of the first box, besides its area."""
    of_centre: Tensor | None = None
    """(2, …), with the sum of both corners of the first box."""


class Pair:
    """The lengths and areas of pairs of boxes ``(…, 4)`` and ``(…, 4)``, xyxy."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.corners = torch.stack([first.movedim(-1, 0), second.movedim(-1, 0)], 1)
        bound = largest_coordinate(self.corners.dtype)
        self.reach = self.corners.clamp(-bound, bound)
        self.is_bounded = self.reach != self.corners
        self.reach[:2].neg_()
        shared = torch.minimum(*self.reach.unbind(1))
        self.sides = torch.empty(2, 3, *shared.shape[1:], dtype=shared.dtype, device=shared.device)
        torch.add(shared[:2], shared[2:], out=self.sides[:, 0])
        torch.add(self.reach[:2], self.reach[2:], out=self.sides[:, 1:])
        """(2, 3, …): of what both share, negative if that is a gap, of the first and of the second."""
        self.lengths = self.sides.clamp(min=0)
        self.intersection, self.first_area, self.second_area = product(self.lengths).unbind()
        self.union = self.first_area + self.second_area - self.intersection

    def hull(self) -> Tensor:
        """Width and height, (2, …), of the smallest box around both: what they have, but for what they share."""
        shared, first, second = self.sides.unbind(1)
        return first + second - shared

    def gradient(self, slopes: Slopes) -> Tensor:
        """The derivative for the first box, (4, …)."""
        _, _, of_shared_area, of_own_area, of_hull, of_own_sides, of_centre = slopes
        # An area grows with one side as the other side is long, unless that side is below 0.
        across = self.lengths[:, :2].flip(0).masked_fill_(self.sides[:, :2] < 0, 0)
        if of_hull is None:
            won, lost = of_shared_area * across[:, 0], of_own_area * across[:, 1]
        else:  # what both share is no part of the hull, what the first box has is
            won = torch.addcmul(of_hull, of_shared_area, across[:, 0])
            lost = torch.addcmul(of_hull, of_own_area, across[:, 1])
        lost = lost if of_own_sides is None else lost + of_own_sides
        # What both share grows with the box of the smaller reach; with each by half if both reach as far.
        smaller = torch.sign(self.reach[:, 1] - self.reach[:, 0]).unflatten(0, (2, 2))
        found = torch.addcmul(torch.sub(lost, won, alpha=0.5), smaller, won, value=-0.5)
        found[1].neg_()  # a box loses what it reaches further
        found = found if of_centre is None else found.sub_(of_centre)
        return found.flatten(0, 1).masked_fill_(self.is_bounded[:, 0], 0)


def iou(pair: Pair) -> Slopes:
    """``intersection / union``."""
    union, inverse = _inverse(pair.union)
    value = pair.intersection / union
    of_own_area = value * inverse
    return Slopes(value, value, inverse + of_own_area, of_own_area)


def giou(pair: Pair) -> Slopes:
    """``IoU - (hull - union) / hull``."""
    sides = pair.hull()
    area = product(sides)
    # Never smaller than the union, which inverted boxes would make it.
    (union, hull), (of_union, of_hull) = _inverse(torch.stack([pair.union, torch.maximum(area, pair.union)]))
    overlap, excess = pair.intersection / union, area - pair.union
    # Of union / hull, by the area of the hull, by half where the union is as large, and by the union elsewhere.
    share = pair.union * of_hull * of_hull
    of_area = torch.addcmul(share, share, torch.sign(excess)).mul_(0.5)
    of_own_area = share - of_area - torch.addcmul(of_hull, overlap, of_union, value=-1)
    value = torch.addcdiv(overlap, excess.clamp_(min=0), hull, value=-1)
    return Slopes(value, overlap, of_union + of_own_area, of_own_area, of_area * sides.flip(0))


def diou(pair: Pair) -> Slopes:
    """``IoU - d² / c²``: distance of the centres over the diagonal of the hull."""
    found = iou(pair)
    centres = pair.reach[2:] - pair.reach[:2]
    vectors = torch.stack([centres[:, 0] - centres[:, 1], pair.hull()])  # twice the distance, and the diagonal
    across, down = vectors.square().unbind(1)
    apart, diagonal = across + down
    diagonal, inverse = _inverse(diagonal)
    distance = apart / (4 * diagonal)
    inverse = inverse.masked_fill_(distance > 1, 0)
    of_centre, of_hull = vectors.unbind()
    return found._replace(
        value=found.value - distance.clamp(max=1),
        of_hull=of_hull * (distance * inverse).mul_(-2),
        of_centre=of_centre * (inverse * 0.5),
    )


def ciou(pair: Pair, *, detach_trade_off: bool) -> Slopes:
    """``DIoU - alpha v``, where v is of the difference of the angles of both boxes, and alpha may be a constant."""
    found = diou(pair)
    own = pair.sides[:, 1:]
    sides = own.clamp(min=NO_SIDE)
    angles = torch.atan(sides[0] / sides[1])
    apart = angles[0] - angles[1]
    scale = 4 / math.pi**2
    v = scale * apart.square()
    rest = 1 - found.overlap + v
    trade_off = of_v = v / rest.clamp(min=NO_REST)
    if not detach_trade_off:
        of_rest = trade_off.square().masked_fill_(rest < NO_REST, 0)
        of_v = 2 * trade_off - of_rest
        of_overlap = 1 - of_rest
        found = found._replace(
            of_shared_area=found.of_shared_area * of_overlap, of_own_area=found.of_own_area * of_overlap
        )
    width, height = sides[:, 0]
    of_angle = of_v * apart * (2 * scale) / (width.square() + height.square())
    of_sides = torch.stack([of_angle * height, -of_angle * width]).masked_fill_(own[:, 0] < NO_SIDE, 0)
    return found._replace(value=found.value - trade_off * v, of_own_sides=of_sides)


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
