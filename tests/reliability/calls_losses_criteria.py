"""Valid calls of every criterion: the whole, its steps, and its hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import detr_case
import ssd_case
import torch
from criterion_cases import EVERY_CRITERION
from criterion_types import CLASSES, STRIDES
from reliability.call import Call, call, made
from yolov9_case import REG_MAX, VEC2BOX

import losses
from losses import GIoULoss, Normalizer, QualityFocalLoss
from matchers import Hungarian, MaxIoU, SimOTA

SIZES = [2, 0]
# What each criterion is made with, beside the name of the case whose predictions it takes.
_INIT: dict[str, tuple[str, dict[str, Any]]] = {
    "ATSSCriterion": (
        "atss",
        {
            "num_classes": CLASSES,
            "strides": STRIDES,
            "anchor_scale": 2.0,
            "use_qfl": False,
            "qfl_cfg": {"beta": 2.0},
            "reg_decoded_bbox": True,
            "bg_loss_weight": 0.5,
            "use_centerness": True,
        },
    ),
    "DEIMCriterion": (
        "deim",
        {"weight_dict": {"loss_mal": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}, "num_classes": CLASSES, "reg_max": 4},
    ),
    "DFINECriterion": (
        "dfine",
        {
            "weight_dict": detr_case.FINE_WEIGHTS,
            "alpha": 0.75,
            "gamma": 2.0,
            "num_classes": CLASSES,
            "reg_max": detr_case.REG_MAX,
            "temperature": 5.0,
        },
    ),
    "DetrCriterion": (
        "detr",
        {"weight_dict": detr_case.WEIGHTS, "alpha": 0.75, "gamma": 2.0, "num_classes": CLASSES, "matcher": Hungarian()},
    ),
    "DetectionLoss": (
        "detection",
        {
            "cls_loss_module": torch.nn.CrossEntropyLoss(reduction="none"),
            "loc_loss_module": GIoULoss(),
            "matching_method": Hungarian(),
            "bg_class_position": "last",
            "use_hard_negative_mining": True,
            "neg_to_pos_ratio": 3.0,
            "size_average": None,
            "reduce": None,
            "negatives_without_positives": 1.0,
        },
    ),
    "RTMDetCriterion": (
        "rtmdet",
        {"num_classes": CLASSES, "strides": STRIDES, "loss_cls": QualityFocalLoss(), "loss_bbox": GIoULoss()},
    ),
    "SSDCriterion": (
        "ssd",
        {
            "num_classes": CLASSES + 1,
            "anchors": torch.cat(ssd_case.level_anchors()),
            "neg_pos_ratio": 3.0,
            "reg_decoded_bbox": False,
            "smoothl1_beta": 1.0,
            "negatives_without_positives": 1.0,
            "matcher": MaxIoU(),
        },
    ),
    "SSDLoss": (
        "ssd loss",
        {
            "dboxes": ssd_case.default_boxes(),
            "alpha": 1.0,
            "iou_thresh": 0.5,
            "neg_pos_ratio": 3.0,
            "negatives_without_positives": 1.0,
        },
    ),
    "YOLOXCriterion": (
        "yolox",
        {"num_classes": CLASSES, "strides": STRIDES, "use_l1": True, "matcher": SimOTA()},
    ),
    "YOLOv9Criterion": (
        "yolov9",
        {
            "num_classes": CLASSES,
            "vec2box": VEC2BOX,
            "reg_max": REG_MAX,
            "cls_rate": 0.5,
            "dfl_rate": 1.5,
            "iou_rate": 7.5,
            "aux_rate": 0.25,
        },
    ),
}
_COMMON = {"reduction": "mean", "normalizer": Normalizer()}


@cache
def given(case: str) -> tuple[Any, Any]:
    return EVERY_CRITERION[case].predictions(SIZES, 0), EVERY_CRITERION[case].targets(SIZES, 0)


def raw(case: str) -> list[dict[str, torch.Tensor]]:
    return given(case)[1].to_dicts()


def _whole(name: str) -> Callable[[], Call]:
    case, init = _INIT[name]
    return lambda: made(getattr(losses, name), init | _COMMON, *given(case), global_count=3.0)


def _steps(case: str) -> dict[str, Callable[[], Call]]:
    kept = EVERY_CRITERION[case].make()

    @cache
    def assignment() -> Any:
        return kept.assign(*given(case))

    return {
        f"{case}": lambda: call(kept, *given(case)),
        f"{case}.assign": lambda: call(kept.assign, *given(case)),
        f"{case}.loss": lambda: call(kept.loss, *given(case), assignment()),
        f"{case}.counts": lambda: call(kept.counts, *given(case), assignment()),
    }


def _yolox_loss() -> Call:
    weights = {f"{name}_loss_weight": 1.0 for name in ("bbox", "class", "objectness", "l1")}
    images = raw("yolox")
    targets = [[image[name] for image in images] for name in ("boxes", "labels")]
    init = {"num_classes": CLASSES, "use_l1": True, "strides": STRIDES, **weights}
    return made(losses.YOLOXLoss, init, *given("yolox")[0], *targets, global_count=2.0)


def _with_branch() -> Call:
    predictions, targets = given("yolov9")
    return made(losses.YOLOv9Criterion, _INIT["YOLOv9Criterion"][1], predictions, targets, aux_preds=predictions)


CRITERIA: dict[str, Callable[[], Call]] = {
    **{name: _whole(name) for name in _INIT},
    "YOLOXLoss": _yolox_loss,
    "YOLOv9Criterion(auxiliary branch)": _with_branch,
    # One of the cases is a class of its own, made for the tests.
    **{name: make for case in EVERY_CRITERION if "branch" not in case for name, make in _steps(case).items()},
}
