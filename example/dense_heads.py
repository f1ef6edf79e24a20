"""Detectors that predict a box in every cell, without anchors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from example.criterion import DetectionCriterion
from example.data import Task
from example.detector import Detector, Maps, detections, flat
from example.matching import make_matcher
from example.model import DenseModel, start_at
from losses import (
    CenterLogSizeCoder,
    DetectionLoss,
    DistanceCoder,
    FCOSCriterion,
    FocalLoss,
    GIoULoss,
    L1Loss,
    MultipleObjectiveLoss,
    RTMDetCriterion,
    Vec2Box,
    YOLOv8Criterion,
    YOLOv9Criterion,
    YOLOv10Criterion,
    YOLOXCriterion,
)
from matchers import FCOS, BalancedSinkhorn, Predictions, Targets, grid_points

_BINS = 8
# Bounds keep an untrained detector from boxes of infinite size.
_WIDEST_LOG = 4.0
# In strides: boxes without a size overlap nothing, and learn nothing.
_FIRST_DISTANCE = 2.0
# Sharper than usual, so that a cell that is better than its neighbours soon has nearly all of a target.
_TRANSPORT_REG = 0.03


def points(task: Task, like: Tensor, offset: float = 0.5) -> Tensor:
    """``grid_points`` (P, 4) of all levels, where ``like`` is."""
    return grid_points((task.image_size, task.image_size), task.strides, offset=offset, device=like.device)


def boxes_around_centers(task: Task, maps: list[Tensor]) -> Tensor:
    """Boxes (B, P, 4), xyxy in pixels: the centre shifted from the cell's, and the logarithm of the size."""
    deltas = flat(maps, 4).float()
    deltas = torch.cat([deltas[..., :2], deltas[..., 2:].clamp(-_WIDEST_LOG, _WIDEST_LOG)], dim=-1)
    return CenterLogSizeCoder().decode(points(task, deltas), deltas)


def own(task: Task, matcher: str = "hungarian") -> Detector:
    """The criterion of ``example/criterion.py``, with any matcher."""
    return _of_boxes(
        task,
        lambda reduction: DetectionCriterion(
            matcher=make_matcher(matcher, task), image_size=task.image_size, reduction=reduction
        ),
    )


def _of_boxes(task: Task, make_criterion: Callable[[str], nn.Module]) -> Detector:
    """Classes and a box in each cell, which a criterion takes as detections are read."""

    def read(maps: Maps) -> Predictions:
        boxes = boxes_around_centers(task, maps["boxes"])
        return Predictions(flat(maps["classes"], task.num_classes), boxes, box_format="xyxy", normalized=False)

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "boxes": 4}),
        make_criterion=make_criterion,
        inputs=read,
        decode=read,
        centers=lambda maps: points(task, maps["boxes"][0])[:, :2],
    )


def yolox(task: Task) -> Detector:
    """YOLOX: an objectness beside the classes, and SimOTA."""

    def decode(maps: Maps) -> Predictions:
        deltas = flat(maps["boxes"], 4).float()
        boxes = CenterLogSizeCoder().decode(points(task, deltas, offset=0.0), deltas)
        classes, objectness = flat(maps["classes"], task.num_classes).sigmoid(), flat(maps["objectness"], 1).sigmoid()
        return detections(classes * objectness, boxes)

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "boxes": 4, "objectness": 1}),
        make_criterion=lambda reduction: YOLOXCriterion(task.num_classes, strides=task.strides, reduction=reduction),
        inputs=lambda maps: (maps["classes"], maps["boxes"], maps["objectness"]),
        decode=decode,
        centers=lambda maps: points(task, maps["boxes"][0])[:, :2],
    )


def rtmdet(task: Task) -> Detector:
    """RTMDet: distances of the sides, and dynamic soft labels."""

    def distances(maps: Maps) -> list[Tensor]:
        pairs = zip(maps["boxes"], task.strides, strict=True)
        return [level.float().clamp(-_WIDEST_LOG, _WIDEST_LOG).exp() * stride for level, stride in pairs]

    def decode(maps: Maps) -> Predictions:
        sides = flat(distances(maps), 4)
        boxes = DistanceCoder().decode(points(task, sides, offset=0.0), sides)
        return detections(flat(maps["classes"], task.num_classes).sigmoid(), boxes)

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "boxes": 4}),
        make_criterion=lambda reduction: RTMDetCriterion(task.num_classes, strides=task.strides, reduction=reduction),
        inputs=lambda maps: (maps["classes"], distances(maps)),
        decode=decode,
        centers=lambda maps: points(task, maps["boxes"][0])[:, :2],
    )


