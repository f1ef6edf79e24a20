"""The criterion of FCOS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder, check_coder
from losses.coders.points import DistanceCoder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.functional.boxes import centerness_of_points
from losses.heads.anchors import check_anchors, entries_of
from losses.heads.levels import DensePredictions, checked_classes, flatten_levels, image_size_of, read_dense
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import GIoULoss, box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import BinaryCrossEntropy, FocalLoss, class_values, labelled_values
from matchers.assignments.assignment import Assignment
from matchers.dense.fcos import FCOS
from matchers.geometry.maps import Stride, stride_pairs
from matchers.geometry.priors import known_points
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.keys import KnownKeys
from ragged.values.precision import wide

HEAD = KnownKeys(("cls_logits", "bbox_regression", "bbox_ctrness", "anchors"))
"""What the head of torchvision gives, and its anchors."""


class FCOSCriterion(Criterion):
    """The loss of FCOS (Tian et al., 2019): points by centre sampling, then classes, boxes and centerness.

    Predictions are ``(class scores, boxes, centerness)``, each a list of maps, one for each level: (B, C, h, w), (B, 4,
    h, w) encoded by ``bbox_coder``, (B, 1, h, w); scores and centerness are logits. With anchors, each can be one
    tensor of all levels, (B, P, C), (B, P, 4) and (B, P, 1). Anchors can be a fourth entry. A dict with
    ``"cls_logits"``, ``"bbox_regression"``, ``"bbox_ctrness"`` and, if need be, ``"anchors"`` is the same. Or
    predictions are ``DensePredictions`` with grid points. Targets are in pixels, or have a ``canvas_size``.

    Let c be the centerness of a positive's point in its target. The divisor of each term is the number of positives of
    the batch, at least 1:

    * ``loss_cls``: of all predictions, focal loss;
    * ``loss_bbox``: of the positives, ``1 - GIoU`` of the decoded box;
    * ``loss_centerness``: of the positives, binary cross entropy with c.

    Args:
        num_classes: C. Label c belongs to channel c.
        bbox_coder: ``DistanceCoder(scale_by_stride=True)`` unless given: boxes are distances to the sides, in strides.
        loss_cls, loss_bbox: Other losses for these terms; see ``losses.modules``.
        loss_centerness: Another loss for this term: a class loss of one class.
        strides: Of the levels, in pixels. Without anchors, points lie in the middle of the cells.
        anchors: (P, 4), xyxy in pixels, unless they come with the predictions: squares around the points, with the
            stride as their side, of all levels, of the cells of a level row by row.
        matcher: Default: ``FCOS()``. A matcher of your own gets the decoded predictions and the grid points.
        reduction, normalizer: See ``Criterion``.

    Raises:
        KeyError: A dict has an unknown key, or a required key is missing.
        TypeError, ValueError: Numbers of levels or classes, or shapes, that do not match; a label outside ``0 … C -
            1``.

    Differences to other implementations: The paper and torchvision weight each positive in ``loss_bbox`` by 1,
    mmdetection by its centerness. In torchvision, points lie in the upper left corners of the cells, like the centres
    of its anchors; of two targets whose areas differ by less than 8 square pixels, the first wins; and a target of
    more than 1e8 square pixels has no point.

    >>> maps = [[torch.zeros(1, channels, 4, 4)] for channels in (3, 4, 1)]
    >>> targets = ([torch.tensor([[0.0, 0.0, 24.0, 24.0]])], [torch.tensor([2])])
    >>> FCOSCriterion(3, strides=(8,))(maps, targets)
    {'loss_cls': tensor(0.6065), 'loss_bbox': tensor(1.), 'loss_centerness': tensor(0.6931)}
    """

    MULTI_HOT = True

    anchors: Tensor | None

    def __init__(
        self,
        num_classes: int,
        bbox_coder: BoxCoder | None = None,
        loss_cls: ClassLoss | None = None,
        loss_bbox: BoxLoss | None = None,
        loss_centerness: ClassLoss | None = None,
        *,
        strides: Sequence[Stride] = (8, 16, 32, 64, 128),
        anchors: Tensor | None = None,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        matcher = FCOS() if matcher is None else matcher
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.loss_cls = FocalLoss() if loss_cls is None else loss_cls
        self.loss_bbox = GIoULoss() if loss_bbox is None else loss_bbox
        self.loss_centerness = BinaryCrossEntropy() if loss_centerness is None else loss_centerness
        check_loss(self.loss_bbox, "loss_bbox")
        for name in ("loss_cls", "loss_centerness"):
            check_class_loss(getattr(self, name), name)
        self.bbox_coder = DistanceCoder(scale_by_stride=True) if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")
        stride_pairs(strides)
        self.strides = tuple(strides)
        check_anchors(anchors)
        self.register_buffer("anchors", anchors, persistent=False)

    def read(self, predictions: Any) -> DensePredictions:
        """All levels side by side, with their points."""
        predictions = entries_of(predictions, HEAD, needed=3)
        if isinstance(predictions, DensePredictions):
            return checked_classes(predictions, self.num_classes)
        anchors = self.anchors
        if isinstance(predictions, Sequence) and len(predictions) == 4:
            *predictions, anchors = predictions
            check_anchors(anchors)
        if isinstance(predictions, Sequence) and len(predictions) == 3 and isinstance(predictions[0], Tensor):
            return self._read_flat(predictions[0], predictions[1], predictions[2], anchors)

        def points(maps: Sequence[Tensor]) -> Tensor:
            if anchors is not None:
                return _points_of(anchors)
            return known_points(image_size_of(maps, self.strides), self.strides, device=maps[0].device)

        return read_dense(
            predictions,
            num_classes=self.num_classes,
            strides=self.strides,
            priors=points,
            confidence="centerness",
        )

    def match(self, predictions: DensePredictions, targets: Targets) -> Assignment:
        """Match points; another matcher than ``FCOS`` is given decoded boxes, too."""
        only_shape = isinstance(self.matcher, FCOS)
        found = Predictions(predictions.logits) if only_shape else predictions.decoded(self.bbox_coder)
        return self.call_matcher(found, targets, predictions.priors)

    def terms(self, predictions: DensePredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        points = rows.of_priors(predictions.priors)
        boxes = self.bbox_coder.decode(points, wide(rows.of_predictions(predictions.deltas)))
        overlaps = box_values(self.loss_bbox, boxes, assigned.boxes)
        logits = rows.of_predictions(predictions.need_confidence("FCOSCriterion"))
        central = centerness_of_points(points[..., :2], assigned.boxes)
        entropy = labelled_values(self.loss_centerness, logits, central)
        mask = predictions.class_mask
        scores = class_values(self.loss_cls, predictions.logits, assigned.class_targets(), class_mask=mask)
        return {
            "loss_cls": Term(assigned.counted(scores), count),
            "loss_bbox": Term(assigned.counted_rows(overlaps), count, rows),
            "loss_centerness": Term(assigned.counted_rows(entropy), count, rows),
        }

    def _read_flat(self, scores: Tensor, boxes: Any, centerness: Any, anchors: Tensor | None) -> DensePredictions:
        if anchors is None:
            raise ValueError(
                "FCOSCriterion needs anchors for predictions of all levels together: give them to it, or with the "
                "predictions"
            )
        return DensePredictions(
            logits=flatten_levels(scores, channels=self.num_classes, name="class scores"),
            deltas=flatten_levels(boxes, channels=4, name="boxes"),
            priors=_points_of(anchors),
            confidence=flatten_levels(centerness, channels=1, name="centerness").squeeze(-1),
        )


def _points_of(anchors: Tensor) -> Tensor:
    """Grid points (P, 4) of squares around them."""
    first, second = wide(anchors).split(2, -1)
    return torch.cat([(first + second) / 2, second - first], -1)
