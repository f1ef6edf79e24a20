"""The criterion of YOLOv8, and of the other detectors of Ultralytics with a head of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.coders.boxes import NO_SIDE
from losses.coders.distribution import integral
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.terms import Losses, Terms
from losses.criteria.dense.aligned import AlignedCriterion, DistanceLoss
from losses.functional.boxes import l1_loss
from losses.functional.distribution import distribution_focal_loss
from losses.heads.yolov8 import YOLOv8Predictions
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import CIoULoss
from matchers.assignments.assignment import Assignment
from matchers.dense.task_aligned import TaskAligned
from matchers.geometry.maps import Stride, stride_pairs
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_flag, checked_positive
from ragged.values.precision import wide


class YOLOv8Criterion(AlignedCriterion):
    """The loss of YOLOv8 and YOLO11, and of one head of YOLO26: a task-aligned assignment, then classes and boxes.

    Predictions are maps (B, 4 R + C, h, w), one for each level: for each side, R bin logits; then C class logits. Or
    ``(class scores, boxes)``, each a list of such maps. Or a dict as heads of Ultralytics give it: ``"scores"`` (B, C,
    A), ``"boxes"`` (B, 4 R, A), and ``"feats"``, the maps that give the layout of the cells; in evaluation, detections
    can precede it. Targets are in pixels, or have a ``canvas_size``, as batches of Ultralytics do.

    Terms, each divided by the sum of the qualities of the assignment in the batch, at least 1:

    * ``loss_cls``: of all, binary cross entropy with the quality as target of the assigned class, times ``cls_rate``;
    * ``loss_df``: of the positives, the distribution focal loss, mean of four sides, times quality and ``dfl_rate``;
    * ``loss_iou``: of the positives, ``1 - CIoU``, times quality and ``iou_rate``.

    With ``reg_max=1``, as in YOLO26, the head predicts the distances, in strides, and ``loss_l1`` replaces
    ``loss_df``: the absolute difference of the distances in fractions of the image, mean of four sides, times quality
    and ``dfl_rate``.

    Args:
        num_classes: C.
        loss_cls, loss_iou: Other losses for these terms, of boxes in strides around their points; see
            ``losses.modules``.
        loss_dfl: The same, called with logits (N, 4, R) and distances (N, 4) in strides, which are not bounded; if R is
            1, with distances (N, 4) and those of the targets, in fractions of the image.
        reg_max: R.
        cls_rate, dfl_rate, iou_rate: See above.
        strides: Of the levels, in pixels.
        times_batch_size: Whether ``"mean"`` multiplies by the number of images B, as Ultralytics does.
        matcher: ``TaskAligned.yolov8()``, for these strides, unless given.
        reduction, normalizer: See ``Criterion``.

    Raises:
        TypeError, KeyError, ValueError: Predictions have another form, or the number of levels, classes or bins does
            not match, a label outside ``0 … C - 1``, a rate that is negative.

    Differences to other implementations: Ultralytics returns one tensor of the terms box, classes and distances, times
    the batch size, and the terms for logging. For ties that torch's ``topk`` breaks arbitrarily, see
    ``TaskAligned.yolov8``.

    >>> criterion = YOLOv8Criterion(3, reg_max=4, strides=(8,))
    >>> targets = ([torch.tensor([[4.0, 4.0, 20.0, 20.0]])], [torch.tensor([2])])
    >>> sorted(criterion([torch.zeros(1, 4 * 4 + 3, 4, 4)], targets))
    ['loss_cls', 'loss_df', 'loss_iou']
    >>> head = {"scores": torch.zeros(1, 3, 16), "boxes": torch.zeros(1, 16, 16), "feats": [torch.zeros(1, 9, 4, 4)]}
    >>> sorted(criterion(head, targets))
    ['loss_cls', 'loss_df', 'loss_iou']
    """

    LAYERS = 0
    """How many leading dimensions predictions have."""

    def __init__(
        self,
        num_classes: int,
        loss_cls: ClassLoss | None = None,
        loss_dfl: DistanceLoss | None = None,
        loss_iou: BoxLoss | None = None,
        reg_max: int = 16,
        cls_rate: float = 0.5,
        dfl_rate: float = 1.5,
        iou_rate: float = 7.5,
        *,
        strides: Sequence[Stride] = (8, 16, 32),
        times_batch_size: bool = False,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        has_bins = checked_positive(reg_max, "reg_max") > 1
        own_loss = distribution_focal_loss if has_bins else l1_loss
        super().__init__(
            num_classes,
            loss_cls=loss_cls,
            loss_dfl=own_loss if loss_dfl is None else loss_dfl,
            loss_iou=CIoULoss() if loss_iou is None else loss_iou,
            cls_rate=cls_rate,
            dfl_rate=dfl_rate,
            iou_rate=iou_rate,
            matcher=TaskAligned.yolov8(min_side=small_side(strides)) if matcher is None else matcher,
            reduction=reduction,
            normalizer=normalizer,
        )
        check_flag(times_batch_size, "times_batch_size")
        self.strides, self.reg_max, self.times_batch_size = tuple(strides), reg_max, times_batch_size
        if not has_bins:
            self.DISTANCES = "loss_l1"

    def read(self, predictions: Any) -> YOLOv8Predictions:
        """All levels side by side, with the points that they are predicted from."""
        if isinstance(predictions, YOLOv8Predictions):
            predictions.check_sizes(num_classes=self.num_classes, reg_max=self.reg_max, layers=self.LAYERS)
            return predictions
        return self._head(predictions, "predictions")

    def _head(self, predictions: Any, name: str) -> YOLOv8Predictions:
        return YOLOv8Predictions.of(
            predictions, num_classes=self.num_classes, reg_max=self.reg_max, strides=self.strides, name=name
        )

    def match(self, predictions: YOLOv8Predictions, targets: Targets) -> Assignment:
        """Match predicted classes and boxes."""
        return self.call_matcher(*self._for_matcher(predictions, targets))

    def _for_matcher(self, predictions: YOLOv8Predictions, targets: Targets) -> tuple[Predictions, Targets, Tensor]:
        found = Predictions(predictions.logits, predictions.decoded(), box_format="xyxy", normalized=False)
        return found, targets, predictions.points

    def located(
        self, predictions: YOLOv8Predictions, rows: Positives, points: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The distribution focal loss, or L1 if there are no bins; and boxes around their points, in strides."""
        point, stride = points[..., :2], points[..., 2:].clamp(min=NO_SIDE)  # of filler it is 0
        stride = torch.cat([stride, stride], -1)
        around = (target - torch.cat([point, point], -1)) / stride
        sides, wanted = wide(rows.of_predictions(predictions.sides)), _turned(around)
        if self.reg_max > 1:
            bins = sides.unflatten(-1, (4, self.reg_max))
            distances, sides = self.loss_dfl(bins, wanted), integral(bins)
        else:
            height, width = predictions.image_size
            across, down = stride[..., :1] / width, stride[..., 1:2] / height
            share = torch.cat([across, down, across, down], -1)
            distances = self.loss_dfl(sides * share, wanted * share)
        return distances.sum(-1), _turned(sides), around

    def finished(self, losses: Losses, predictions: YOLOv8Predictions, terms: Terms) -> Losses:
        """The terms of all layers as one, times the batch size if so."""
        losses = super().finished(losses, predictions, terms)
        if self.times_batch_size and self.reduction == "mean":
            losses = {name: value * predictions.logits.shape[-3] for name, value in losses.items()}
        return losses


def _turned(sides: Tensor) -> Tensor:
    """Boxes (…, 4), xyxy around 0, of distances ltrb, and the other way round."""
    return torch.cat([-sides[..., :2], sides[..., 2:]], -1)


def small_side(strides: Sequence[Stride]) -> float:
    """Sides of targets below this are enlarged for the matching: the second stride, or the only one."""
    pairs = stride_pairs(strides)
    return float(max(pairs[min(1, len(pairs) - 1)])) if pairs else 0.0
