"""The criterion of YOLOv9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from losses.coders.distribution import DistributionCoder, Vec2Box
from losses.core.criterion import GlobalCount
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.terms import Losses
from losses.criteria.dense.aligned import AlignedCriterion, DistanceLoss
from losses.functional.distribution import distribution_focal_loss
from losses.heads.yolov9 import YOLOv9Predictions, by_side
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import CIoULoss
from matchers.assignments.assignment import Assignment
from matchers.dense.task_aligned import TaskAligned
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_not_negative
from ragged.values.precision import wide


class YOLOv9Criterion(AlignedCriterion):
    """The loss of YOLOv9 (Wang et al., 2024): task-aligned assignment, then classes, boxes and their distributions.

    Predictions are, for each level, the class logits (B, C, h, w), the logits of the distributions (B, R, 4, h, w) and,
    optionally, the distances (B, 4, h, w) in strides, as ``Vec2Box`` takes them; or what it gives, ``DecodedLevels``.
    Targets are in pixels, or have a ``canvas_size``.

    Terms, each divided by the sum of the qualities of the assignment in the batch, or by 1 if that is less:

    * ``loss_cls``: of all, binary cross entropy with the quality as target of the assigned class, times ``cls_rate``;
    * ``loss_df``: of the positives, the distribution focal loss, mean of four sides, times quality and ``dfl_rate``;
    * ``loss_iou``: of the positives, ``1 - CIoU``, times quality and ``iou_rate``.

    An auxiliary branch has its own match and divisor; its terms are added to those of the same name, times
    ``aux_rate``.

    Args:
        num_classes: C.
        vec2box: A ``Vec2Box`` with image size and strides.
        loss_cls, loss_iou: Other losses for these terms, of boxes in pixels; see ``losses.modules``.
        loss_dfl: The same, called with logits (N, 4, R) and distances (N, 4) in strides up to R - 1.01.
        reg_max: R.
        cls_rate, dfl_rate, iou_rate, aux_rate: See above.
        matcher: Default: ``TaskAligned.yolov9()``.
        reduction, normalizer: See ``Criterion``; values of ``"none"`` are sums over both branches.

    Raises:
        TypeError, ValueError: Levels that do not fit image size and strides, numbers of classes or bins, branches that
            differ in shape, a label outside ``0 … C - 1``, a rate that is negative.

    Differences to other implementations: OTX divides by a sum of qualities below 1 too, and by 0 where nothing is
    positive; it puts the mean of the terms, as ``total_loss``, into the same dict, and returns None where no image has
    a target. Its loss modules take the targets of all predictions and a divisor; the modules here do not. OTX divides
    by the largest metric of a target plus 1e-9, this criterion by the larger of that metric and 1e-9. The results
    differ only if all predictions of a target are poor.

    >>> levels = [(torch.zeros(1, 3, n, n), torch.zeros(1, 16, 4, n, n)) for n in (4, 2)]
    >>> targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
    >>> criterion = YOLOv9Criterion(3, Vec2Box(image_size=(32, 32), strides=(8, 16)))
    >>> sorted(criterion(levels, targets, aux_preds=levels))
    ['loss_cls', 'loss_df', 'loss_iou']
    """

    def __init__(
        self,
        num_classes: int,
        vec2box: Vec2Box,
        loss_cls: ClassLoss | None = None,
        loss_dfl: DistanceLoss | None = None,
        loss_iou: BoxLoss | None = None,
        reg_max: int = 16,
        cls_rate: float = 0.5,
        dfl_rate: float = 1.5,
        iou_rate: float = 7.5,
        aux_rate: float = 0.25,
        *,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        matcher = TaskAligned.yolov9() if matcher is None else matcher
        super().__init__(
            num_classes,
            loss_cls=loss_cls,
            loss_dfl=distribution_focal_loss if loss_dfl is None else loss_dfl,
            loss_iou=CIoULoss(detach_trade_off=False) if loss_iou is None else loss_iou,
            cls_rate=cls_rate,
            dfl_rate=dfl_rate,
            iou_rate=iou_rate,
            matcher=matcher,
            reduction=reduction,
            normalizer=normalizer,
        )
        if not isinstance(vec2box, Vec2Box):
            raise TypeError(f"vec2box must be a Vec2Box, got {type(vec2box).__name__}")
        self.vec2box, self.bbox_coder = vec2box, DistributionCoder(reg_max=reg_max)
        self.aux_rate = aux_rate
        check_not_negative(aux_rate, "aux_rate")

    def forward(
        self,
        main_preds: Any,
        targets: Any,
        aux_preds: Any = None,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> Losses:
        """Assign, and compute the loss.

        Args:
            main_preds: See the class.
            targets: Anything that ``Targets.of`` reads, for example (B, N, 5): label (-1 for filler) and xyxy box in
                pixels.
            aux_preds: Predictions of the auxiliary branch, if there is one, of the same shapes.
            valid_label_mask: See ``Criterion``.
            global_count: See ``Criterion``; with an auxiliary branch (2,), one for each.
        """
        read = self.read(main_preds, aux_preds)
        return super().forward(read, targets, valid_label_mask=valid_label_mask, global_count=global_count)

    def read(self, main_preds: Any, aux_preds: Any = None) -> YOLOv9Predictions:
        """All levels side by side, both branches as layers. Every step accepts the result instead of the branches."""
        if isinstance(main_preds, YOLOv9Predictions):
            if aux_preds is not None:
                raise ValueError("predictions that were read have their auxiliary branch, but aux_preds are given too")
            main_preds.check_sizes(num_classes=self.num_classes, reg_max=self.bbox_coder.reg_max)
            return main_preds
        shape = {"num_classes": self.num_classes, "reg_max": self.bbox_coder.reg_max}
        main = YOLOv9Predictions.of(main_preds, self.vec2box, **shape, name="main_preds")
        if aux_preds is None:
            return main
        return main.stacked(YOLOv9Predictions.of(aux_preds, self.vec2box, **shape, name="aux_preds"))

    def assign(self, predictions: Any, targets: Any, aux_preds: Any = None) -> Assignment:
        """Match both branches, as layers of one batch."""
        return super().assign(self.read(predictions, aux_preds), targets)

    def loss(
        self,
        predictions: Any,
        targets: Any,
        assignment: Assignment | None = None,
        aux_preds: Any = None,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> Losses:
        """See ``Criterion``; with an auxiliary branch, of an assignment (2, B, P)."""
        read = self.read(predictions, aux_preds)
        return super().loss(read, targets, assignment, valid_label_mask=valid_label_mask, global_count=global_count)

    def counts(
        self, predictions: Any, targets: Any, assignment: Assignment | None = None, aux_preds: Any = None
    ) -> dict[str, Tensor]:
        """See ``Criterion``; with an auxiliary branch (2,), one for each."""
        return super().counts(self.read(predictions, aux_preds), targets, assignment)

    def match(self, predictions: YOLOv9Predictions, targets: Targets) -> Assignment:
        """Match all branches at once."""
        found = Predictions(predictions.logits, predictions.decoded(), box_format="xyxy", normalized=False)
        return self.call_matcher(found, targets, predictions.points)

    def located(
        self, predictions: YOLOv9Predictions, rows: Positives, points: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The distribution focal loss, and boxes as they are given or as the means of the distributions."""
        sides = by_side(wide(rows.of_predictions(predictions.distribution)))
        if predictions.boxes is None:
            boxes = self.bbox_coder.decode(points, sides)
        else:
            boxes = wide(rows.of_predictions(predictions.boxes))
        return self.loss_dfl(sides, self.bbox_coder.encode(points, target)).sum(-1), boxes, target

    def joined(self, first: Any, second: Any) -> Any:
        """The main branch, and the auxiliary one at its rate."""
        return first + self.aux_rate * second
