"""What the criteria with a task-aligned assignment have in common: terms that the quality weights, for each layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.terms import Losses, Term, Terms
from losses.functional.numerics import check_shape
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import box_values
from losses.modules.checks import check_class_loss, check_loss
from losses.modules.classes import BinaryCrossEntropy, class_values
from matchers.assignments.assignment import Assignment
from ragged import RaggedBatch
from ragged.values.checks import check_not_negative
from ragged.values.precision import wide

DistanceLoss = Callable[[Tensor, Tensor], Tensor]
"""Called with logits (N, 4, R) and distances (N, 4) in strides; gives (N, 4)."""


class AlignedCriterion(Criterion):
    """A criterion whose terms are weighted by the quality of the assignment, and divided by its sum.

    It says ``located``, and ``joined`` if predictions can have two layers.

    Args:
        num_classes, matcher, reduction, normalizer: See ``Criterion``.
        loss_cls, loss_dfl, loss_iou: Of classes, distances and boxes.
        cls_rate, dfl_rate, iou_rate: Factors of these terms.
    """

    MULTI_HOT = True
    DISTANCES = "loss_df"
    """The name of the term of distances."""

    def __init__(
        self,
        num_classes: int,
        *,
        loss_cls: ClassLoss | None,
        loss_dfl: DistanceLoss,
        loss_iou: BoxLoss,
        cls_rate: float,
        dfl_rate: float,
        iou_rate: float,
        matcher: Callable[..., Assignment],
        reduction: str,
        normalizer: Normalizer | None,
    ) -> None:
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.loss_cls = BinaryCrossEntropy() if loss_cls is None else loss_cls
        self.loss_dfl, self.loss_iou = loss_dfl, loss_iou
        check_class_loss(self.loss_cls, "loss_cls")
        for name in ("loss_dfl", "loss_iou"):
            check_loss(getattr(self, name), name)
        self.cls_rate, self.dfl_rate, self.iou_rate = cls_rate, dfl_rate, iou_rate
        for name in ("cls_rate", "dfl_rate", "iou_rate"):
            check_not_negative(getattr(self, name), name)

    def located(
        self, predictions: Any, rows: Positives, points: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of distances (R,), summed over the four sides, boxes (R, 4) and their targets (R, 4).

        Args:
            predictions: As ``read`` returned them.
            rows: The R positives.
            points: Their points, (R, 4).
            target: Their target boxes, (R, 4).
        """
        raise NotImplementedError

    def joined(self, first: Any, second: Any) -> Any:
        """One loss of those of two layers."""
        raise NotImplementedError

    def num_layers(self, predictions: Any) -> int:
        """1 where predictions have two layers, else 0."""
        return predictions.num_layers

    def terms(self, predictions: Any, assigned: AssignedTargets) -> Terms:
        """See the class."""
        check_shape(assigned.labels, predictions.logits.shape[:-1], "the assignment", "the predictions")
        rows, dtype = assigned.positives, wide(predictions.logits).dtype
        quality = assigned.quality.to(dtype)
        points, own = rows.of_priors(predictions.points), rows.of_predictions(quality)
        count = {"sum_of_quality": rows.per_sample(assigned.counted_rows(own))}
        distances, boxes, target = self.located(predictions, rows, points, assigned.boxes)
        overlaps = box_values(self.loss_iou, boxes, target)
        mask = predictions.class_mask
        classes = class_values(self.loss_cls, predictions.logits, assigned.class_targets(), quality, class_mask=mask)
        return {
            "loss_cls": Term(assigned.counted(classes), count, weight=self.cls_rate),
            self.DISTANCES: Term(assigned.counted_rows(distances * own), count, rows, self.dfl_rate / 4),
            "loss_iou": Term(assigned.counted_rows(overlaps * own), count, rows, self.iou_rate),
        }

    def finished(self, losses: Losses, predictions: Any, terms: Terms) -> Losses:
        """The terms of both layers as one."""
        if not predictions.num_layers:
            return losses
        return {name: self._joined(value) for name, value in losses.items()}

    def _joined(self, value: Any) -> Any:
        if isinstance(value, RaggedBatch):
            return RaggedBatch.from_full_tensor(self._joined(value.tensor))
        return self.joined(value[0], value[1])
