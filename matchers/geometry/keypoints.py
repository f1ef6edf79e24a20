"""Keypoints of objects: how similar they are, and how far apart.

Predicted keypoints are ``(…, K, 2)``, x and y; those of targets ``(…, K, 3)`` have their visibility as well, as in
COCO: 0 means not labelled. Such a keypoint is never compared, whatever its coordinates are.
Leading dimensions broadcast. All is computed, and returned, in float32 at least. Finite keypoints have finite values
and gradients, even for objects with area 0. A predicted NaN gives NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ragged.interop.operands import takes_batches, takes_batches_of_pairs
from ragged.values.checks import (
    check_all_positive,
    check_broadcast,
    check_is_sequence,
    check_is_tensor,
    check_same_device,
    check_weights,
)
from ragged.values.once import known_row
from ragged.values.precision import wide

COCO_SIGMAS = tuple(s / 1000 for s in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89))
"""The sigmas of the 17 keypoints of COCO, from the nose to the ankles."""

# An area, in whatever unit, below which an object is a point.
_NO_AREA = 1e-16
# e^-80 is about 1e-35. Numbers below 1e-38 take a CPU ten times as long.
_FAR = 80.0


@takes_batches(keypoints=2, gt_keypoints=2, area=0)
def oks(keypoints: Tensor, gt_keypoints: Tensor, area: Tensor, *, sigmas: Sequence[float] = COCO_SIGMAS) -> Tensor:
    """Object keypoint similarity, in [0, 1], of keypoints that broadcast; 0 where none is visible.

    The mean of ``exp(-d² / (2 area (2 sigma)²))`` over the visible keypoints of an object, with the distance d of each
    and the sigma of its kind.

    Args:
        keypoints: ``(…, K, 2)``, x and y.
        gt_keypoints: ``(…, K, 3)``, x, y and visibility; visible means above 0.
        area: ``(…)``, that of each target in the squared unit of the keypoints. COCO takes the area of the mask,
            YOLO-pose that of the box. Not negative.
        sigmas: K numbers above 0. YOLO-pose takes 1 / K for keypoints other than COCO's.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes, dtypes, areas or sigmas that do not fit.

    Source: the keypoint evaluation of COCO (Lin et al., 2014).

    >>> gt = torch.tensor([[0.0, 0.0, 2.0], [4.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    >>> found = torch.tensor([[0.0, 0.0], [4.0, 1.0], [9.0, 9.0]])
    >>> oks(found, gt, torch.tensor(8.0), sigmas=(0.125, 0.125, 0.1))
    tensor(0.6839)
    """
    distances = Distances.of(keypoints, gt_keypoints)
    return distances.over_visible(distances.exponents(area, sigmas).exp_())


@takes_batches_of_pairs(rows={"gt_keypoints": 2, "area": 0}, columns={"keypoints": 2})
def pairwise_oks(
    gt_keypoints: Tensor, area: Tensor, keypoints: Tensor, *, sigmas: Sequence[float] = COCO_SIGMAS
) -> Tensor:
    """``oks`` of every pair: targets ``(*batch, G, K, 3)`` with predictions ``(*batch, P, K, 2)``, ``(*batch, G, P)``.

    Args:
        gt_keypoints, area, keypoints, sigmas: As those of ``oks``; ``area`` is ``(*batch, G)``.

    >>> pairwise_oks(torch.rand(2, 3, 17, 3), torch.rand(2, 3), torch.rand(2, 5, 17, 2)).shape
    torch.Size([2, 3, 5])
    """
    found, gt, own = of_every_pair(keypoints, gt_keypoints, area)
    return oks(found, gt, own, sigmas=sigmas)


def of_every_pair(keypoints: Tensor, gt_keypoints: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    """Keypoints ``(*batch, 1, P, K, 2)`` and ``(*batch, G, 1, K, 3)``, and numbers ``(*batch, G, 1)`` of targets."""
    check_keypoints(keypoints, gt_keypoints)
    for values, name, last in ((gt_keypoints, "gt_keypoints", "G, K, 3"), (keypoints, "keypoints", "P, K, 2")):
        if values.dim() < 3:
            raise ValueError(f"{name} must have shape (*batch, {last}), got {tuple(values.shape)}")
    for numbers in rest:
        check_is_tensor(numbers, "area")
        if numbers.dim() == 0:
            raise ValueError("area must have shape (*batch, G), got ()")
    check_broadcast(
        gt_keypoints.shape[:-3], keypoints.shape[:-3], "the batch dimensions of gt_keypoints", "those of keypoints"
    )
    return keypoints.unsqueeze(-4), gt_keypoints.unsqueeze(-3), *(numbers.unsqueeze(-1) for numbers in rest)


class Distances(NamedTuple):
    """How far apart keypoints are: what OKS and L1 have in common.

    Args:
        x, y: ``(…, K)``, signed, in each direction; in that of what is not visible, anything finite.
        shares: ``(…, K)``, the share of each keypoint of the visible ones of its object; 0 for all where none is.
    """

    x: Tensor
    y: Tensor
    shares: Tensor

    @classmethod
    def of(
        cls, keypoints: Tensor, gt_keypoints: Tensor, names: tuple[str, str] = ("keypoints", "gt_keypoints")
    ) -> Distances:
        """Of keypoints ``(…, K, 2)`` and those of targets ``(…, K, 3)`` that broadcast; errors call them ``names``."""
        check_keypoints(keypoints, gt_keypoints, names)
        objects = keypoints.shape[:-2], gt_keypoints.shape[:-2]
        check_broadcast(*objects, f"objects of {names[0]}", f"those of {names[1]}")
        found, gt = wide(keypoints), wide(gt_keypoints)
        visible = gt[..., 2] > 0
        ones = visible.to(torch.promote_types(found.dtype, gt.dtype))
        # What is not labelled may hold anything, NaN included.
        gt_x, gt_y = torch.where(visible.unsqueeze(-1), gt[..., :2], 0).unbind(-1)
        x, y = found.unbind(-1)
        return cls(x - gt_x, y - gt_y, ones / ones.sum(-1, keepdim=True).clamp(min=1))

    def exponents(self, area: Tensor, sigmas: Sequence[float]) -> Tensor:
        """``-d² / (8 area sigma²)`` of each keypoint, ``(…, K)``."""
        _check_area(area, self.shares.shape[:-1], self.x.device)
        scale = (wide(area) * -8).clamp(max=-_NO_AREA).reciprocal().unsqueeze(-1) / _row(sigmas, self.x) ** 2
        return ((self.x * self.x).add_(self.y * self.y) * scale).clamp(min=-_FAR)

    def l1(self) -> Tensor:
        """``|dx| + |dy|`` of each keypoint, ``(…, K)``."""
        return self.x.abs().add_(self.y.abs())

    def over_visible(self, values: Tensor) -> Tensor:
        """The mean of values ``(…, K)`` over the visible keypoints, ``(…)``; 0 where none is visible."""
        return (values * self.shares).sum(-1)


def check_keypoints(
    keypoints: Tensor, gt_keypoints: Tensor, names: tuple[str, str] = ("keypoints", "gt_keypoints")
) -> None:
    """Raise unless these are floating tensors ``(…, K, 2)`` and ``(…, K, 3)``; errors call them ``names``."""
    predicted, of_targets = names
    last = {predicted: (keypoints, 2, "x and y"), of_targets: (gt_keypoints, 3, "x, y and visibility")}
    for name, (values, size, meaning) in last.items():
        check_is_tensor(values, name)
        if not values.is_floating_point():
            raise TypeError(f"{name} must have a floating dtype, got {values.dtype}; convert with .float()")
        if values.dim() < 2 or values.shape[-1] != size:
            advice = f"; flat ones need .unflatten(-1, (-1, {size}))" if values.dim() else ""
            raise ValueError(f"{name} must have shape (…, K, {size}), {meaning}, got {tuple(values.shape)}{advice}")
    if keypoints.shape[-2] != gt_keypoints.shape[-2]:
        raise ValueError(
            f"{predicted} and {of_targets} must have as many keypoints K, got {tuple(keypoints.shape)} and "
            f"{tuple(gt_keypoints.shape)}"
        )
    check_same_device(gt_keypoints.device, keypoints.device, name=of_targets, reference=predicted)


def _check_area(area: Tensor, objects: torch.Size, device: torch.device) -> None:
    check_is_tensor(area, "area")
    if not area.is_floating_point():
        raise TypeError(f"area must have a floating dtype, got {area.dtype}; convert with .float()")
    check_same_device(area.device, device, name="area", reference="keypoints")
    check_broadcast(objects, area.shape, "objects of gt_keypoints", "area")
    check_weights(area, "area")


def _row(sigmas: Sequence[float], like: Tensor) -> Tensor:
    """Sigmas as a tensor (K,)."""
    if sigmas is not COCO_SIGMAS:
        check_sigmas(sigmas)
    if len(sigmas) != like.shape[-1]:
        raise ValueError(f"sigmas must have a number for each of the {like.shape[-1]} keypoints, got {len(sigmas)}")
    return known_row(sigmas, like)


def check_sigmas(sigmas: Sequence[float]) -> None:
    """Raise unless these are numbers above 0."""
    check_is_sequence(sigmas, "sigmas", "numbers")
    check_all_positive(sigmas, "sigmas")
