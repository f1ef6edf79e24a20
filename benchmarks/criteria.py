"""The criteria, from lists of ground truth to gradients, beside the systems that people use today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import criterion_scenes as scenes
from benchmarks.contest import Case, Options, Run, contest, packages, table
from benchmarks.criterion_scenes import CriterionScene
from benchmarks.scenes import CANVAS, NUM_CLASSES, STRIDES, Size
from losses import (
    ATSSCriterion,
    DetectionLoss,
    DetrCriterion,
    DFINECriterion,
    GIoULoss,
    L1Loss,
    MultipleObjectiveLoss,
    NegativeProbLoss,
    RTMDetCriterion,
    SSDCriterion,
    SSDLoss,
    Vec2Box,
    YOLOv8Criterion,
    YOLOv9Criterion,
    YOLOv10Criterion,
    YOLOXCriterion,
    total,
)
from matchers import (
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    Hungarian,
    SoftMin,
    Targets,
    UnbalancedSinkhorn,
    WeightedSum,
    anchors,
    ssd_default_boxes,
)

DESCRIPTION = """Milliseconds from lists of ground truth to gradients, forward and backward, and by how many megabytes
the memory of a process grows at its peak. Images of 640 × 640 pixels, 80 classes; sizes as for the matchers, dense
heads with 8,400 to 8,732 predictions, those of detection transformers with 300 queries (D-FINE: four layers, denoising
queries, and an encoder). The counterparts are given the same outputs and ground truth.
"""
SIZES: tuple[str, ...] = ("single", "small", "medium", "large", "skewed")
_DETR = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
_FINE = _DETR | {"loss_fgl": 0.15, "loss_ddf": 1.5}


def gradients_of(loss: Callable[[], Tensor], leaves: list[Tensor]) -> Run:
    """A function that computes a loss and its gradients."""

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        loss().backward()

    return run


Scene = Callable[[Size], CriterionScene]


@dataclass(frozen=True)
class CriterionCase(Case):
    """A criterion, made once, and all that is measured of it: here alone is it listed.

    Args:
        make: Makes it for images of some side, in pixels.
        criterion: Gives the one for images of ``CANVAS``.
        layout: Of its ground truth.
        compiled: Whether it is measured with ``torch.compile``.
        grows: Its curves in ``benchmarks.growth``, or None.
        grows_in: The input there, if it is another one.
    """

    make: Callable[[int], nn.Module]
    criterion: Callable[[], nn.Module]
    layout: str
    compiled: bool = False
    grows: str | None = None
    grows_in: Scene | None = None

    def loss(self, output: Any, targets: Any) -> Tensor:
        """All terms together."""
        return as_tensor(self.criterion()(output, targets))

    def at(self, canvas: int) -> CriterionCase:
        """The same for images of another side."""
        return criterion_case(self.make, self.scene, self.layout, canvas=canvas)


def criterion_case(
    make: Callable[[int], nn.Module], scene: Scene, layout: str = "pixels", *, canvas: int = CANVAS, **more: Any
) -> CriterionCase:
    """What is measured of a criterion: from lists of ground truth to gradients."""
    criterion = cache(partial(make, canvas))

    def run(given: CriterionScene) -> Run:
        return gradients_of(lambda: as_tensor(criterion()(given.output, ground_truth(given, layout))), given.leaves)

    return CriterionCase(run, scene, make, criterion, layout, **more)


def ground_truth(scene: CriterionScene, layout: str) -> Any:
    """Ground truth, in the form that the criterion's users have it in."""
    if layout == "fractions":
        return [{"boxes": box, "labels": label} for box, label in zip(scene.fractions, scene.labels, strict=True)]
    if layout == "rows":
        return torch.cat(
            [
                torch.cat([torch.full((len(box), 1), float(image)), label.unsqueeze(1).float(), box], 1)
                for image, (box, label) in enumerate(zip(scene.fractions, scene.labels, strict=True))
            ]
        )
    if layout == "corners":  # labels from 1, 0 being the background
        boxes = [box / scene.truth.canvas for box in scene.boxes]
        return Targets.of((boxes, [label + 1 for label in scene.labels]))
    return Targets.of((scene.boxes, scene.labels), canvas_size=(scene.truth.canvas, scene.truth.canvas))


def as_tensor(result: Any) -> Tensor:
    """What to differentiate of what a criterion returns."""
    if isinstance(result, dict):
        return total(result)
    return result[0] if isinstance(result, tuple) else result


def _ssd_anchors() -> Tensor:
    sides = {16: (45.0, 115.0, 200.0, 215.0), 32: (350.0, 385.0, 480.0, 560.0, 640.0)}
    levels = [anchors((CANVAS, CANVAS), [stride], base_sizes=[1.0], scales=sides[stride]) for stride in sides]
    return torch.cat(levels)


