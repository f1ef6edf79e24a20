"""Detectors of queries that a decoder refines."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from example.data import Task
from example.detector import Detector, detections
from example.query_model import NUM_GROUPS, REG_MAX, DetrModel, DFineModel, GroupedDetrModel, QueryModel, cell_places
from losses import DetrCriterion, DFINECriterion, query_criterion
from matchers import Predictions, convert

_WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
_ALPHA, _GAMMA = 0.75, 2.0


def detr(task: Task) -> Detector:
    """DETR, with two decoder layers."""
    return _detector(
        task,
        DetrModel(task),
        lambda reduction: DetrCriterion(_WEIGHTS, _ALPHA, _GAMMA, task.num_classes, reduction=reduction),
    )


def dfine(task: Task) -> Detector:
    """D-FINE: boxes as distributions that learn from the last layer."""
    weights = _WEIGHTS | {"loss_fgl": 0.15, "loss_ddf": 1.5}
    return _detector(
        task,
        DFineModel(task),
        lambda reduction: DFINECriterion(
            weights, _ALPHA, _GAMMA, task.num_classes, reg_max=REG_MAX, reduction=reduction
        ),
    )


def lw_detr(task: Task) -> Detector:
    """LW-DETR: groups of queries in training, each matched on its own, and classes that learn the IoU of boxes."""
    return _detector(
        task,
        GroupedDetrModel(task),
        lambda reduction: query_criterion("lw-detr", task.num_classes, num_groups=NUM_GROUPS, reduction=reduction),
    )


def _detector(task: Task, model: QueryModel, make_criterion: Any) -> Detector:
    def decode(outputs: dict[str, Any]) -> Predictions:
        boxes = convert(outputs["pred_boxes"], "cxcywh", "xyxy") * task.image_size
        return detections(outputs["pred_logits"].sigmoid(), boxes)

    def centers(outputs: dict[str, Any]) -> Tensor:
        places = cell_places(task, outputs["chosen"].device)
        return places[outputs["chosen"], :2] * task.image_size

    def inputs(outputs: dict[str, Any]) -> dict[str, Any]:
        # Nothing is learned from where queries come from, and a criterion refuses what it would not read.
        return {key: value for key, value in outputs.items() if key != "chosen"}

    return Detector(model, make_criterion, inputs, decode, centers, learning_rate=2e-3)


DETECTORS = (detr, dfine, lw_detr)
