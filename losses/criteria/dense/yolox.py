"""The criterion of YOLOX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from losses.coders.boxes import BoxCoder, check_coder
from losses.coders.points import CenterLogSizeCoder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion, GlobalCount
from losses.core.normalizer import Normalizer
from losses.core.terms import Losses, Term, Terms
from losses.heads.levels import DensePredictions, Maps, points_of, read_dense
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import IoULoss, L1Loss, box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import BinaryCrossEntropy, class_values
from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND
from matchers.dense.simota import SimOTA
from matchers.geometry.maps import Stride, stride_pairs
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_flag
from ragged.values.precision import wide


class YOLOXCriterion(Criterion):
    """The loss of YOLOX (Ge et al., 2021): SimOTA, then classes, boxes and objectness.

    Predictions are ``(class scores, boxes, objectness)``, each a list of maps, one for each level: (B, C, h, w),
    (B, 4, h, w) as ``CenterLogSizeCoder`` has them, (B, 1, h, w); scores and objectness are logits. Or they are
    ``DensePredictions``. Targets are in pixels, or have a ``canvas_size``.

    Terms, each divided by the number of positive predictions of the batch, at least 1:

    * ``loss_cls``: of the positives, binary cross entropy with the IoU at the time of assignment as target;
    * ``loss_bbox``: of the positives, ``1 - IoU²``, times 5;
    * ``loss_obj``: of all, binary cross entropy;
    * ``loss_l1``: with ``use_l1``, of the positives, L1 of the encoded boxes.

    Args:
        num_classes: C.
        loss_cls, loss_bbox, loss_obj, loss_l1: Other losses for these terms; see ``losses.modules``.
        use_l1: Whether there is ``loss_l1``.
        strides: Of the levels, in pixels.
        matcher: Default: ``SimOTA()``.
        bbox_coder: Default: ``CenterLogSizeCoder()``.
        reduction, normalizer: See ``Criterion``.

    Raises:
        TypeError, ValueError: Numbers of levels or classes, or shapes, that do not match; a label outside ``0 … C -
            1``.

    Differences to other implementations: the IoU loss is ``1 - IoU²`` as in the paper and in mmdetection, where
    cjm-yolox computes ``1 - GIoU²``, whose gradient pushes boxes apart that do not overlap. For differences of the
    match, see ``SimOTA``.

    >>> maps = [[torch.zeros(1, channels, 4, 4) for stride in (8,)] for channels in (3, 4, 1)]
    >>> targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
    >>> sorted(YOLOXCriterion(3, strides=(8,))(maps, targets))
    ['loss_bbox', 'loss_cls', 'loss_obj']
    """

    MULTI_HOT = True

    def __init__(
        self,
        num_classes: int,
        loss_cls: ClassLoss | None = None,
        loss_bbox: BoxLoss | None = None,
        loss_obj: ClassLoss | None = None,
        loss_l1: BoxLoss | None = None,
        use_l1: bool = False,
        *,
        strides: Sequence[Stride] = (8, 16, 32),
        matcher: Callable[..., Assignment] | None = None,
        bbox_coder: BoxCoder | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        matcher = SimOTA() if matcher is None else matcher
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.loss_cls = BinaryCrossEntropy() if loss_cls is None else loss_cls
        self.loss_bbox = IoULoss(mode="square", loss_weight=5.0) if loss_bbox is None else loss_bbox
        self.loss_obj = BinaryCrossEntropy() if loss_obj is None else loss_obj
        self.loss_l1 = L1Loss() if loss_l1 is None else loss_l1
        for name in ("loss_bbox", "loss_l1"):
            check_loss(getattr(self, name), name)
        for name in ("loss_cls", "loss_obj"):
            check_class_loss(getattr(self, name), name)
        stride_pairs(strides)
        check_flag(use_l1, "use_l1")
        self.use_l1, self.strides = bool(use_l1), tuple(strides)
        self.bbox_coder = CenterLogSizeCoder() if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")

    def read(self, predictions: Any) -> DensePredictions:
        """All levels side by side, with the points that boxes are decoded from."""
        return read_dense(
            predictions,
            num_classes=self.num_classes,
            strides=self.strides,
            priors=partial(points_of, strides=self.strides),
            confidence="objectness",
        )

    def match(self, predictions: DensePredictions, targets: Targets) -> Assignment:
        """Match by the points in the middle of the cells, half a stride from those that boxes are decoded from."""
        boxes = self.bbox_coder.decode(predictions.priors, wide(predictions.deltas))
        points = torch.cat([predictions.priors[:, :2] + predictions.priors[:, 2:] / 2, predictions.priors[:, 2:]], -1)
        found = Predictions(predictions.logits, boxes, predictions.confidence, box_format="xyxy", normalized=False)
        return self.call_matcher(found, targets, points)

    def terms(self, predictions: DensePredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        deltas, priors = wide(rows.of_predictions(predictions.deltas)), rows.of_priors(predictions.priors)
        boxes = box_values(self.loss_bbox, self.bbox_coder.decode(priors, deltas), assigned.boxes)
        scores = class_values(
            self.loss_cls,
            rows.of_predictions(predictions.logits),
            assigned.class_targets_of_rows(),
            assigned.quality_of_rows(),
            class_mask=rows.of_class_mask(predictions.class_mask, self.num_classes),
        )
        found = assigned.labels.clamp(BACKGROUND, 0)
        objectness = class_values(self.loss_obj, predictions.need_confidence("YOLOXCriterion").unsqueeze(-1), found)
        terms = {
            "loss_cls": Term(assigned.counted_rows(scores), count, rows),
            "loss_bbox": Term(assigned.counted_rows(boxes), count, rows),
            "loss_obj": Term(assigned.counted(objectness), count),
        }
        if self.use_l1:
            values = box_values(self.loss_l1, deltas, self.bbox_coder.encode(priors, assigned.boxes))
            terms["loss_l1"] = Term(assigned.counted_rows(values), count, rows)
        return terms


class YOLOXLoss(nn.Module):
    """``YOLOXCriterion`` with numbers as weights, called with lists of maps and lists of targets.

    Args:
        num_classes: C.
        bbox_loss_weight, class_loss_weight, objectness_loss_weight, l1_loss_weight: Of the terms.
        use_l1: Whether there is ``loss_l1``.
        strides: Of the levels, in pixels.
        matcher, bbox_coder, reduction, normalizer: See ``YOLOXCriterion``.

    >>> loss = YOLOXLoss(3, strides=[8])
    >>> maps = [[torch.zeros(1, channels, 4, 4)] for channels in (3, 4, 1)]
    >>> loss(*maps, [torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])["loss_obj"] > 0
    tensor(True)
    """

    def __init__(
        self,
        num_classes: int,
        bbox_loss_weight: float = 5.0,
        class_loss_weight: float = 1.0,
        objectness_loss_weight: float = 1.0,
        l1_loss_weight: float = 1.0,
        use_l1: bool = False,
        strides: Sequence[Stride] = (8, 16, 32),
        *,
        matcher: Callable[..., Assignment] | None = None,
        bbox_coder: BoxCoder | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__()
        self.criterion = YOLOXCriterion(
            num_classes,
            loss_cls=BinaryCrossEntropy(loss_weight=class_loss_weight),
            loss_bbox=IoULoss(mode="square", loss_weight=bbox_loss_weight),
            loss_obj=BinaryCrossEntropy(loss_weight=objectness_loss_weight),
            loss_l1=L1Loss(loss_weight=l1_loss_weight),
            use_l1=use_l1,
            strides=strides,
            matcher=matcher,
            bbox_coder=bbox_coder,
            reduction=reduction,
            normalizer=normalizer,
        )

    @property
    def reduction(self) -> str:
        """That of the criterion. It can be set; another word is a ``ValueError``."""
        return self.criterion.reduction

    @reduction.setter
    def reduction(self, reduction: str) -> None:
        self.criterion.reduction = reduction

    def forward(
        self,
        class_scores: Maps,
        predicted_bboxes: Maps,
        objectness_scores: Maps,
        ground_truth_bboxes: Any,
        ground_truth_labels: Sequence[Tensor] | None = None,
        *,
        global_count: GlobalCount = None,
    ) -> Losses:
        """The terms of ``YOLOXCriterion``.

        Args:
            class_scores: Maps (B, C, h, w) of each level, logits.
            predicted_bboxes: Of each level (B, 4, h, w).
            objectness_scores: Of each level (B, 1, h, w), logits.
            ground_truth_bboxes: Of each image (n, 4), xyxy in pixels; or targets in any other layout.
            ground_truth_labels: Of each image (n,).
            global_count: See ``Criterion``.
        """
        targets = ground_truth_bboxes
        if ground_truth_labels is not None:
            targets = (ground_truth_bboxes, ground_truth_labels)
        predictions = (class_scores, predicted_bboxes, objectness_scores)
        return self.criterion(predictions, targets, global_count=global_count)
