"""The criterion of SSD, with anchors in pixels and the background as the last class or the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.background import background_label, check_target_labels
from losses.core.criterion import Criterion
from losses.core.looking_up import look_up
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.functional.boxes import smooth_l1_loss
from losses.functional.hard_mining import mined_cross_entropy
from losses.heads.anchors import check_anchors, entries_of, with_anchors
from losses.heads.default_boxes import SSDPredictions, assign_priors, level_scores, positive_box_loss
from losses.heads.levels import DensePredictions, flatten_levels
from losses.modules.base import BoxLoss
from losses.modules.checks import check_loss
from matchers.assignments.assignment import Assignment
from matchers.dense.max_iou import MaxIoU
from matchers.targets.targets import Targets
from ragged.values.checks import check_count, check_flag, check_not_negative, check_one_of
from ragged.values.keys import KnownKeys

HEAD = KnownKeys(("cls_logits", "bbox_regression", "anchors"))
"""What the head of torchvision gives, and its anchors."""


class SSDCriterion(Criterion):
    """The loss of SSD (Liu et al., 2016): anchors by IoU, then classes with hard negative mining, and boxes.

    Predictions are ``(class scores, boxes)`` or ``(class scores, boxes, anchors)``. The first two are lists of maps,
    one for each level, (B, A C, h, w) and (B, 4 A, h, w), where levels may differ in A; or all levels in one tensor,
    (B, P, C) and (B, P, 4). Scores are logits, boxes are encoded by ``bbox_coder``; anchors are (P, 4) or (B, P, 4),
    xyxy in pixels. Or predictions are ``DensePredictions``, or a dict with ``"cls_logits"``, ``"bbox_regression"``
    and, if need be, ``"anchors"``. Targets are in pixels, or have a ``canvas_size``.

    Terms, each divided by the number of positives of the batch, at least 1:

    * ``loss_cls``: softmax cross entropy of the positives, and of the ``neg_pos_ratio * n`` negatives with the highest
      loss in each image with n positives;
    * ``loss_bbox``: of the positives, smooth L1 of the encoded boxes.

    Args:
        num_classes: C, the background included. The attribute ``num_classes`` does not count the background.
        bbox_coder: Default: ``DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))``.
        neg_pos_ratio: Negatives to a positive.
        reg_decoded_bbox: Whether ``loss_bbox`` compares boxes in pixels, or else what the coder makes of them.
        smoothl1_beta: Where smooth L1 becomes linear.
        anchors: (P, 4), xyxy in pixels, unless they come with the predictions: those of all levels, of the cells of a
            level row by row, those of a cell next to each other.
        bg_class_position: Position of the background
            among the C classes. ``"last"``: labels are ``0 … C - 2``. ``"first"``: labels are ``1 … C - 1``.
        matcher: Default: ``MaxIoU(pos_iou_thr=0.4, neg_iou_thr=0.4)``. A matcher of your own gets the decoded
            predictions and the anchors.
        loss_bbox: A loss in place of smooth L1; one of boxes, such as ``GIoULoss``, needs ``reg_decoded_bbox``.
        negatives_without_positives: Number of negatives to train in an image without positives.
        reduction, normalizer: See ``Criterion``.

    Raises:
        TypeError, ValueError: Numbers of classes, levels or anchors, or shapes, that do not match; a label outside ``0
            … C - 1``.

    Targets that are assigned already are given to ``loss`` as ``AssignedTargets.from_dense(labels, boxes,
    num_classes=C - 1, weights=label_weights)``, and what the terms are divided by as ``global_count``. The boxes are
    xyxy in pixels: encoded ones have to be decoded with the anchors first. A weight holds for both terms.

    Differences to other implementations: OTX documents C as it is here, but computes with one class more; it counts an
    image without positives as one positive (its count can be given as ``global_count``), takes as many negatives for a
    positive of weight 0, and gives a list with a value for each image. For differences of the match, see ``MaxIoU``.
    torchvision, ``SSDCriterion(C, bg_class_position="first", matcher=MaxIoU())``, counts positives twice where there
    are fewer negatives than are asked for; of two targets with the same best anchor it keeps the last, here the one
    with the higher IoU; and a target that overlaps no anchor takes the first one, here none.

    >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]])
    >>> criterion = SSDCriterion(3, anchors=anchors)
    >>> targets = ([torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [torch.tensor([1])])
    >>> criterion((torch.zeros(1, 2, 3), torch.zeros(1, 2, 4)), targets)
    {'loss_cls': tensor(2.1972), 'loss_bbox': tensor(0.)}
    """

    anchors: Tensor | None

    def __init__(
        self,
        num_classes: int,
        bbox_coder: BoxCoder | None = None,
        neg_pos_ratio: float = 3,
        reg_decoded_bbox: bool = False,
        smoothl1_beta: float = 1.0,
        *,
        anchors: Tensor | None = None,
        bg_class_position: str = "last",
        matcher: Callable[..., Assignment] | None = None,
        loss_bbox: BoxLoss | None = None,
        negatives_without_positives: float = 0.0,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        check_count(num_classes, "num_classes")
        if num_classes < 2:
            raise ValueError(f"num_classes counts the background, so that it must be 2 at least, got {num_classes}")
        matcher = MaxIoU(pos_iou_thr=0.4, neg_iou_thr=0.4) if matcher is None else matcher
        super().__init__(num_classes - 1, matcher=matcher, reduction=reduction, normalizer=normalizer)
        check_one_of(bg_class_position, ("last", "first"), "bg_class_position")
        self.bg_class_position = bg_class_position
        check_flag(reg_decoded_bbox, "reg_decoded_bbox")
        check_not_negative(smoothl1_beta, "smoothl1_beta")
        check_not_negative(neg_pos_ratio, "neg_pos_ratio")
        check_not_negative(negatives_without_positives, "negatives_without_positives")
        self.loss_bbox = partial(smooth_l1_loss, beta=smoothl1_beta) if loss_bbox is None else loss_bbox
        check_loss(self.loss_bbox, "loss_bbox")
        self.bbox_coder = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2)) if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")
        check_anchors(anchors)
        self.register_buffer("anchors", anchors, persistent=False)
        self.neg_pos_ratio, self.reg_decoded_bbox = neg_pos_ratio, bool(reg_decoded_bbox)
        self.negatives_without_positives = negatives_without_positives

    def read(self, predictions: Any) -> SSDPredictions:
        """All levels, with their anchors; class scores are not copied."""
        if isinstance(predictions, SSDPredictions):
            predictions.check_num_channels(self.num_classes + 1)
            return predictions
        if isinstance(predictions, DensePredictions):
            if predictions.class_mask is not None:
                raise ValueError("SSDCriterion has a softmax over all classes: give it the mask as valid_label_mask=")
            predictions = (predictions.logits, predictions.deltas, predictions.priors)
        predictions = entries_of(predictions, HEAD, needed=2)
        maps, boxes, anchors = with_anchors(predictions, self.anchors, "SSDCriterion")
        scores = level_scores(maps, self.num_classes + 1)
        per_cell = 1 if isinstance(maps, Tensor) else [level.shape[1] for level in scores]
        return SSDPredictions(
            scores=scores,
            deltas=flatten_levels(boxes, channels=4, name="boxes", num_per_cell=per_cell),
            priors=anchors,
        )

    def match(self, predictions: SSDPredictions, targets: Targets) -> Assignment:
        """Match anchors."""
        if self.bg_class_position == "first":
            self._check_labels(targets)
            targets = replace(targets, labels=targets.labels - 1)
        return assign_priors(
            self.matcher,
            predictions,
            targets,
            self.bbox_coder,
            background=self._background,
            box_format="xyxy",
            normalized=False,
        )

    def look_up(
        self, predictions: SSDPredictions, targets: Targets | AssignedTargets, assignment: Assignment | None
    ) -> AssignedTargets:
        """The targets of the anchors; labels are those of channels."""
        if self.bg_class_position == "last":
            return super().look_up(predictions, targets, assignment)
        if isinstance(targets, Targets):
            self._check_labels(targets)
        return look_up(targets, assignment, normalized=False)

    def terms(self, predictions: SSDPredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        labels = assigned.labels
        if self.bg_class_position == "first":
            labels = labels - assigned.is_positive.long()
        entropy = mined_cross_entropy(
            predictions.scores_of(labels, self._background),
            labels,
            assigned.weights,
            background=self._background,
            ratio=self.neg_pos_ratio,
            negatives_without_positives=self.negatives_without_positives,
        )
        boxes = positive_box_loss(predictions, assigned, self.bbox_coder, self.loss_bbox, decoded=self.reg_decoded_bbox)
        return {"loss_cls": Term(entropy, count), "loss_bbox": Term(boxes, count, rows)}

    @property
    def _background(self) -> int:
        return background_label(self.bg_class_position, self.num_classes + 1)

    def _check_labels(self, targets: Targets) -> None:
        check_target_labels(targets, self.bg_class_position, self.num_classes + 1, "SSDCriterion")
