"""Losses of boxes as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from losses.functional.boxes import MODES, ciou_loss, diou_loss, giou_loss, iou_loss, l1_loss
from losses.functional.boxes3d import box3d_l1_loss
from losses.functional.numerics import check_fraction
from losses.modules.base import BoxLoss, LossModule
from matchers.geometry.boxes import Coordinates, aligned
from matchers.geometry.codes import checked_code_weights
from matchers.geometry.overlaps import ciou, diou, giou
from ragged.values.checks import check_flag, check_one_of
from ragged.values.precision import wide


class IoULoss(LossModule):
    """``iou_loss`` of xyxy boxes: linear, square (YOLOX) or log.

    >>> IoULoss(mode="square")(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1]]))
    tensor([0.7500])
    """

    def __init__(
        self, *, mode: str = "linear", eps: float = 1e-6, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_one_of(mode, MODES, "mode")
        check_fraction(eps, "eps")
        self.mode, self.eps = mode, eps

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(iou_loss(pred, target, mode=self.mode, eps=self.eps))


class GIoULoss(LossModule):
    """``giou_loss`` of xyxy boxes.

    >>> GIoULoss(loss_weight=2.0)(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1]]))
    tensor([1.])
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(giou_loss(pred, target))

    def of_coordinates(self, pred: Coordinates, target: Coordinates) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(1 - giou(pred, target))


class DIoULoss(LossModule):
    """``diou_loss`` of xyxy boxes.

    >>> DIoULoss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([0.5312])
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(diou_loss(pred, target))

    def of_coordinates(self, pred: Coordinates, target: Coordinates) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(1 - diou(pred, target))


class CIoULoss(LossModule):
    """``ciou_loss`` of xyxy boxes.

    Args:
        detach_trade_off: Whether the weight of the aspect ratio is a constant for the gradient, as in the paper.

    >>> CIoULoss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([0.5345])
    """

    def __init__(self, *, detach_trade_off: bool = True, reduction: str = "none", loss_weight: float = 1.0) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_flag(detach_trade_off, "detach_trade_off")
        self.detach_trade_off = bool(detach_trade_off)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…)."""
        return self.reduced(ciou_loss(pred, target, detach_trade_off=self.detach_trade_off))

    def of_coordinates(self, pred: Coordinates, target: Coordinates) -> Tensor:
        """See ``LossTraits``."""
        return self.reduced(1 - ciou(pred, target, detach_trade_off=self.detach_trade_off))


class L1Loss(LossModule):
    """``l1_loss`` of every coordinate.

    >>> L1Loss()(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 1.0]]))
    tensor([[0., 0., 0., 1.]])
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Boxes (…, 4) to losses (…, 4)."""
        return self.reduced(l1_loss(pred, target))

    def of_coordinates(self, pred: Coordinates, target: Coordinates) -> Tensor:
        """See ``LossTraits``."""
        pred, target = aligned(pred, target)
        return self.reduced((pred.corners - target.corners).abs().sum(0))


class Box3DL1Loss(LossModule):
    """``box3d_l1_loss`` of boxes in 3D.

    Args:
        code_weights: D weights of their parameters; 1 for all if not given.

    >>> target = torch.tensor([[1.0, 0.0, 0.5], [1.0, 0.0, torch.nan]])
    >>> Box3DL1Loss(code_weights=(2.0, 1.0, 0.2), loss_weight=0.25)(torch.zeros(2, 3), target)
    tensor([0.5250, 0.0000])
    """

    def __init__(
        self, *, code_weights: Sequence[float] | None = None, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        self.code_weights = None if code_weights is None else checked_code_weights(code_weights)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Parameters (…, D) to losses (…)."""
        return self.reduced(box3d_l1_loss(pred, target, code_weights=self.code_weights))


def box_values(loss: BoxLoss, pred: Tensor, target: Tensor) -> Tensor:
    """The values of a box loss for boxes (R, 4), in float32 at least: (R,)."""
    values = loss(wide(pred), wide(target))
    return values.sum(-1) if values.dim() > 1 else values
