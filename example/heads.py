"""A head for each criterion of ``losses``: what it predicts in every cell, how it is trained, and how it is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from example.data import IMAGE_SIZE, NUM_CLASSES
from example.model import STRIDE, backbone, conv, decode_boxes
from losses import (
    ATSSCriterion,
    CenterLogSizeCoder,
    DeltaXYWHCoder,
    DetectionLoss,
    DetrCriterion,
    DFINECriterion,
    DistanceCoder,
    GIoULoss,
    L1Loss,
    MultipleObjectiveLoss,
    NegativeProbLoss,
    RTMDetCriterion,
    SSDCriterion,
    Vec2Box,
    YOLOv9Criterion,
    YOLOXCriterion,
    distance2bbox,
    flatten_levels,
    integral,
    weighting_function,
)
from matchers import BalancedSinkhorn, Predictions, anchors, convert, grid_points

Maps = Mapping[str, Tensor]
"""What the network says, by name: (B, channels, rows, columns)."""

_CANVAS = (IMAGE_SIZE, IMAGE_SIZE)
_STRIDES = (STRIDE,)
_PRIOR_PROBABILITY = 0.01
_WIDEST_LOG = 4.0
# Digits are 16 to 36 pixels high, which is up to 4.5 cells from the middle of one.
_ANCHOR_SIDE, _SSD_SIDES = 24.0, (18.0, 27.0)
_BINS, _UP, _REG_SCALE = 8, 0.5, 4.0


@dataclass(frozen=True)
class Head:
    """What is special about the detector of a criterion.

    Args:
        channels: Of each map. Those of names that begin with "classes" start from a low probability, unless the
            criterion has a class for the background.
        criterion: Makes the criterion.
        inputs: Makes what the criterion is called with of the maps.
        decode: Makes detections of the maps, xyxy in pixels, with a logit for each class.
        background: Whether there is a class for it.
    """

    channels: Mapping[str, int]
    criterion: Callable[[], nn.Module]
    inputs: Callable[[Maps], Any]
    decode: Callable[[Maps], Predictions]
    background: bool = False


class HeadDetector(nn.Module):
    """The backbone of the example with the maps of a head; every map has a tower of its own."""

    def __init__(self, head: Head, width: int = 16) -> None:
        super().__init__()
        self.backbone = backbone(width)
        towers = {
            name: nn.Sequential(conv(4 * width, 4 * width), nn.Conv2d(4 * width, count, 1))
            for name, count in head.channels.items()
        }
        self.towers = nn.ModuleDict(towers)
        if not head.background:
            for name, tower in towers.items():
                if name.startswith("classes"):
                    nn.init.constant_(tower.get_parameter("1.bias"), -math.log(1 / _PRIOR_PROBABILITY - 1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (B, channels, H / `STRIDE`, W / `STRIDE`) of images (B, 1, H, W)."""
        features = self.backbone(images)
        return {name: tower(features) for name, tower in self.towers.items()}


