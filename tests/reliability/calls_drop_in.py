"""A valid call of every loss that takes the place of one of another package."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from reliability.call import Call, made

from losses import (
    RetinaNetCriterion,
    SetCriterion,
    TorchvisionLoss,
    TransformersLoss,
    UltralyticsLoss,
    YOLOv8Criterion,
    query_criterion,
)

OUTPUTS = {"pred_logits": torch.zeros(1, 4, 3), "pred_boxes": torch.full((1, 4, 4), 0.5)}
BOXES = torch.tensor([[0.5, 0.5, 0.5, 0.25]])
HEAD = {"scores": torch.zeros(1, 3, 16), "boxes": torch.zeros(1, 64, 16), "feats": [torch.zeros(1, 9, 4, 4)]}
BATCH = {
    "img": torch.zeros(1, 3, 32, 32),
    "batch_idx": torch.zeros(1),
    "cls": torch.ones(1, 1),
    "bboxes": torch.full((1, 4), 0.5),
}
ANCHORS = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]])


def _queries() -> dict[str, Any]:
    return {"criterion": query_criterion("rt-detr", 3)}


def _set_criterion() -> Call:
    return made(SetCriterion, _queries(), OUTPUTS, [{"boxes": BOXES, "labels": torch.tensor([2])}])


def _transformers() -> Call:
    labels, config = [{"class_labels": torch.tensor([2]), "boxes": BOXES}], SimpleNamespace(auxiliary_loss=False)
    return made(TransformersLoss, _queries(), *(OUTPUTS["pred_logits"], labels, "cpu", OUTPUTS["pred_boxes"], config))


def _torchvision() -> Call:
    head = {"cls_logits": torch.zeros(1, 2, 3), "bbox_regression": torch.ones(1, 2, 4)}
    targets = [{"boxes": ANCHORS[:1], "labels": torch.tensor([1])}]
    return made(TorchvisionLoss, {"criterion": RetinaNetCriterion(3)}, targets, head, [ANCHORS])


CALLS: dict[str, Callable[[], Call]] = {
    "SetCriterion": _set_criterion,
    "TransformersLoss": _transformers,
    "TorchvisionLoss": _torchvision,
    "UltralyticsLoss": partial(
        made, UltralyticsLoss, {"criterion": YOLOv8Criterion(3, strides=(8,)), "epochs": 5}, HEAD, BATCH
    ),
}
