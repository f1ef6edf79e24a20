"""The criterion of a region proposal network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.looking_up import look_up
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.functional.boxes import smooth_l1_loss
from losses.heads.anchors import check_anchors, in_unit_of_priors, read_anchored
from losses.heads.levels import DensePredictions, checked_classes
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import BinaryCrossEntropy, class_values
from matchers.assignments.assignment import Assignment
from matchers.assignments.sampling import RandomSampler
from matchers.dense.max_iou import MaxIoU
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_is_callable
from ragged.values.precision import wide

Sampler = Callable[[Assignment], Assignment]


class RPNCriterion(Criterion):
    """The loss of a region proposal network (Ren et al., Faster R-CNN, 2015): objects and boxes of sampled anchors.

    Predictions are ``(objectness, boxes)`` or ``(objectness, boxes, anchors)``. The first two are lists of maps, one
    for each level, (B, A, h, w) with A anchors in a cell and (B, 4 A, h, w); or all levels in one tensor, (B, P) or (B,
    P, 1), and (B, P, 4). Objectness is a logit, boxes are encoded by ``bbox_coder``; anchors are (P, 4), xyxy in
    pixels. Or they are ``DensePredictions`` of one class. Targets are in pixels, or have a ``canvas_size``; their
    labels are not read.

    Terms, each divided by the number of sampled anchors of the batch, at least 1:

    * ``loss_rpn_cls``: of the sampled anchors, binary cross entropy;
    * ``loss_rpn_bbox``: of the positives among them, smooth L1 of the encoded boxes.

    Args:
        bbox_coder: Default: ``DeltaXYWHCoder()``.
        loss_cls: A class loss of one class in place of the binary cross entropy.
        loss_bbox: A loss in place of smooth L1, which becomes linear at 1/9; it compares what the coder makes of boxes.
        anchors: (P, 4), xyxy in pixels, unless they come with the predictions: of all levels, of the cells of a level
            row by row, those of a cell next to each other.
        matcher: Positive from an IoU of 0.7, background below 0.3, and each target also makes its best anchors
            positive. Default: ``MaxIoU(pos_iou_thr=0.7, neg_iou_thr=0.3, gt_max_assign_all=True,
            keep_best_target=True)``. A matcher of your own gets the decoded predictions, one class, and the anchors.
        sampler: Draws from the assignment. Default: ``RandomSampler(num_samples=256, positive_fraction=0.5)``.
        reduction, normalizer: See ``Criterion``.

    Raises:
        TypeError, ValueError: Numbers of levels or anchors, or shapes, that do not fit.

    ``assign`` draws: a second call draws others, unless the sampler has a generator in the same state.

    Differences to other implementations: in torchvision, a target that overlaps no anchor makes all anchors of the
    image positive, and a batch without any sample has a loss that is not a number. Detectron2 divides by 256 for each
    image, which can be given as ``global_count``.

    >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]])
    >>> targets = ([torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [torch.tensor([7])])
    >>> RPNCriterion(anchors=anchors)((torch.zeros(1, 2), torch.ones(1, 2, 4)), targets)
    {'loss_rpn_cls': tensor(0.6931), 'loss_rpn_bbox': tensor(1.8889)}
    """

    anchors: Tensor | None

    def __init__(
        self,
        bbox_coder: BoxCoder | None = None,
        loss_cls: ClassLoss | None = None,
        loss_bbox: BoxLoss | None = None,
        *,
        anchors: Tensor | None = None,
        matcher: Callable[..., Assignment] | None = None,
        sampler: Sampler | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        if matcher is None:
            matcher = MaxIoU(pos_iou_thr=0.7, neg_iou_thr=0.3, gt_max_assign_all=True, keep_best_target=True)
        super().__init__(1, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.sampler = RandomSampler(num_samples=256) if sampler is None else sampler
        check_is_callable(self.sampler, "sampler", "a sampler, as RandomSampler")
        self.loss_cls = BinaryCrossEntropy() if loss_cls is None else loss_cls
        self.loss_bbox = partial(smooth_l1_loss, beta=1 / 9) if loss_bbox is None else loss_bbox
        check_class_loss(self.loss_cls, "loss_cls")
        check_loss(self.loss_bbox, "loss_bbox")
        self.bbox_coder = DeltaXYWHCoder() if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")
        check_anchors(anchors)
        self.register_buffer("anchors", anchors, persistent=False)

    def read(self, predictions: Any) -> DensePredictions:
        """All levels side by side, with their anchors."""
        if isinstance(predictions, DensePredictions):
            if predictions.class_mask is not None:
                raise ValueError("RPNCriterion has one class, and takes no mask of them")
            return checked_classes(predictions, 1)
        if isinstance(predictions, Sequence) and predictions:
            objectness = predictions[0]
            if isinstance(objectness, Tensor) and objectness.dim() == 2:
                predictions = (objectness.unsqueeze(-1), *predictions[1:])
        return read_anchored(predictions, self.anchors, channels=1, name="objectness", who="RPNCriterion")

    def with_class_mask(self, predictions: DensePredictions, mask: Tensor) -> DensePredictions:
        """Not supported: the RPN has one class."""
        raise ValueError("RPNCriterion asks for no class: leave valid_label_mask out")

    def match(self, predictions: DensePredictions, targets: Targets) -> Assignment:
        """Match anchors, and draw from them; another matcher than ``MaxIoU`` is given decoded boxes of one class."""
        if isinstance(self.matcher, MaxIoU):
            found = Predictions(boxes=predictions.deltas)  # for their shape
        else:
            found = predictions.decoded(self.bbox_coder)
            none = torch.zeros_like(targets.mask, dtype=torch.int64)
            targets = replace(targets, labels=targets.reference.create_with_sample_sizes_like_self(none))
        return self.sampler(self.call_matcher(found, in_unit_of_priors(targets), predictions.priors))

    def look_up(
        self, predictions: DensePredictions, targets: Targets | AssignedTargets, assignment: Assignment | None
    ) -> AssignedTargets:
        """The targets of the anchors, all of class 0."""
        if isinstance(targets, Targets):
            targets.check_has("boxes", "RPNCriterion")
            targets = replace(targets, labels=None)  # type: ignore[arg-type]
        return look_up(targets, assignment, normalized=False)

    def terms(self, predictions: DensePredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, count = assigned.positives, {"num_samples": assigned.num_counted()}
        deltas, anchors = wide(rows.of_predictions(predictions.deltas)), rows.of_priors(predictions.priors)
        boxes = box_values(self.loss_bbox, deltas, self.bbox_coder.encode(anchors, assigned.boxes))
        scores = class_values(self.loss_cls, predictions.logits, assigned.labels)
        return {
            "loss_rpn_cls": Term(assigned.counted(scores), count),
            "loss_rpn_bbox": Term(assigned.counted_rows(boxes), count, rows),
        }