def _flat(maps: Tensor, channels: int) -> Tensor:
    return flatten_levels([maps], channels=channels, name="maps", num_per_cell=maps.shape[1] // channels)


def _points(like: Tensor, offset: float = 0.5) -> Tensor:
    return grid_points(_CANVAS, _STRIDES, offset=offset, device=like.device)


def _found(probabilities: Tensor, boxes: Tensor) -> Predictions:
    eps = torch.finfo(torch.float32).eps
    return Predictions(probabilities.float().logit(eps), boxes, box_format="xyxy", normalized=False)


# --- sets of queries: the cells ------------------------------------------------------------------------------------


def _queries(logits: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """A decoder's output from maps and xyxy boxes in pixels."""
    return {"pred_logits": _flat(logits, NUM_CLASSES), "pred_boxes": convert(boxes, "xyxy", "cxcywh") / IMAGE_SIZE}


def _detr_inputs(maps: Maps) -> dict[str, Tensor]:
    return _queries(maps["classes"], decode_boxes(maps["boxes"]))


def _detr_boxes(maps: Maps) -> Predictions:
    outputs = _detr_inputs(maps)
    return _found(outputs["pred_logits"].sigmoid(), convert(outputs["pred_boxes"], "cxcywh", "xyxy") * IMAGE_SIZE)


def _dfine_inputs(maps: Maps) -> dict[str, Any]:
    """Two layers that refine the distances of the sides from those of a first guess."""
    first = _queries(maps["classes"], decode_boxes(maps["boxes"]))
    reference = first["pred_boxes"].detach()
    bins = weighting_function(_BINS, _UP, _REG_SCALE, device=reference.device)
    corners: Any = 0
    layers: list[dict[str, Any]] = []
    for name in ("1", "2"):
        corners = corners + _flat(maps[f"corners_{name}"], 4 * (_BINS + 1))
        boxes = distance2bbox(reference, integral(corners.unflatten(-1, (4, _BINS + 1)), bins), reg_scale=_REG_SCALE)
        layers.append(
            {
                "pred_logits": _flat(maps[f"classes_{name}"], NUM_CLASSES),
                "pred_boxes": boxes,
                "pred_corners": corners,
                "ref_points": reference,
            }
        )
    layers[0] |= {"teacher_corners": layers[1]["pred_corners"], "teacher_logits": layers[1]["pred_logits"]}
    constants = {"up": torch.tensor([_UP]), "reg_scale": torch.tensor([_REG_SCALE])}
    constants = {name: value.to(reference.device) for name, value in constants.items()}
    return {**layers[1], "aux_outputs": layers[:1], "pre_outputs": first, **constants}


def _dfine_boxes(maps: Maps) -> Predictions:
    outputs = _dfine_inputs(maps)
    return _found(outputs["pred_logits"].sigmoid(), convert(outputs["pred_boxes"], "cxcywh", "xyxy") * IMAGE_SIZE)


def _transport_inputs(maps: Maps) -> dict[str, Tensor]:
    return {"pred_logits": _flat(maps["classes"], NUM_CLASSES + 1), "pred_boxes": decode_boxes(maps["boxes"])}


def _transport_boxes(maps: Maps) -> Predictions:
    outputs = _transport_inputs(maps)
    return _found(outputs["pred_logits"].softmax(-1)[..., :-1], outputs["pred_boxes"])


def _transport_criterion() -> DetectionLoss:
    distance = MultipleObjectiveLoss([L1Loss(), GIoULoss()], [5.0 / IMAGE_SIZE, 2.0])
    matcher = BalancedSinkhorn(
        cls_match_module=NegativeProbLoss(reduction="none"), loc_match_module=distance, background_cost=1.0
    )
    return DetectionLoss(nn.CrossEntropyLoss(reduction="none"), distance, matcher, bg_class_position="last")


# --- a prediction in every cell ------------------------------------------------------------------------------------


def _yolox_boxes(maps: Maps) -> Predictions:
    boxes = CenterLogSizeCoder().decode(_points(maps["boxes"], offset=0.0), _flat(maps["boxes"], 4))
    return _found(_flat(maps["classes"], NUM_CLASSES).sigmoid() * _flat(maps["objectness"], 1).sigmoid(), boxes)


def _distances(maps: Maps) -> Tensor:
    return maps["boxes"].clamp(-_WIDEST_LOG, _WIDEST_LOG).exp() * STRIDE


def _rtmdet_boxes(maps: Maps) -> Predictions:
    boxes = DistanceCoder().decode(_points(maps["boxes"], offset=0.0), _flat(_distances(maps), 4))
    return _found(_flat(maps["classes"], NUM_CLASSES).sigmoid(), boxes)


def _yolov9_inputs(maps: Maps) -> list[tuple[Tensor, Tensor]]:
    return [(maps["classes"], maps["distances"].unflatten(1, (_BINS, 4)))]


def _yolov9_boxes(maps: Maps) -> Predictions:
    decoded = Vec2Box(image_size=_CANVAS, strides=_STRIDES)(_yolov9_inputs(maps))
    return _found(decoded.logits.sigmoid(), decoded.boxes)


# --- anchors -------------------------------------------------------------------------------------------------------


def _atss_anchors() -> Tensor:
    return anchors(_CANVAS, _STRIDES, base_sizes=[_ANCHOR_SIDE])


def _ssd_anchors() -> Tensor:
    return anchors(_CANVAS, _STRIDES, base_sizes=[1.0], scales=_SSD_SIDES)


_CODER = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))


