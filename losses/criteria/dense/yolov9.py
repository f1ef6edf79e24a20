"""The criterion of YOLOv9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from losses.coders.distribution import DistributionCoder, Vec2Box
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion, GlobalCount
from losses.core.normalizer import Normalizer
from losses.core.terms import Losses, Term, Terms
from losses.functional.distribution import distribution_focal_loss
from losses.heads.yolov9 import YOLOv9Predictions, by_side
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import CIoULoss, box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import BinaryCrossEntropy, class_values
from matchers.assignments.assignment import Assignment
from matchers.dense.task_aligned import TaskAligned
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.values.checks import check_not_negative
from ragged.values.precision import wide

DistributionLoss = Callable[[Tensor, Tensor], Tensor]
"""Called with logits (N, 4, R) and distances (N, 4) in strides; gives (N, 4)."""


class YOLOv9Criterion(Criterion):
    """The loss of YOLOv9 (Wang et al., 2024): task-aligned assignment, then classes, boxes and their distributions.

    Predictions are, for each level, the class logits (B, C, h, w), the logits of the distributions (B, R, 4, h, w) and,
    optionally, the distances (B, 4, h, w) in strides, as ``Vec2Box`` takes them; or what it gives, ``DecodedLevels``.
    Targets are in pixels, or have a ``canvas_size``.

    Terms, each divided by the sum of the qualities of the assignment in the batch, or by 1 if that is less:

    * ``loss_cls``: of all, binary cross entropy with the quality as target of the assigned class, times ``cls_rate``;
    * ``loss_df``: of the positives, the distribution focal loss, mean of four sides, times quality and ``dfl_rate``;
    * ``loss_iou``: of the positives, ``1 - CIoU``, times quality and ``iou_rate``.

    An auxiliary branch is matched and divided for itself; its terms are added to those of the same name, times
    ``aux_rate``.

    Args:
        num_classes: C.
        vec2box: Image size and strides.
        loss_cls, loss_iou: Losses in place of the above, of boxes in pixels; see ``losses.modules``.
        loss_dfl: The same, called with logits (N, 4, R) and distances (N, 4) in strides up to R - 1.01.
        reg_max: R.
        cls_rate, dfl_rate, iou_rate, aux_rate: See above.
        matcher: ``TaskAligned.yolov9()`` unless given.
        reduction, normalizer: See ``Criterion``; values of ``"none"`` are sums over both branches.

    Raises:
        TypeError, ValueError: Levels that do not fit image size and strides, numbers of classes or bins, branches that
            differ in shape, a label that is no class, a rate that is negative.

    Differences to other implementations: OTX divides by a sum of qualities below 1 too, and by 0 where nothing is
    positive; it puts the mean of the terms, as ``total_loss``, into the same dict, and returns None where no image has
    a target. Its loss modules take targets of all predictions and a divisor, those here neither. There the largest
    metric of a target is divided by with 1e-9 added, here by itself or 1e-9, which differs where all predictions of a
    target are poor.

    >>> levels = [(torch.zeros(1, 3, n, n), torch.zeros(1, 16, 4, n, n)) for n in (4, 2)]
    >>> targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
    >>> criterion = YOLOv9Criterion(3, Vec2Box(image_size=(32, 32), strides=(8, 16)))
    >>> sorted(criterion(levels, targets, aux_preds=levels))
    ['loss_cls', 'loss_df', 'loss_iou']
    """

    MULTI_HOT = True

    def __init__(
        self,
        num_classes: int,
        vec2box: Vec2Box,
        loss_cls: ClassLoss | None = None,
        loss_dfl: DistributionLoss | None = None,
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
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        if not isinstance(vec2box, Vec2Box):
            raise TypeError(f"vec2box must be a Vec2Box, got {type(vec2box).__name__}")
        self.vec2box, self.bbox_coder = vec2box, DistributionCoder(reg_max=reg_max)
        self.loss_cls = BinaryCrossEntropy() if loss_cls is None else loss_cls
        self.loss_dfl = distribution_focal_loss if loss_dfl is None else loss_dfl
        self.loss_iou = CIoULoss(detach_trade_off=False) if loss_iou is None else loss_iou
        check_class_loss(self.loss_cls, "loss_cls")
        for name in ("loss_dfl", "loss_iou"):
            check_loss(getattr(self, name), name)
        self.cls_rate, self.dfl_rate, self.iou_rate, self.aux_rate = cls_rate, dfl_rate, iou_rate, aux_rate
        for name in ("cls_rate", "dfl_rate", "iou_rate", "aux_rate"):
            check_not_negative(getattr(self, name), name)

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
            targets: Anything that ``Targets.of`` reads, among it (B, N, 5): label, or -1 for filler, and xyxy box.
            aux_preds: Those of the auxiliary branch, if there is one, of the same shapes.
            valid_label_mask: See ``Criterion``.
            global_count: See ``Criterion``; with an auxiliary branch (2,), one for each.
        """
        read = self.read(main_preds, aux_preds)
        return super().forward(read, targets, valid_label_mask=valid_label_mask, global_count=global_count)

    def read(self, main_preds: Any, aux_preds: Any = None) -> YOLOv9Predictions:
        """All levels side by side, and both branches as layers. Each step takes what it gives in place of both."""
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

    def num_layers(self, predictions: YOLOv9Predictions) -> int:
        """1 with an auxiliary branch, else 0."""
        return predictions.num_layers

    def terms(self, predictions: YOLOv9Predictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, dtype = assigned.positives, wide(predictions.logits).dtype
        quality = assigned.quality.to(dtype)
        count = {"sum_of_quality": assigned.counted(quality).sum(-1)}
        points, own = rows.of_priors(predictions.points), rows.of_predictions(quality)
        sides = by_side(wide(rows.of_predictions(predictions.distribution)))
        if predictions.boxes is None:
            boxes = self.bbox_coder.decode(points, sides)
        else:
            boxes = wide(rows.of_predictions(predictions.boxes))
        overlaps = box_values(self.loss_iou, boxes, assigned.boxes)
        distances = self.loss_dfl(sides, self.bbox_coder.encode(points, assigned.boxes)).mean(-1)
        classes = class_values(
            self.loss_cls, predictions.logits, assigned.class_targets(), quality, class_mask=predictions.class_mask
        )
        return {
            "loss_cls": Term(assigned.counted(classes), count, weight=self.cls_rate),
            "loss_df": Term(assigned.counted_rows(distances * own), count, rows, self.dfl_rate),
            "loss_iou": Term(assigned.counted_rows(overlaps * own), count, rows, self.iou_rate),
        }

    def finished(self, losses: Losses, predictions: YOLOv9Predictions, terms: Terms) -> Losses:
        """The main branch, and the auxiliary one at its rate."""
        if not predictions.num_layers:
            return losses
        return {name: self._joined(value) for name, value in losses.items()}

    def _joined(self, value: Any) -> Any:
        """The main branch, and the auxiliary one at its rate."""
        if isinstance(value, RaggedBatch):
            return RaggedBatch.from_full_tensor(self._joined(value.tensor))
        return value[0] + self.aux_rate * value[1]
