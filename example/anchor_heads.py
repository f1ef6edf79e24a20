"""Detectors that move anchor boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from example.data import Task
from example.detector import Detector, Maps, detections, flat
from example.model import DenseModel
from losses import ATSSCriterion, DeltaXYWHCoder, RetinaNetCriterion, SSDCriterion
from matchers import Predictions, anchors

_CODER = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))
# In strides; digits are 16 to 36 pixels high.
_ATSS_SIDES, _SSD_SIDES = (3.0,), (2.25, 3.375)
_RETINA_SIDES = (2.25, 3.375)


def square_anchors(task: Task, sides: Sequence[float]) -> Tensor:
    """Anchors (P, 4), xyxy in pixels, of these sides in strides."""
    return anchors((task.image_size, task.image_size), task.strides, scales=sides)


def centers_of(boxes: Tensor) -> Tensor:
    """Centres (…, 2) of xyxy boxes (…, 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def atss(task: Task) -> Detector:
    """ATSS: an anchor in each cell, and how central it is."""
    priors = square_anchors(task, _ATSS_SIDES)

    def decode(maps: Maps) -> Predictions:
        deltas = flat(maps["boxes"], 4).float()
        classes, centerness = flat(maps["classes"], task.num_classes).sigmoid(), flat(maps["centerness"], 1).sigmoid()
        return detections(classes * centerness, _CODER.decode(priors.to(deltas.device), deltas))

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "boxes": 4, "centerness": 1}),
        make_criterion=lambda reduction: ATSSCriterion(
            task.num_classes, strides=task.strides, anchors=priors, reduction=reduction
        ),
        inputs=lambda maps: (maps["classes"], maps["boxes"], maps["centerness"]),
        decode=decode,
        centers=lambda maps: centers_of(priors),
    )


def ssd(task: Task) -> Detector:
    """SSD: two anchors in each cell, a class for the background, and hard negative mining."""
    priors = square_anchors(task, _SSD_SIDES)

    def decode(maps: Maps) -> Predictions:
        deltas = flat(maps["boxes"], 4).float()
        classes = flat(maps["classes"], task.num_classes + 1).softmax(dim=-1)
        return detections(classes[..., :-1], _CODER.decode(priors.to(deltas.device), deltas))

    per_cell = len(_SSD_SIDES)
    return Detector(
        model=DenseModel(task, {"classes": per_cell * (task.num_classes + 1), "boxes": per_cell * 4}, background=True),
        make_criterion=lambda reduction: SSDCriterion(task.num_classes + 1, anchors=priors, reduction=reduction),
        inputs=lambda maps: (maps["classes"], maps["boxes"]),
        decode=decode,
        centers=lambda maps: centers_of(priors),
    )


def retinanet(task: Task) -> Detector:
    """RetinaNet: two anchors in each cell, and a focal loss."""
    priors = square_anchors(task, _RETINA_SIDES)

    def decode(maps: Maps) -> Predictions:
        deltas = flat(maps["boxes"], 4).float()
        return detections(
            flat(maps["classes"], task.num_classes).sigmoid(), _CODER.decode(priors.to(deltas.device), deltas)
        )

    per_cell = len(_RETINA_SIDES)
    return Detector(
        model=DenseModel(task, {"classes": per_cell * task.num_classes, "boxes": per_cell * 4}),
        make_criterion=lambda reduction: RetinaNetCriterion(
            task.num_classes, _CODER, anchors=priors, reduction=reduction
        ),
        inputs=lambda maps: (maps["classes"], maps["boxes"]),
        decode=decode,
        centers=lambda maps: centers_of(priors),
    )


DETECTORS = (atss, ssd, retinanet)
