"""A criterion as that of a model of Ultralytics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from losses.core.terms import detached, total
from losses.criteria.dense.yolov8 import YOLOv8Criterion
from losses.criteria.dense.yolov10 import YOLOv10Criterion
from losses.drop_in.checks import check_mean
from losses.modules.classes import BinaryCrossEntropy
from losses.modules.weighted import WeightedClasses
from ragged.values.checks import check_positive

_LAST_RATE = 0.1
"""Of the one-to-many head, at the end of the training."""


class UltralyticsLoss(nn.Module):
    """A criterion as the ``criterion`` of a detector of Ultralytics.

    It takes the outputs and the batch of such a model, and returns ``(loss, items)``, where
    ``items`` are the terms without their graph, by the names of the criterion, not multiplied by the batch size::

        DetectionModel.init_criterion = lambda model: UltralyticsLoss.from_model(model)

    Trainers of Ultralytics call ``update`` after each epoch: with a pair of heads and ``epochs``, it shifts the weight
    from the one-to-many head to the one-to-one head, as theirs does.

    Args:
        criterion: ``YOLOv8Criterion``, or ``YOLOv10Criterion`` for pairs of heads; ``from_model`` makes the one that
            fits a model.
        epochs: Number of epochs; None keeps the rates of the heads.

    Raises:
        TypeError: The criterion is another one.
        ValueError: The criterion has another reduction than ``"mean"`` or ``"sum"``.

    >>> loss_function = UltralyticsLoss(YOLOv8Criterion(3, strides=(8,), times_batch_size=True))
    >>> head = {"scores": torch.zeros(1, 3, 16), "boxes": torch.zeros(1, 64, 16), "feats": [torch.zeros(1, 9, 4, 4)]}
    >>> batch = {"img": torch.zeros(1, 3, 32, 32), "batch_idx": torch.zeros(0)}
    >>> batch |= {"cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    >>> loss, items = loss_function(head, batch)
    >>> sorted(items)
    ['loss_cls', 'loss_df', 'loss_iou']
    """

    def __init__(self, criterion: YOLOv8Criterion, *, epochs: int | None = None) -> None:
        super().__init__()
        check_mean(criterion, YOLOv8Criterion, "a YOLOv8Criterion or a YOLOv10Criterion")
        if epochs is not None:
            check_positive(epochs, "epochs")
        self.criterion, self.epochs, self.updates = criterion, epochs, 0
        self._first_rate = self._both_rates = 0.0
        if isinstance(criterion, YOLOv10Criterion):
            self._first_rate = float(criterion.one_to_many_rate)
            self._both_rates = self._first_rate + float(criterion.one_to_one_rate)

    @classmethod
    def from_model(cls, model: Any, **changes: Any) -> UltralyticsLoss:
        """The loss of a model, with the model's gains, strides and number of classes.

        Args:
            model: A ``DetectionModel``, whose last layer is the head: its ``args`` are ``box``, ``cls``, ``dfl``, and
                ``epochs`` for a pair of heads.
            changes: Other arguments of the criterion, such as ``normalizer=``.
        """
        head, gains = model.model[-1], model.args
        options: dict[str, Any] = {
            "reg_max": head.reg_max,
            "strides": tuple(int(stride) for stride in head.stride.tolist()),
            "cls_rate": gains.cls,
            "dfl_rate": gains.dfl,
            "iou_rate": gains.box,
            "times_batch_size": True,
        }
        weights = getattr(model, "class_weights", None)
        if weights is not None:
            options["loss_cls"] = WeightedClasses(BinaryCrossEntropy(), weights)
        pair = getattr(head, "one2one_cv2", None) is not None
        kind = YOLOv10Criterion if pair else YOLOv8Criterion
        return cls(kind(head.nc, **(options | changes)), epochs=gains.epochs if pair else None)

    def update(self) -> None:
        """Call after each epoch: sets the next rates of a pair of heads."""
        self.updates += 1
        if self.epochs is None or not isinstance(self.criterion, YOLOv10Criterion):
            return
        left = max(1 - self.updates / max(self.epochs - 1, 1), 0)
        rate = left * (self._first_rate - _LAST_RATE) + _LAST_RATE
        self.criterion.one_to_many_rate = rate
        self.criterion.one_to_one_rate = max(self._both_rates - rate, 0.0)

    def forward(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch.

        Args:
            preds: What the head gives, in training or in evaluation.
            batch: ``"batch_idx"``, ``"cls"``, ``"bboxes"`` and ``"img"``.
        """
        terms = self.criterion(preds, batch)
        images = len(batch["img"]) if self.criterion.times_batch_size and self.criterion.reduction == "mean" else 1
        return total(terms), {name: value / images for name, value in detached(terms).items()}
