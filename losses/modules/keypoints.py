"""Losses of keypoints as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from losses.functional.keypoints import oks_loss
from losses.modules.base import LossModule
from matchers.geometry.keypoints import COCO_SIGMAS, check_sigmas


class OKSLoss(LossModule):
    """``oks_loss`` of keypoints and the areas of their targets.

    Args:
        sigmas: One number above 0 for each keypoint.

    >>> target = torch.tensor([[[0.0, 0.0, 2.0], [4.0, 0.0, 1.0]]])
    >>> OKSLoss(sigmas=(0.125, 0.125), loss_weight=2.0)(target[..., :2] + 0.5, target, torch.tensor([8.0]))
    tensor([0.7869])
    """

    def __init__(
        self, *, sigmas: Sequence[float] = COCO_SIGMAS, reduction: str = "none", loss_weight: float = 1.0
    ) -> None:
        super().__init__(reduction=reduction, loss_weight=loss_weight)
        check_sigmas(sigmas)
        self.sigmas = tuple(sigmas)

    def forward(self, pred: Tensor, target: Tensor, area: Tensor) -> Tensor:
        """Keypoints (…, K, 2), targets (…, K, 3) and areas (…) to losses (…)."""
        return self.reduced(oks_loss(pred, target, area, sigmas=self.sigmas))
