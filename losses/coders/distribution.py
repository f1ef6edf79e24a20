"""Boxes as distributions: the distance of each side from a point is the mean of a softmax over bins.

The bins are 0, 1, …, R - 1, in strides (Li et al., Generalized Focal Loss, 2020, and the YOLO family since v8). Bins of
different widths are in ``dfine_coders``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from losses.coders.boxes import CanvasSize
from losses.coders.points import DistanceCoder
from losses.functional.numerics import check_floating, check_scores
from matchers.geometry.maps import Stride, feature_sizes
from matchers.geometry.priors import known_points
from ragged.interop.operands import method_takes_batches, takes_batches
from ragged.interop.registration import register_named_tuple
from ragged.values.checks import check_count, check_is_sequence, check_is_tensor, check_number, check_same_device
from ragged.values.once import known_row
from ragged.values.precision import wide
from ragged.values.side_by_side import cells_side_by_side


@takes_batches(logits=1)
def integral(logits: Tensor, values: Tensor | None = None) -> Tensor:
    """Mean of a distribution over bins, ``sum_i softmax(logits)_i values_i``.

    Args:
        logits: (…, R).
        values: (R,), the value of each bin; default 0, 1, …, R - 1. For D-FINE those of ``weighting_function``.

    Returns:
        (…), in float32 at least, in the unit of the values.

    Source: Li et al., Generalized Focal Loss, 2020, equation 5.

    >>> from losses.coders.distribution import integral
    >>> integral(torch.tensor([0.0, 0.0, 0.0])), integral(torch.tensor([0.0, -1e4, 0.0, -1e4]))
    (tensor(1.), tensor(1.))
    """
    check_scores(logits, last="R")
    if values is not None:
        check_floating(values, "values")
        check_same_device(values.device, logits.device, name="values", reference="logits")
        if values.shape != logits.shape[-1:]:
            raise ValueError(
                f"values must have shape ({logits.shape[-1]},), as logits has bins, got {tuple(values.shape)}"
            )
    return means_of_bins(logits, -1, values)


def means_of_bins(logits: Tensor, dim: int, values: Tensor | None = None) -> Tensor:
    """``integral`` of bins in dimension ``dim``, counted from the last one, -1; nothing is checked."""
    share = wide(logits).softmax(dim)
    if values is None:
        values = known_row(range(share.shape[dim]), share)
    # No matrix product, which autocast would compute in half precision.
    return (share * values.view(-1, *(1,) * (-1 - dim))).sum(dim)


@dataclass(frozen=True, kw_only=True)
class DistributionCoder:
    """Distances (ltrb) from points in strides, each the mean of a distribution over ``reg_max`` bins.

    Args:
        reg_max: R, the number of bins.
        margin: Encoded distances are clamped to ``0 … R - 1 - margin``, so that there is always a bin to the right.

    Source: Li et al., Generalized Focal Loss, 2020.

    >>> from losses.coders.distribution import DistributionCoder
    >>> coder, point = DistributionCoder(reg_max=4), torch.tensor([16.0, 16.0, 8.0, 8.0])
    >>> coder.encode(point, torch.tensor([0.0, 8.0, 20.0, 99.0]))
    tensor([2.0000, 1.0000, 0.5000, 2.9900])
    >>> coder.decode(point, torch.zeros(4, 4))
    tensor([ 4.,  4., 28., 28.])
    """

    reg_max: int = 16
    margin: float = 0.01

    def __post_init__(self) -> None:
        check_count(self.reg_max, "reg_max")
        if self.reg_max < 2:
            raise ValueError(f"reg_max must be at least 2, got {self.reg_max}")
        check_number(self.margin, "margin", low=None)
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must lie in [0, 1), got {self.margin}")

    @method_takes_batches(priors=1, boxes=1)
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """Distances (…, 4) of xyxy ``boxes`` (…, 4) from ``grid_points`` (…, 4), in strides and clamped."""
        coder = DistanceCoder(scale_by_stride=True, max_distance=self.reg_max - 1 - self.margin)
        return coder.encode(priors, boxes)

    @method_takes_batches(priors=1, logits=2)
    def decode(self, priors: Tensor, logits: Tensor, *, canvas_size: CanvasSize | None = None) -> Tensor:
        """Boxes (…, 4), xyxy, in the unit of the points, from ``logits`` (…, 4, R) at ``grid_points`` (…, 4).

        Args:
            priors: ``grid_points`` (…, 4). logits: (…, 4, R).
            canvas_size: If given, boxes are cut off at the border of the image.
        """
        check_is_tensor(logits, "logits")
        if logits.dim() < 2 or logits.shape[-2:] != (4, self.reg_max):
            raise ValueError(f"logits must have shape (…, 4, {self.reg_max}), got {tuple(logits.shape)}")
        return DistanceCoder(scale_by_stride=True).decode(priors, integral(logits), canvas_size=canvas_size)


class DecodedLevels(NamedTuple):
    """All levels together.

    Class logits ``(*batch, P, C)``, distributions ``(*batch, P, 4, R)``, xyxy boxes ``(*batch, P, 4)``.
    """

    logits: Tensor
    distribution: Tensor
    boxes: Tensor


@dataclass(frozen=True, kw_only=True)
class Vec2Box:
    """Decodes the maps of every level of YOLOv9: boxes from distances in strides.

    Args:
        image_size: Height and width of the (padded) image in pixels.
        strides: One for each level.

    Source: Wang et al., YOLOv9, 2024.

    >>> from losses.coders.distribution import Vec2Box
    >>> decode = Vec2Box(image_size=(16, 16), strides=(8, 16))
    >>> levels = [(torch.rand(1, 3, n, n), torch.zeros(1, 5, 4, n, n), torch.ones(1, 4, n, n)) for n in (2, 1)]
    >>> decode(levels).boxes
    tensor([[[-4., -4., 12., 12.],
             [ 4., -4., 20., 12.],
             [-4.,  4., 12., 20.],
             [ 4.,  4., 20., 20.],
             [-8., -8., 24., 24.]]])
    """

    image_size: tuple[int, int]
    strides: Sequence[Stride] = (8, 16, 32)

    def __post_init__(self) -> None:
        feature_sizes(self.image_size, self.strides)

    def points(self, like: Tensor) -> Tensor:
        """``grid_points`` (P, 4): x, y and strides in pixels; on the device of ``like``, in float32 at least."""
        check_is_tensor(like, "like")
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        return known_points(self.image_size, self.strides, device=like.device, dtype=dtype)

    def __call__(self, levels: Sequence[Sequence[Tensor]]) -> DecodedLevels:
        """Flatten the maps of all levels, and decode.

        Args:
            levels: For each level the class logits ``(*batch, C, h, w)``, the logits of the distributions
                ``(*batch, R, 4, h, w)`` and, optionally, the distances ltrb in strides, ``(*batch, 4, h, w)``; if you
                leave these out, they are the means of the distributions.

        Returns:
            Logits and distributions as given; boxes xyxy in pixels, in float32 at least.

        Raises:
            TypeError: ``levels`` is not a list of lists of tensors.
            ValueError: The number of levels or the shape of a map does not fit image size and strides.
        """
        logits, distribution, distances = self.flatten(levels)
        if distances is None:
            distances = integral(distribution)
        boxes = DistanceCoder(scale_by_stride=True).decode(self.points(distances), distances)
        return DecodedLevels(logits, distribution, boxes)

    def flatten(self, levels: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor, Tensor | None]:
        """The maps of all levels side by side, not decoded; arguments and errors as for a call.

        Returns:
            Class logits ``(*batch, P, C)``, distributions ``(*batch, P, 4, R)``, and, if given, distances
            ``(*batch, P, 4)``. Channels stay first in memory.
        """
        self._check(levels)
        logits = cells_side_by_side([level[0] for level in levels]).mT
        distribution = cells_side_by_side([level[1] for level in levels]).movedim(-1, -3).mT
        if len(levels[0]) < 3:
            return logits, distribution, None
        return logits, distribution, cells_side_by_side([level[2] for level in levels]).mT

    def _check(self, levels: Sequence[Sequence[Tensor]]) -> None:
        sizes = feature_sizes(self.image_size, self.strides)
        check_is_sequence(levels, "levels", "maps, for each level a list")
        if len(levels) != len(sizes):
            raise ValueError(f"levels must be {len(sizes)}, one for each stride, got {len(levels)}")
        for k, (maps, size) in enumerate(zip(levels, sizes, strict=True)):
            check_is_sequence(maps, f"level {k}", "maps")
            if len(maps) not in (2, 3) or len(maps) != len(levels[0]):
                raise ValueError(
                    f"level {k} must have class, distribution and distance maps, or on all levels the first two, "
                    f"got {len(maps)} maps"
                )
            names = ("class", "distribution", "distance")[: len(maps)]
            for name, each, first in zip(names, maps, levels[0], strict=True):
                which = f"the {name} map of level {k}"
                check_floating(each, which)
                check_same_device(each.device, levels[0][0].device, name=which, reference="the first map")
                got = tuple(each.shape)
                if each.shape[-2:] != size:
                    raise ValueError(
                        f"{which} must end with (h, w) = {size}, for images of {self.image_size} and stride "
                        f"{self.strides[k]}, got {got}"
                    )
                if name != "class" and (len(got) < 3 or got[-3] != 4):
                    raise ValueError(f"{which} must have 4 sides in dim -3, got {got}")
                if each.shape[:-2] != first.shape[:-2]:
                    own = ", ".join(map(str, first.shape[:-2]))
                    raise ValueError(f"{which} must be ({own}, h, w) as that of level 0, got {got}")


register_named_tuple(DecodedLevels)
