"""The criterion of RTMDet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from losses.coders.boxes import BoxCoder, check_coder
from losses.coders.points import DistanceCoder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.heads.levels import DensePredictions, points_of, read_dense
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import GIoULoss, box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import QualityFocalLoss, class_values
from matchers.assignments.assignment import Assignment
from matchers.dense.dynamic_soft_label import DynamicSoftLabel
from matchers.geometry.maps import Stride, stride_pairs
from matchers.targets.targets import Targets
from ragged.values.precision import wide


class RTMDetCriterion(Criterion):
    """The loss of RTMDet (Lyu et al., 2022): dynamic soft labels, then classes and boxes, both by the IoU.

    Predictions are ``(class scores, boxes)``, each a list of maps, one for each level: (B, C, h, w), logits, and
    (B, 4, h, w), distances left, top, right and bottom from the upper left corner of the cell, in pixels. A head that
    predicts logarithms in strides gives ``x.exp() * stride``. Or they are ``DensePredictions``. Targets are in pixels,
    or have a ``canvas_size``.

    With q the quality of a positive prediction, its IoU at the time of assignment, and 0 for all others, the terms are,
    each divided by the sum of q over the batch, or by 1:

    * ``loss_cls``: of all predictions, quality focal loss ``|q - p|² BCE(x, q)``, with 0 in place of q for the classes
      that are not the target's;
    * ``loss_bbox``: of the positives, ``q (1 - GIoU)``, times 2.

    Args:
        num_classes: C.
        loss_cls, loss_bbox: Other losses for these terms; see ``losses.modules``.
        strides: Of the levels, in pixels.
        matcher: Default: ``DynamicSoftLabel()``. Its quality is q.
        bbox_coder: Default: ``DistanceCoder()``.
        reduction, normalizer: See ``Criterion``.

    Raises:
        TypeError, ValueError: Numbers of levels or classes, or shapes, that do not match; a label outside ``0 … C -
            1``.

    Differences to other implementations: with assigned targets, a positive of weight 0 counts in no term and in no
    divisor; OTX still counts its box and its quality. OTX divides by the number of ranks before it clamps the divisor
    to 1. For differences of the match, see ``DynamicSoftLabel``.

    >>> maps = [torch.zeros(1, 3, 4, 4)], [torch.full((1, 4, 4, 4), 8.0)]
    >>> targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
    >>> sorted(RTMDetCriterion(3, strides=(8,))(maps, targets))
    ['loss_bbox', 'loss_cls']
    """

    MULTI_HOT = True

    def __init__(
        self,
        num_classes: int,
        loss_cls: ClassLoss | None = None,
        loss_bbox: BoxLoss | None = None,
        *,
        strides: Sequence[Stride] = (8, 16, 32),
        matcher: Callable[..., Assignment] | None = None,
        bbox_coder: BoxCoder | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        matcher = DynamicSoftLabel() if matcher is None else matcher
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.loss_cls = QualityFocalLoss() if loss_cls is None else loss_cls
        self.loss_bbox = GIoULoss(loss_weight=2.0) if loss_bbox is None else loss_bbox
        check_class_loss(self.loss_cls, "loss_cls")
        check_loss(self.loss_bbox, "loss_bbox")
        stride_pairs(strides)
        self.strides = tuple(strides)
        self.bbox_coder = DistanceCoder() if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")

    def read(self, predictions: Any) -> DensePredictions:
        """All levels side by side, with the points that they are predicted from."""
        return read_dense(
            predictions,
            num_classes=self.num_classes,
            strides=self.strides,
            priors=partial(points_of, strides=self.strides),
        )

    def match(self, predictions: DensePredictions, targets: Targets) -> Assignment:
        """Match predicted classes and boxes, at the points that boxes are predicted from."""
        return self.call_matcher(predictions.decoded(self.bbox_coder), targets, predictions.priors)

    def terms(self, predictions: DensePredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows = assigned.positives
        boxes = self.bbox_coder.decode(
            rows.of_priors(predictions.priors), wide(rows.of_predictions(predictions.deltas))
        )
        quality = assigned.quality_of_rows().detach().to(boxes.dtype)
        overlaps = box_values(self.loss_bbox, boxes, assigned.boxes) * quality
        mask = predictions.class_mask
        scores = class_values(
            self.loss_cls, predictions.logits, assigned.class_targets(), assigned.quality, class_mask=mask
        )
        count = {"sum_of_quality": rows.per_sample(assigned.counted_rows(quality))}
        return {
            "loss_cls": Term(assigned.counted(scores), count),
            "loss_bbox": Term(assigned.counted_rows(overlaps), count, rows),
        }