def _default_boxes() -> Tensor:
    maps = [(side, side) for side in (38, 19, 10, 5, 3, 1)]
    ratios = [(2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,)]
    return ssd_default_boxes(maps, (300, 300), sizes=(21, 45, 99, 153, 207, 261, 315), aspect_ratios=ratios)


def _detection(matcher: Callable[..., nn.Module], *, own_cost: bool = False, **options: Any) -> CriterionCase:
    def make(_: int) -> DetectionLoss:
        boxes = MultipleObjectiveLoss([L1Loss(), GIoULoss()], [5.0, 2.0])
        if own_cost:  # as DETR's: classes and boxes
            cost: dict[str, Any] = {"cls_match_module": NegativeProbLoss(), "loc_match_module": boxes}
        else:
            cost = {"loc_match_module": GIoULoss()}
        return DetectionLoss(nn.CrossEntropyLoss(reduction="none"), boxes, matcher(**cost, **options))

    return criterion_case(make, scenes.pair_outputs, "corners")


def _both(**cost: Any) -> WeightedSum:
    return WeightedSum([Hungarian(**cost), BalancedSinkhorn(background_cost=0.8, **cost)], **cost)


def _detr(layers: int, **more: Any) -> CriterionCase:
    scene = partial(scenes.set_outputs, layers=layers)
    return criterion_case(
        lambda _: DetrCriterion(_DETR, 0.75, 2.0, NUM_CLASSES), scene, "fractions", compiled=True, **more
    )


def _dfine(layers: int, **more: Any) -> CriterionCase:
    scene = partial(scenes.decoder_outputs, layers=layers)
    return criterion_case(lambda _: DFINECriterion(_FINE, 0.75, 2.0, NUM_CLASSES), scene, "fractions", **more)


CASES = {
    "DetrCriterion": _detr(1, grows="queries"),
    "DetrCriterion, 6 layers": _detr(6),
    "DFINECriterion": _dfine(scenes.LAYERS, compiled=True, grows="queries", grows_in=scenes.refined_outputs),
    "DFINECriterion, 1 layer": _dfine(1),
    "DFINECriterion, 6 layers": _dfine(6),
    "YOLOXCriterion": criterion_case(
        lambda _: YOLOXCriterion(NUM_CLASSES), scenes.yolox_maps, compiled=True, grows="grid points"
    ),
    "RTMDetCriterion": criterion_case(lambda _: RTMDetCriterion(NUM_CLASSES), scenes.rtmdet_maps, compiled=True),
    "YOLOv9Criterion": criterion_case(
        lambda canvas: YOLOv9Criterion(NUM_CLASSES, Vec2Box(image_size=(canvas, canvas), strides=STRIDES)),
        scenes.yolov9_maps,
        compiled=True,
        grows="grid points",
    ),
    "YOLOv8Criterion": criterion_case(lambda _: YOLOv8Criterion(NUM_CLASSES), scenes.yolov8_head, compiled=True),
    "YOLOv10Criterion, YOLO26": criterion_case(lambda _: YOLOv10Criterion(NUM_CLASSES, reg_max=1), scenes.yolo26_heads),
    "ATSSCriterion": criterion_case(
        lambda _: ATSSCriterion(NUM_CLASSES), scenes.atss_maps, compiled=True, grows="grid points"
    ),
    "SSDCriterion": criterion_case(
        lambda _: SSDCriterion(NUM_CLASSES + 1, anchors=_ssd_anchors()), scenes.ssd_maps, compiled=True
    ),
    "SSDLoss": criterion_case(lambda _: SSDLoss(_default_boxes()), scenes.default_box_outputs, "rows"),
    "DetectionLoss, Hungarian": _detection(Hungarian, own_cost=True),
    "DetectionLoss, BalancedSinkhorn": _detection(BalancedSinkhorn, background_cost=0.8),
    "DetectionLoss, UnbalancedSinkhorn": _detection(UnbalancedSinkhorn, background_cost=0.8),
    "DetectionLoss, SoftMin": _detection(SoftMin, background_cost=0.8),
    "DetectionLoss, ClosestPrediction": _detection(ClosestPrediction, background_cost=0.8),
    "DetectionLoss, ClosestTarget": _detection(ClosestTarget, background_cost=0.8),
    "DetectionLoss, WeightedSum": _detection(_both),
}


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    rows = contest("benchmarks.criteria", CASES, SIZES, options)
    return f"{DESCRIPTION}\n{packages(options)}\n{table('criterion', rows)}"
