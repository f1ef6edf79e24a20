"""The criterion of ATSS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.functional.boxes import centerness_of_points
from losses.heads.anchors import check_anchors, in_unit_of_priors
from losses.heads.levels import DensePredictions, image_size_of, read_dense
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import GIoULoss, box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import BinaryCrossEntropy, FocalLoss, QualityFocalLoss, class_values, labelled_values
from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND
from matchers.dense.atss import ATSS
from matchers.geometry.maps import Stride, stride_pairs
from matchers.geometry.overlaps import iou
from matchers.geometry.priors import known_anchors
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_flag, check_number
from ragged.values.precision import wide


class ATSSCriterion(Criterion):
    """The loss of ATSS (Zhang et al., 2020): adaptive assignment of anchors, then classes, boxes and centerness.

    Predictions are ``(class scores, boxes, centerness)``, each a list of maps, one for each level, with A anchors in a
    cell, usually 1: (B, A C, h, w), (B, 4 A, h, w) encoded by ``bbox_coder``, (B, A, h, w); scores and centerness are
    logits. Or they are ``DensePredictions``. Targets are in pixels, or have a ``canvas_size``.

    Let c be the centerness of a positive's anchor in its target (``centerness_target``). The terms are:

    * ``loss_cls``: of all predictions, focal loss; divided by the number of positives of the batch, or by 1. With
      ``use_qfl``, quality focal loss with the IoU of the predicted box, decoded, as the score;
    * ``loss_bbox``: of the positives, ``c (1 - GIoU)``, times 2; divided by the sum of c over the batch, or by 1;
    * ``loss_centerness``: of the positives, binary cross entropy with c; divided as ``loss_cls``.

    Args:
        num_classes: C.
        bbox_coder: Default: ``DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))``.
        loss_cls, loss_bbox: Other losses for these terms; see ``losses.modules``.
        loss_centerness: Another loss for this term: a class loss of one class.
        use_qfl: Whether to use a quality focal loss of classes instead of ``loss_cls``.
        qfl_cfg: With ``use_qfl``: this loss, or keyword arguments of ``QualityFocalLoss``.
        reg_decoded_bbox: True: ``loss_bbox`` compares decoded boxes (xyxy, pixels). False: encoded boxes.
        bg_loss_weight: The weight of the class loss of background predictions; below 0 means 1.
        use_centerness: False: no centerness map, no ``loss_centerness``, and c = 1 in ``loss_bbox``.
        strides: Of the levels, in pixels.
        anchors: (P, 4), xyxy in pixels: those of all levels, of the cells of a level row by row, those of a cell next
            to each other. Default: one square for each cell, centred on its upper left corner, with side
            ``anchor_scale * stride``.
        anchor_scale: Side of this square, in strides.
        matcher: Default: ``ATSS()``. A matcher of your own gets the decoded predictions and the anchors.
        reduction, normalizer: See ``Criterion``.

    Raises:
        TypeError, ValueError: Numbers of levels or classes, or shapes, that do not match; a label outside ``0 … C -
            1``.

    Differences to other implementations: OTX counts an image without positives as one positive (its counts can be given
    as ``global_count``), applies ``valid_label_mask`` only to the focal loss, decodes boxes for the IoU of the quality
    focal loss only with ``reg_decoded_bbox``, and without it computes centerness from encoded boxes, which gives NaN.
    Its ``bg_loss_weight`` replaces weights, and brings back ignored predictions; here it multiplies them. For
    differences of the match, see ``ATSS``.

    >>> maps = [[torch.zeros(1, channels, 4, 4)] for channels in (3, 4, 1)]
    >>> targets = ([torch.tensor([[0.0, 0.0, 24.0, 24.0]])], [torch.tensor([2])])
    >>> sorted(ATSSCriterion(3, strides=(8,))(maps, targets))
    ['loss_bbox', 'loss_centerness', 'loss_cls']
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
        use_qfl: bool = False,
        qfl_cfg: ClassLoss | Mapping[str, Any] | None = None,
        reg_decoded_bbox: bool = True,
        bg_loss_weight: float = -1.0,
        *,
        use_centerness: bool = True,
        strides: Sequence[Stride] = (8, 16, 32, 64, 128),
        anchors: Tensor | None = None,
        anchor_scale: float = 8.0,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        matcher = ATSS() if matcher is None else matcher
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        if use_qfl:
            options = {} if qfl_cfg is None else qfl_cfg
            loss_cls = QualityFocalLoss(**options) if isinstance(options, Mapping) else options
        self.loss_cls = FocalLoss() if loss_cls is None else loss_cls
        self.loss_bbox = GIoULoss(loss_weight=2.0) if loss_bbox is None else loss_bbox
        self.loss_centerness = BinaryCrossEntropy() if loss_centerness is None else loss_centerness
        check_loss(self.loss_bbox, "loss_bbox")
        for name in ("loss_cls", "loss_centerness"):
            check_class_loss(getattr(self, name), name)
        for name, flag in (
            ("use_qfl", use_qfl),
            ("reg_decoded_bbox", reg_decoded_bbox),
            ("use_centerness", use_centerness),
        ):
            check_flag(flag, name)
        check_number(bg_loss_weight, "bg_loss_weight", low=None)
        check_number(anchor_scale, "anchor_scale")
        self.bbox_coder = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2)) if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")
        check_anchors(anchors)
        self.register_buffer("anchors", anchors, persistent=False)
        self.use_qfl, self.reg_decoded_bbox = bool(use_qfl), bool(reg_decoded_bbox)
        self.use_centerness, self.bg_loss_weight = bool(use_centerness), bg_loss_weight
        stride_pairs(strides)
        self.strides, self.anchor_scale = tuple(strides), anchor_scale

    def read(self, predictions: Any) -> DensePredictions:
        """All levels side by side, with their anchors."""
        return read_dense(
            predictions,
            num_classes=self.num_classes,
            strides=self.strides,
            priors=self._anchors,
            confidence="centerness" if self.use_centerness else None,
        )

    def match(self, predictions: DensePredictions, targets: Targets) -> Assignment:
        """Match anchors level by level. Without ``DensePredictions.level_sizes`` there is one level."""
        if isinstance(self.matcher, ATSS):
            found = Predictions(predictions.logits)  # for its shape
            return self.call_matcher(found, targets, predictions.priors, level_sizes=predictions.level_sizes)
        found = predictions.decoded(self.bbox_coder)
        return self.call_matcher(found, in_unit_of_priors(targets), predictions.priors)

    def terms(self, predictions: DensePredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        deltas, anchors = wide(rows.of_predictions(predictions.deltas)), rows.of_priors(predictions.priors)
        boxes = self.bbox_coder.decode(anchors, deltas)
        central = self.centerness_target(anchors, assigned.boxes)
        if self.reg_decoded_bbox:
            overlaps = box_values(self.loss_bbox, boxes, assigned.boxes)
        else:
            overlaps = box_values(self.loss_bbox, deltas, self.bbox_coder.encode(anchors, assigned.boxes))
        quality = rows.per_prediction(iou(boxes.detach(), assigned.boxes)) if self.use_qfl else None
        scores = class_values(
            self.loss_cls, predictions.logits, assigned.class_targets(), quality, class_mask=predictions.class_mask
        )
        if self.bg_loss_weight >= 0:
            scores = torch.where(assigned.labels == BACKGROUND, scores * self.bg_loss_weight, scores)
        terms = {"loss_cls": Term(assigned.counted(scores), count)}
        if not self.use_centerness:
            return {**terms, "loss_bbox": Term(assigned.counted_rows(overlaps), count, rows)}
        weights = {"sum_of_centerness": rows.per_sample(assigned.counted_rows(central))}
        logits = rows.of_predictions(predictions.need_confidence("ATSSCriterion"))
        entropy = labelled_values(self.loss_centerness, logits, central)
        return {
            **terms,
            "loss_bbox": Term(assigned.counted_rows(overlaps * central), weights, rows),
            "loss_centerness": Term(assigned.counted_rows(entropy), count, rows),
        }

    def centerness_target(self, anchors: Tensor, gts: Tensor) -> Tensor:
        """How central each anchor is in its target, in [0, 1]; 0 for one whose centre is outside.

        Args:
            anchors: (N, 4), xyxy.
            gts: (N, 4), xyxy, in the same unit.

        Returns:
            (N,), without a gradient.

        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[1.0, 0.0, 6.0, 4.0]])
        >>> ATSSCriterion(3).centerness_target(*boxes)
        tensor([0.5000])
        """
        anchors = wide(anchors)
        return centerness_of_points((anchors[..., :2] + anchors[..., 2:]) / 2, gts)

    def _anchors(self, maps: Sequence[Tensor]) -> Tensor:
        if self.anchors is not None:
            return self.anchors
        size = image_size_of(maps, self.strides)
        return known_anchors(size, self.strides, scale=self.anchor_scale, offset=0.0, device=maps[0].device)
