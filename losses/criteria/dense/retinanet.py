"""The criterion of RetinaNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.heads.anchors import check_anchors, entries_of, in_unit_of_priors, read_anchored
from losses.heads.levels import DensePredictions, checked_classes
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import L1Loss, box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import FocalLoss, class_values
from matchers.assignments.assignment import Assignment
from matchers.dense.max_iou import MaxIoU
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.keys import KnownKeys
from ragged.values.precision import wide

HEAD = KnownKeys(("cls_logits", "bbox_regression", "anchors"))
"""What the head of torchvision gives, and its anchors."""


class RetinaNetCriterion(Criterion):
    """The loss of RetinaNet (Lin et al., 2017), divided by the number of positives of each image, as in torchvision.

    Predictions are ``(class scores, boxes)`` or ``(class scores, boxes, anchors)``: logits (B, P, C), deltas (B, P, 4)
    encoded by ``bbox_coder``, and anchors (P, 4). Scores and boxes may be maps, one for each level, (B, A C, h, w) and
    (B, 4 A, h, w) with A anchors in a cell. A dict with ``"cls_logits"``, ``"bbox_regression"`` and, if need be,
    ``"anchors"`` is the same, and so are ``DensePredictions``. Targets are in pixels, or have a ``canvas_size``.

    Let n be the number of positives of an image, at least 1. The terms are averaged over all images, including images
    without objects:

    * ``loss_cls``: focal loss of all predictions, except ignored ones, over n;
    * ``loss_bbox``: of the positives, the L1 distance of encoded boxes, over n.

    Args:
        num_classes: C. A label of c is that of channel c.
        bbox_coder: Default: ``DeltaXYWHCoder()``.
        loss_cls, loss_bbox: Other losses for these terms; see ``losses.modules``. ``loss_bbox`` compares what the coder
            makes of boxes.
        anchors: (P, 4), xyxy in pixels, unless they come with the predictions: of all levels, of the cells of a level
            row by row, those of a cell next to each other.
        matcher: Positive from an IoU of 0.5, background below 0.4, ignored in between, and each target also makes its
            best priors positive; such a prior keeps the target that it overlaps most: ``MaxIoU(neg_iou_thr=0.4,
            gt_max_assign_all=True, keep_best_target=True)`` unless given.
        reduction, normalizer: See ``Criterion``. With ``"sum"`` and ``"none"`` nothing is divided.

    Raises:
        KeyError: A dict has a key that nobody reads.
        TypeError, ValueError: Shapes or numbers of classes that do not match; a label outside ``0 … C - 1``.

    Differences to other implementations: in torchvision, a target with IoU 0 to every prior makes all priors positive,
    because all tie at 0.

    >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]])
    >>> targets = ([torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [torch.tensor([1])])
    >>> head = {"cls_logits": torch.zeros(1, 2, 3), "bbox_regression": torch.ones(1, 2, 4)}
    >>> RetinaNetCriterion(3, anchors=anchors)(head, targets)
    {'loss_cls': tensor(0.6931), 'loss_bbox': tensor(4.)}
    """

    MULTI_HOT = True

    anchors: Tensor | None

    def __init__(
        self,
        num_classes: int,
        bbox_coder: BoxCoder | None = None,
        loss_cls: ClassLoss | None = None,
        loss_bbox: BoxLoss | None = None,
        *,
        anchors: Tensor | None = None,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        if matcher is None:
            matcher = MaxIoU(neg_iou_thr=0.4, gt_max_assign_all=True, keep_best_target=True)
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.loss_cls = FocalLoss() if loss_cls is None else loss_cls
        self.loss_bbox = L1Loss() if loss_bbox is None else loss_bbox
        check_class_loss(self.loss_cls, "loss_cls")
        check_loss(self.loss_bbox, "loss_bbox")
        self.bbox_coder = DeltaXYWHCoder() if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")
        check_anchors(anchors)
        self.register_buffer("anchors", anchors, persistent=False)

    def read(self, predictions: Any) -> DensePredictions:
        """All levels side by side, with their anchors."""
        predictions = entries_of(predictions, HEAD, needed=2)
        if isinstance(predictions, DensePredictions):
            if predictions.confidence is not None:
                raise ValueError("predictions have a confidence, which RetinaNetCriterion does not read; leave it out")
            return checked_classes(predictions, self.num_classes)
        return read_anchored(
            predictions, self.anchors, channels=self.num_classes, name="class scores", who="RetinaNetCriterion"
        )

    def match(self, predictions: DensePredictions, targets: Targets) -> Assignment:
        """Match anchors; another matcher than ``MaxIoU`` is given decoded boxes, too."""
        only_shape = isinstance(self.matcher, MaxIoU)
        found = Predictions(predictions.logits) if only_shape else predictions.decoded(self.bbox_coder)
        return self.call_matcher(found, in_unit_of_priors(targets), predictions.priors)

    def terms(self, predictions: DensePredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, positives = assigned.positives, assigned.num_positives()
        count, divisor = {"num_images": torch.ones_like(positives)}, positives.clamp(min=self.normalizer.minimum)
        deltas, anchors = wide(rows.of_predictions(predictions.deltas)), rows.of_priors(predictions.priors)
        boxes = box_values(self.loss_bbox, deltas, self.bbox_coder.encode(anchors, assigned.boxes))
        mask = predictions.class_mask
        scores = class_values(self.loss_cls, predictions.logits, assigned.class_targets(), class_mask=mask)
        return {
            "loss_cls": Term(assigned.counted(scores), count, per_image=divisor),
            "loss_bbox": Term(assigned.counted_rows(boxes), count, rows, per_image=divisor),
        }
