"""The criterion of YOLOv10 and YOLO26: a one-to-many and a one-to-one head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from losses.core.looking_up import checked_assignment
from losses.core.normalizer import Normalizer
from losses.criteria.dense.aligned import DistanceLoss
from losses.criteria.dense.yolov8 import YOLOv8Criterion, small_side
from losses.heads.yolov8 import PAIR, YOLOv8Predictions, pair_of
from losses.modules.base import BoxLoss, ClassLoss
from matchers.assignments.assignment import Assignment
from matchers.dense.task_aligned import TaskAligned
from matchers.geometry.maps import Stride
from matchers.targets.targets import Targets
from ragged.values.checks import check_is_callable, check_not_negative


class YOLOv10Criterion(YOLOv8Criterion):
    """The loss of YOLOv10 (Wang et al., 2024) and YOLO26: dual assignments, one-to-many and one-to-one.

    Predictions are a dict with the heads ``"one2many"`` and ``"one2one"``, or both in this order, each as
    ``YOLOv8Criterion`` takes it. Each head has its own match and its own divisor. Each term is the sum over both
    heads, weighted by their rates.

    Args:
        num_classes, loss_cls, loss_dfl, loss_iou, cls_rate, dfl_rate, iou_rate, strides: See ``YOLOv8Criterion``.
        reg_max: R; 16 for YOLOv10, 1 for YOLO26.
        one_to_many_rate, one_to_one_rate: Weights of the heads. Set the attributes during training: Ultralytics goes
            from 0.8 and 0.2 to 0.1 and 0.9, in equal steps after each epoch. The paper adds both heads, 1 and 1.
        times_batch_size, reduction, normalizer: See ``YOLOv8Criterion``; values of ``"none"`` are sums over both heads.
        matcher: Matcher of the one-to-many head. Default: ``TaskAligned.yolov8()``.
        one_to_one_matcher: Of the other, ``TaskAligned.yolov8(topk=7, topk2=1)`` unless given, for these strides. That
            of the paper, and of Ultralytics before 8.4, has ``topk=1``.

    Raises:
        TypeError, KeyError, ValueError: As ``YOLOv8Criterion``, and heads that differ in shape.

    Differences to other implementations: those of ``YOLOv8Criterion``; Ultralytics logs the one-to-one head alone.

    >>> criterion = YOLOv10Criterion(3, reg_max=1, strides=(8,))
    >>> head = [torch.ones(1, 4 + 3, 4, 4)]
    >>> targets = ([torch.tensor([[0.0, 0.0, 24.0, 24.0]])], [torch.tensor([2])])
    >>> criterion.assign({"one2many": head, "one2one": head}, targets).num_positives
    tensor([[9],
            [1]])
    >>> sorted(criterion({"one2many": head, "one2one": head}, targets))
    ['loss_cls', 'loss_iou', 'loss_l1']
    """

    LAYERS = 1

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
        one_to_many_rate: float = 0.8,
        one_to_one_rate: float = 0.2,
        *,
        strides: Sequence[Stride] = (8, 16, 32),
        times_batch_size: bool = False,
        matcher: Callable[..., Assignment] | None = None,
        one_to_one_matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            loss_cls,
            loss_dfl,
            loss_iou,
            reg_max,
            cls_rate,
            dfl_rate,
            iou_rate,
            strides=strides,
            times_batch_size=times_batch_size,
            matcher=matcher,
            reduction=reduction,
            normalizer=normalizer,
        )
        self.one_to_many_rate, self.one_to_one_rate = one_to_many_rate, one_to_one_rate
        for name in ("one_to_many_rate", "one_to_one_rate"):
            check_not_negative(getattr(self, name), name)
        if one_to_one_matcher is None:
            one_to_one_matcher = TaskAligned.yolov8(topk=7, topk2=1, min_side=small_side(strides))
        check_is_callable(one_to_one_matcher, "one_to_one_matcher", "a matcher")
        self.one_to_one_matcher = one_to_one_matcher

    def read(self, predictions: Any) -> YOLOv8Predictions:
        """Both heads as layers, all levels side by side."""
        if isinstance(predictions, YOLOv8Predictions):
            return super().read(predictions)
        first, second = (self._head(each, name) for each, name in zip(pair_of(predictions), PAIR, strict=True))
        return first.stacked(second)

    def match(self, predictions: YOLOv8Predictions, targets: Targets) -> Assignment:
        """Match each head by its own matcher: ``(2, B, P)``."""
        one_to_many, one_to_one = (self._for_matcher(predictions.layer(index), targets) for index in range(2))
        found = self.one_to_one_matcher(*one_to_one)
        single = checked_assignment(found, self.one_to_one_matcher, type(self).__name__)
        return Assignment.stack([self.call_matcher(*one_to_many), single])

    def joined(self, first: Any, second: Any) -> Any:
        """Both heads at their rates."""
        return self.one_to_many_rate * first + self.one_to_one_rate * second