def yolov9(task: Task) -> Detector:
    """YOLOv9: distributions of the sides, and a task-aligned assignment."""
    to_boxes = Vec2Box(image_size=(task.image_size, task.image_size), strides=task.strides)

    def inputs(maps: Maps) -> list[tuple[Tensor, Tensor]]:
        sides = [level.unflatten(1, (_BINS, 4)) for level in maps["sides"]]
        return list(zip(maps["classes"], sides, strict=True))

    def decode(maps: Maps) -> Predictions:
        decoded = to_boxes(inputs(maps))
        return detections(decoded.logits.sigmoid(), decoded.boxes)

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "sides": 4 * _BINS}),
        make_criterion=lambda reduction: YOLOv9Criterion(
            task.num_classes, to_boxes, reg_max=_BINS, reduction=reduction
        ),
        inputs=inputs,
        decode=decode,
        centers=lambda maps: points(task, maps["sides"][0])[:, :2],
    )


def yolov8(task: Task) -> Detector:
    """YOLOv8: maps of distributions and classes, and a task-aligned assignment."""
    criterion = partial(YOLOv8Criterion, task.num_classes, reg_max=_BINS, strides=task.strides)
    reader = criterion()

    def inputs(maps: Maps) -> tuple[list[Tensor], list[Tensor]]:
        return maps["classes"], maps["sides"]

    def decode(maps: Maps) -> Predictions:
        read = reader.read(inputs(maps))
        return detections(read.logits.sigmoid(), read.decoded())

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "sides": 4 * _BINS}),
        make_criterion=lambda reduction: criterion(reduction=reduction),
        inputs=inputs,
        decode=decode,
        centers=lambda maps: points(task, maps["sides"][0])[:, :2],
    )


def yolo26(task: Task) -> Detector:
    """YOLO26: distances without bins, of a one-to-many head and of a one-to-one head, which detects."""
    heads = {"one2many": ("classes_many", "sides_many"), "one2one": ("classes_one", "sides_one")}
    # Both heads train to the end; Ultralytics hands over from the first to the second.
    criterion = partial(
        YOLOv10Criterion,
        task.num_classes,
        reg_max=1,
        one_to_many_rate=0.5,
        one_to_one_rate=0.5,
        strides=task.strides,
    )
    reader = criterion()
    channels = {classes: task.num_classes for classes, _ in heads.values()} | {sides: 4 for _, sides in heads.values()}
    model = DenseModel(task, channels)
    for _, sides in heads.values():
        start_at(model, sides, _FIRST_DISTANCE)

    def inputs(maps: Maps) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
        return {head: (maps[classes], maps[sides]) for head, (classes, sides) in heads.items()}

    def decode(maps: Maps) -> Predictions:
        read = reader.read(inputs(maps)).layer(1)
        return detections(read.logits.sigmoid(), read.decoded())

    return Detector(
        model=model,
        make_criterion=lambda reduction: criterion(reduction=reduction),
        inputs=inputs,
        decode=decode,
        centers=lambda maps: points(task, maps["sides_one"][0])[:, :2],
    )


def fcos(task: Task) -> Detector:
    """FCOS: distances of the sides, and how central a point is in its digit."""

    def distances(maps: Maps) -> list[Tensor]:
        return [level.float().clamp(-_WIDEST_LOG, _WIDEST_LOG).exp() for level in maps["boxes"]]

    def decode(maps: Maps) -> Predictions:
        sides = flat(distances(maps), 4)
        boxes = DistanceCoder(scale_by_stride=True).decode(points(task, sides), sides)
        classes, centerness = flat(maps["classes"], task.num_classes).sigmoid(), flat(maps["centerness"], 1).sigmoid()
        return detections(classes * centerness, boxes)

    return Detector(
        model=DenseModel(task, {"classes": task.num_classes, "boxes": 4, "centerness": 1}),
        # Digits are 16 to 36 pixels high: both levels shall have some.
        make_criterion=lambda reduction: FCOSCriterion(
            task.num_classes, strides=task.strides, matcher=FCOS(regress_range=(1.0, 2.0)), reduction=reduction
        ),
        inputs=lambda maps: (maps["classes"], distances(maps), maps["centerness"]),
        decode=decode,
        centers=lambda maps: points(task, maps["boxes"][0])[:, :2],
    )


class TransportLoss(DetectionLoss):
    """``DetectionLoss`` with its parts as the terms."""

    def forward(self, input: Predictions, target: Targets) -> dict[str, Tensor]:  # type: ignore[override]
        """``"loss_cls"`` and ``"loss_loc"``."""
        return self.parts(input, target, self.assign(input, target))


def ot(task: Task) -> Detector:
    """Optimal transport: each target has the mass of one cell, spread over those that are nearly as good."""
    distance = MultipleObjectiveLoss([L1Loss(), GIoULoss()], [5.0 / task.image_size, 2.0])
    return _of_boxes(
        task,
        lambda reduction: TransportLoss(
            FocalLoss(loss_weight=2.0),
            distance,
            BalancedSinkhorn(reg_dimless=_TRANSPORT_REG),
            bg_class_position="none",
            reduction=reduction,
        ),
    )


DETECTORS = (own, yolox, yolov8, yolov9, yolo26, rtmdet, fcos, ot)
