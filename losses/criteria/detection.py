"""The loss of a detector with any matcher, hard or soft, and any losses of classes and boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from losses.coders.boxes import BoxCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.background import POSITIONS, background_label, check_target_labels
from losses.core.criterion import Criterion, GlobalCount
from losses.core.normalizer import Normalizer
from losses.core.terms import Losses, Term, total
from losses.criteria.detection_given import Given
from losses.criteria.detection_options import checked_ratio, checked_reduction
from losses.criteria.detection_terms import DetectionTerms, EncodedLoss
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.checks import check_loss
from matchers.assignments.assignment import Assignment, Plan
from matchers.geometry.boxes import convert, in_unit
from matchers.pairs.predictions import Predictions
from matchers.pairs.problem import AnyPredictions
from matchers.targets.targets import Targets
from ragged.values.checks import (
    check_flag,
    check_not_negative,
    check_one_of,
    check_same_device,
)
from ragged.values.precision import wide


class DetectionLoss(Criterion):
    """Class loss and box loss, weighted by the match of predictions and targets (De Plaen et al., 2023).

    ``sum_ij W_ij (cls(c_i, c_j) + loc(b_i, b_j)) + sum_i V_i cls(c_i, background)``, where the matcher gives the share
    ``W_ij`` of prediction i to target j, and ``V_i`` to the background. Any matcher of ``matchers`` works: those that
    return an ``Assignment``, with at most one target for each prediction, and those that return a ``Plan``.

    With ``reduction="mean"``, the divisor of the class loss is the mass of the whole batch, ``sum W + sum V``, and the
    divisor of the box loss is the mass of the positives, ``sum W``; each is at least 1. If the class loss has class
    weights, as ``torch.nn.CrossEntropyLoss(weight=…)``, its divisor weighs mass by class. With hard negative mining,
    and without a background class, its divisor is the mass of the positives alone.

    Memory does not grow with the number of pairs times that of classes. With a plan, losses of modules of this package,
    of cross entropy and of binary cross entropy are known for all classes at once; any other loss with
    ``reduction="none"`` is computed block by block, for the pairs that have mass.

    Args:
        cls_loss_module: Class loss with ``reduction="none"``, of logits (R, C) and labels (R,). Without a background
            class, modules that are not of this package are called with one-hot targets (R, C), all 0 for background;
            ``torch.nn.BCEWithLogitsLoss`` always is. Its result is (R,), or is summed over the classes.
        loc_loss_module: Box loss with ``reduction="none"``, of xyxy boxes (R, 4), predicted and of targets. Its result
            is (R,), or is summed over the coordinates.
        matching_method: A matcher, called with predictions, targets and anchors.
        bg_class_position: The background among the C classes: ``"first"``, labels of targets start at 1; ``"last"``;
            or ``"none"``, without a background class.
        use_hard_negative_mining: Whether to train only negatives of high loss; see ``hard_negative_mining``.
        neg_to_pos_ratio: The number of these negatives for each positive; for a plan, their mass.
        size_average, reduce: Deprecated, as in torch: use ``reduction``.
        reduction: ``"mean"``, ``"sum"``, ``"sample"`` for (B,), the loss of each image if it were alone, or ``"none"``
            for a RaggedBatch (B, P) that is not divided.
        normalizer: Sums counts over the ranks, and bounds them from below.
        bbox_coder: If given, predicted boxes are relative to the anchors, as this coder has them: it decodes them for
            the matcher, and ``loc_loss_module`` compares them with the encoded boxes of targets.
        negatives_without_positives: With mining, the number of negatives of an image without positives.

    Raises:
        TypeError, ValueError: A parameter is out of range, a module reduces its result, or mining has no ratio.

    Differences to other implementations: uotod divides the box loss by a count with class weights; this divides it by
    the number of matched predictions, as its documentation says. uotod bounds the number of positives by 1 before it
    adds that of negatives, and its mining keeps one negative too few. Padding has no influence, not even NaN, and all
    images may be empty. For differences of the match, see the matchers.

    >>> from losses import DetectionLoss, GIoULoss, IoULoss, NegativeProbLoss
    >>> from matchers import Hungarian, UnbalancedSinkhorn, cxcywh_to_xyxy
    >>> pred = {"pred_logits": torch.randn(2, 100, 21), "pred_boxes": cxcywh_to_xyxy(torch.rand(2, 100, 4))}
    >>> target = {"labels": torch.randint(1, 21, (2, 10)),  # 0 is the background
    ...           "boxes": cxcywh_to_xyxy(torch.rand(2, 10, 4)),
    ...           "mask": torch.ones(2, 10, dtype=torch.bool)}
    >>> matcher = Hungarian(
    ...     cls_match_module=NegativeProbLoss(reduction="none"), loc_match_module=torch.nn.L1Loss(reduction="none")
    ... )
    >>> loss_fn = DetectionLoss(
    ...     cls_loss_module=torch.nn.CrossEntropyLoss(reduction="none"),
    ...     loc_loss_module=GIoULoss(reduction="none"),
    ...     matching_method=matcher,
    ... )
    >>> loss_fn(pred, target).shape
    torch.Size([])

    Matching by anchors:

    >>> anchors = cxcywh_to_xyxy(torch.rand(100, 4))
    >>> matcher = Hungarian(
    ...     cls_match_module=None, loc_match_module=IoULoss(reduction="none"), is_anchor_based=True
    ... )
    >>> loss_fn = DetectionLoss(
    ...     cls_loss_module=torch.nn.CrossEntropyLoss(reduction="none"),
    ...     loc_loss_module=GIoULoss(reduction="none"),
    ...     matching_method=matcher,
    ... )
    >>> loss_fn(pred, target, anchors).isfinite()
    tensor(True)

    Unbalanced optimal transport and hard negative mining:

    >>> matcher = UnbalancedSinkhorn(
    ...     cls_match_module=None, loc_match_module=IoULoss(reduction="none"), reg_pred=1e3, reg_target=1e-3,
    ...     background_cost=0.5, is_anchor_based=True,
    ... )
    >>> loss_fn = DetectionLoss(
    ...     cls_loss_module=torch.nn.CrossEntropyLoss(reduction="none"),
    ...     loc_loss_module=GIoULoss(reduction="none"),
    ...     matching_method=matcher,
    ...     use_hard_negative_mining=True,
    ...     neg_to_pos_ratio=3.0,
    ... )
    >>> loss_fn(pred, target, anchors).isfinite()
    tensor(True)
    """

    CLASSES_OF_PREDICTIONS = True
    MULTI_HOT = True

    def __init__(
        self,
        cls_loss_module: ClassLoss,
        loc_loss_module: BoxLoss,
        matching_method: Callable[..., Assignment | Plan],
        bg_class_position: str = "first",
        use_hard_negative_mining: bool = False,
        neg_to_pos_ratio: float | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        normalizer: Normalizer | None = None,
        bbox_coder: BoxCoder | None = None,
        negatives_without_positives: float = 0.0,
    ) -> None:
        reduction = checked_reduction(size_average, reduce, reduction)
        super().__init__(None, matcher=matching_method, reduction=reduction, normalizer=normalizer)
        check_loss(cls_loss_module, "cls_loss_module")
        check_loss(loc_loss_module, "loc_loss_module")
        if bbox_coder is not None:
            check_coder(bbox_coder, "bbox_coder")
        self.bbox_coder = bbox_coder
        check_one_of(bg_class_position, POSITIONS, "bg_class_position")
        self.cls_loss_module, self.loc_loss_module = cls_loss_module, loc_loss_module
        self.bg_class_position = bg_class_position
        check_flag(use_hard_negative_mining, "use_hard_negative_mining")
        self.use_hard_negative_mining = bool(use_hard_negative_mining)
        self.neg_to_pos_ratio = checked_ratio(use_hard_negative_mining, neg_to_pos_ratio)
        check_not_negative(negatives_without_positives, "negatives_without_positives")
        self.negatives_without_positives = negatives_without_positives

    def forward(
        self,
        input: AnyPredictions,
        target: Any,
        anchors: Tensor | None = None,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> Any:
        """Match, and compute the loss.

        Args:
            input: A dict with ``"pred_logits"`` (B, P, C) and ``"pred_boxes"`` (B, P, 4), a list of such dicts without
                B, or ``Predictions``. Boxes have the format and unit of the targets, unless ``Predictions`` say else.
            target: A dict with ``"labels"`` (B, G), ``"boxes"`` (B, G, 4), xyxy, and ``"mask"`` (B, G), or anything
                else that ``Targets.of`` reads.
            anchors: (P, 4) or (B, P, 4), xyxy, in the unit of the targets, for ``bbox_coder``, and for matchers with
                ``is_anchor_based=True`` and the like.
            valid_label_mask: (B, C), booleans: which of the classes count in an image, and have a class loss there. The
                background, and the classes of an image's targets, count in any case.
            global_count: Totals of all ranks and micro-batches, as sums of what ``counts`` gives; see ``Normalizer``.

        Returns:
            The loss; its shape is said by ``reduction``.

        Raises:
            ValueError, TypeError: Shapes or devices that do not fit, or a label outside ``0 … C - 1`` of an object.
        """
        predictions, targets = Predictions.of(input), Targets.of(target).of_one_call()
        match = self.assign(predictions, targets, anchors)
        return self.loss(
            predictions, targets, match, anchors, valid_label_mask=valid_label_mask, global_count=global_count
        )

    def assign(self, input: AnyPredictions, target: Any, anchors: Tensor | None = None) -> Assignment | Plan:
        """The first step: what the matcher says. Arguments as for a call."""
        return super().assign(Given(Predictions.of(input), anchors), target)

    def loss(
        self,
        input: AnyPredictions,
        target: Any,
        match: Assignment | Plan | None = None,
        anchors: Tensor | None = None,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> Any:
        """The second step: the loss of predictions that are matched. Only ``bbox_coder`` needs anchors."""
        given = Given(Predictions.of(input), anchors)
        return super().loss(given, target, match, valid_label_mask=valid_label_mask, global_count=global_count)

    def parts(
        self,
        input: AnyPredictions,
        target: Any,
        match: Assignment | Plan | None = None,
        anchors: Tensor | None = None,
        *,
        global_count: GlobalCount = None,
    ) -> Losses:
        """``"loss_cls"`` and ``"loss_loc"``, which add up to the loss; for logging, see ``detached``."""
        given = Given(Predictions.of(input), anchors)
        return self._reduced(given, self._terms(given, target, match), global_count)

    def counts(
        self,
        input: AnyPredictions,
        target: Any,
        match: Assignment | Plan | None = None,
        anchors: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The divisors of the parts over all ranks; their sum over several calls is the ``global_count``."""
        return super().counts(Given(Predictions.of(input), anchors), target, match)

    def match(self, predictions: Given, targets: Targets) -> Assignment | Plan:
        """The match of predictions and targets, with anchors."""
        given, anchors = predictions.predictions, predictions.anchors
        if self.bbox_coder is not None and given.boxes is not None:
            boxes = self.bbox_coder.decode(predictions.need_anchors(), wide(given.boxes))
            given = replace(given, boxes=boxes, box_format="xyxy", normalized=targets.normalized)
            # They are the coder's, and for those matchers that look at them.
            anchors = anchors if getattr(self.matcher, "uses_priors", True) else None
        return self.matcher(given, targets, anchors)

    def look_up(
        self, predictions: Given, targets: Targets | AssignedTargets, assignment: Any
    ) -> tuple[Targets, Assignment | Plan]:
        """The targets, and how they are matched."""
        if not isinstance(assignment, (Assignment, Plan)):
            raise TypeError(f"a matcher must give an Assignment or a Plan, got {type(assignment).__name__}")
        if not isinstance(targets, Targets):
            raise TypeError(f"targets of a match must be those of images, got {type(targets).__name__}")
        return targets, assignment

    def terms(self, predictions: Given, assigned: tuple[Targets, Assignment | Plan]) -> dict[str, Term]:
        """See the class."""
        given, (targets, match) = predictions.predictions, assigned
        if given.logits is None or given.boxes is None:
            raise ValueError("DetectionLoss needs logits and boxes of the predictions, and one of them is missing")
        check_same_device(targets.device, given.device, name="targets", reference="predictions")
        num_classes = given.logits.shape[-1]
        check_target_labels(targets, self.bg_class_position, num_classes, "DetectionLoss")
        loss: BoxLoss = self.loc_loss_module
        if self.bbox_coder is None:
            boxes = convert(wide(given.boxes), given.box_format or targets.box_format, "xyxy")
            unit = targets.normalized if given.normalized is None else given.normalized
            boxes = in_unit(boxes, unit, targets.normalized, targets.canvas_size)
        else:
            loss = EncodedLoss(self.bbox_coder, loss)
            boxes = loss.with_priors(wide(given.boxes), predictions.need_anchors())
        background = background_label(self.bg_class_position, num_classes)
        terms = DetectionTerms(
            predictions.logits_of(targets, background),
            boxes,
            self.cls_loss_module,
            loss,
            background,
            self.neg_to_pos_ratio if self.use_hard_negative_mining else None,
            self.negatives_without_positives,
        )
        if isinstance(match, Plan):
            return terms.of_plan(targets, match, sizes=given.sizes)
        return terms.of_assignment(targets, match, sizes=given.sizes)

    def sizes_of(self, predictions: Given, name: Any = None) -> Tensor | None:
        """Those of the predictions."""
        return predictions.predictions.sizes

    def finished(self, losses: Losses, predictions: Given, terms: Any) -> Any:
        """The sum of both parts."""
        return total(losses)