def _atss_boxes(maps: Maps) -> Predictions:
    boxes = _CODER.decode(_atss_anchors().to(maps["boxes"].device), _flat(maps["boxes"], 4))
    return _found(_flat(maps["classes"], NUM_CLASSES).sigmoid() * _flat(maps["centerness"], 1).sigmoid(), boxes)


def _ssd_boxes(maps: Maps) -> Predictions:
    boxes = _CODER.decode(_ssd_anchors().to(maps["boxes"].device), _flat(maps["boxes"], 4))
    return _found(_flat(maps["classes"], NUM_CLASSES + 1).softmax(-1)[..., :-1], boxes)


_DETR_WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}

HEADS: dict[str, Head] = {
    "detr": Head(
        {"classes": NUM_CLASSES, "boxes": 4},
        lambda: DetrCriterion(_DETR_WEIGHTS, 0.75, 2.0, NUM_CLASSES),
        _detr_inputs,
        _detr_boxes,
    ),
    "dfine": Head(
        {"classes": NUM_CLASSES, "boxes": 4}
        | {f"{kind}_{layer}": count for layer in "12" for kind, count in (("classes", NUM_CLASSES), ("corners", 36))},
        lambda: DFINECriterion(
            _DETR_WEIGHTS | {"loss_fgl": 0.15, "loss_ddf": 1.5}, 0.75, 2.0, NUM_CLASSES, reg_max=_BINS
        ),
        _dfine_inputs,
        _dfine_boxes,
    ),
    "ot": Head(
        {"classes": NUM_CLASSES + 1, "boxes": 4},
        _transport_criterion,
        _transport_inputs,
        _transport_boxes,
        background=True,
    ),
    "yolox": Head(
        {"classes": NUM_CLASSES, "boxes": 4, "objectness": 1},
        lambda: YOLOXCriterion(NUM_CLASSES, strides=_STRIDES),
        lambda maps: ([maps["classes"]], [maps["boxes"]], [maps["objectness"]]),
        _yolox_boxes,
    ),
    "rtmdet": Head(
        {"classes": NUM_CLASSES, "boxes": 4},
        lambda: RTMDetCriterion(NUM_CLASSES, strides=_STRIDES),
        lambda maps: ([maps["classes"]], [_distances(maps)]),
        _rtmdet_boxes,
    ),
    "yolov9": Head(
        {"classes": NUM_CLASSES, "distances": 4 * _BINS},
        lambda: YOLOv9Criterion(NUM_CLASSES, Vec2Box(image_size=_CANVAS, strides=_STRIDES), reg_max=_BINS),
        _yolov9_inputs,
        _yolov9_boxes,
    ),
    "atss": Head(
        {"classes": NUM_CLASSES, "boxes": 4, "centerness": 1},
        lambda: ATSSCriterion(NUM_CLASSES, strides=_STRIDES, anchors=_atss_anchors()),
        lambda maps: ([maps["classes"]], [maps["boxes"]], [maps["centerness"]]),
        _atss_boxes,
    ),
    "ssd": Head(
        {"classes": len(_SSD_SIDES) * (NUM_CLASSES + 1), "boxes": len(_SSD_SIDES) * 4},
        lambda: SSDCriterion(NUM_CLASSES + 1, anchors=_ssd_anchors()),
        lambda maps: ([maps["classes"]], [maps["boxes"]]),
        _ssd_boxes,
        background=True,
    ),
}
