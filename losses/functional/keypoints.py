"""Losses of keypoints: OKS, and the distance of coordinates.

Predicted keypoints are ``(…, K, 2)``, x and y; targets ``(…, K, 3)`` have their visibility as well, as in COCO: 0 is a
keypoint that nobody has labelled. Such a keypoint has no loss, and an object without any other has a loss of 0. Leading
dimensions broadcast. Nothing is reduced, all is computed in float32 at least. Targets are constants: no gradient flows
into them.

The loss of the visibility itself, as in YOLO-pose, is a binary cross entropy of its own logits ``(…, K)``:
``binary_cross_entropy(logits, target[..., 2] > 0).mean(-1)``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from matchers.geometry.keypoints import COCO_SIGMAS, Distances
from ragged.interop.operands import takes_batches
from ragged.values.precision import wide

_NAMES = "pred", "target"


@takes_batches(pred=2, target=2, area=0)
def oks_loss(pred: Tensor, target: Tensor, area: Tensor, *, sigmas: Sequence[float] = COCO_SIGMAS) -> Tensor:
    """``1 - OKS`` over the visible keypoints of each object, in [0, 1]; 0 where none is visible.

    Args:
        pred: ``(…, K, 2)``, x and y.
        target: ``(…, K, 3)``, x, y and visibility; visible means above 0.
        area: ``(…)``, that of each target in the squared unit of the keypoints.
        sigmas: K numbers above 0. See ``oks``.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes, dtypes, areas or sigmas that do not fit.

    Source: Maji et al., YOLO-Pose, 2022.

    >>> target = torch.tensor([[0.0, 0.0, 2.0], [4.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    >>> pred = torch.tensor([[0.0, 0.0], [4.0, 1.0], [9.0, 9.0]])
    >>> oks_loss(pred, target, torch.tensor(8.0), sigmas=(0.125, 0.125, 0.1))
    tensor(0.3161)
    """
    target, area = _constants(pred, target, area)
    distances = Distances.of(pred, target, _NAMES)
    # Not 1 - exp: of keypoints that are nearly right, it leaves few digits.
    return distances.over_visible(distances.exponents(area, sigmas).expm1_()).neg()


@takes_batches(pred=2, target=2)
def keypoint_l1_loss(pred: Tensor, target: Tensor) -> Tensor:
    """The mean of ``|dx| + |dy|`` over the visible keypoints of each object; 0 where none is visible.

    Args:
        pred: ``(…, K, 2)``, x and y.
        target: ``(…, K, 3)``, x, y and visibility, in the same unit.

    Returns:
        ``(…)``.

    Raises:
        ValueError, TypeError: Shapes do not match, or a dtype is not floating.

    >>> keypoint_l1_loss(torch.ones(2, 2), torch.tensor([[0.0, 3.0, 2.0], [9.0, 9.0, 0.0]]))
    tensor(3.)
    """
    (target,) = _constants(pred, target)
    distances = Distances.of(pred, target, _NAMES)
    return distances.over_visible(distances.l1())


def _constants(pred: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Without a gradient, in the dtype of the losses; keypoints and areas of other types are left for the checks."""
    if not all(isinstance(each, Tensor) and each.is_floating_point() for each in (pred, *values)):
        return values
    return tuple(each.detach().to(wide(pred).dtype) for each in values)
