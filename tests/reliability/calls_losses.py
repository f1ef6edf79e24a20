"""A valid call of everything public in ``losses``; criteria have theirs in ``cases.criteria``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from cases import CRITERIA, EVERY_CRITERION
from cases.common import given
from cases.finding import joined
from reliability.arguments import assignment, boxes, keypoints, labels, posed, targets
from reliability.call import Call, call, made, method
from torch import Tensor

import losses
from losses import AssignedTargets, DecoderOutputs, DensePredictions, Positives, Vec2Box
from matchers import grid_points

POINTS = grid_points((16, 16), [4])[:3]
BOXES = boxes(3)
LOGITS = torch.linspace(-3, 3, 15).reshape(3, 5)
LABELS = torch.tensor([1, 0, 4])
SCORES = torch.tensor([0.2, 0.5, 1.0])
BINS = torch.linspace(-3, 3, 3 * 4 * 8).reshape(3, 4, 8)
IN_BINS = torch.linspace(0, 6, 12).reshape(3, 4)
_PER_CLASS: dict[str, dict[str, float]] = {
    "binary_cross_entropy": {},
    "iou_aware_binary_cross_entropy": {"alpha": 0.25, "gamma": 2.0, "lowest": 0.01},
    "matchability_aware_loss": {"gamma": 1.5},
    "quality_focal_loss": {"beta": 2.0},
    "sigmoid_focal_loss": {"alpha": 0.25, "gamma": 2.0},
    "varifocal_loss": {"alpha": 0.75, "gamma": 2.0},
}
_MODULES = {
    "BinaryCrossEntropy": {},
    "FocalLoss": {"alpha": 0.25, "gamma": 2.0},
    "IoUAwareBinaryCrossEntropy": {"alpha": 0.25, "gamma": 2.0, "lowest": 0.01},
    "MatchabilityAwareLoss": {"gamma": 1.5},
    "QualityFocalLoss": {"beta": 2.0},
    "VarifocalLoss": {"alpha": 0.75, "gamma": 2.0},
}
_OF_LABELS: dict[str, dict[str, Any]] = {
    "CrossEntropy": {"eos_coef": 0.1, "weight": None},
    "NegativeProbLoss": {},
    "SigmoidFocalCost": {"alpha": 0.25, "gamma": 2.0},
    "SigmoidFocalLoss": {"alpha": 0.25, "gamma": 2.0},
}
_BOX_MODULES: dict[str, dict[str, Any]] = {
    "CIoULoss": {"detach_trade_off": True},
    "DIoULoss": {},
    "GIoULoss": {},
    "IoULoss": {"mode": "log", "eps": 1e-6},
    "L1Loss": {},
}
_BOX_LOSSES: dict[str, dict[str, Any]] = {
    "ciou_loss": {"detach_trade_off": True},
    "diou_loss": {},
    "giou_loss": {},
    "iou_loss": {"mode": "log", "eps": 1e-6},
    "l1_loss": {},
    "smooth_l1_loss": {"beta": 1.0},
}
_CODERS: dict[str, dict[str, Any]] = {
    "CenterLogSizeCoder": {},
    "DeltaXYWHCoder": {"means": (0.0,) * 4, "stds": (0.1, 0.1, 0.2, 0.2), "wh_ratio_clip": 0.1},
    "DistanceCoder": {"scale_by_stride": True, "max_distance": 8.0},
    "SSDCoder": {"scale_xy": 0.1, "scale_wh": 0.2},
    "DistributionCoder": {"reg_max": 8, "margin": 0.01},
}
_REDUCED = {"reduction": "none", "loss_weight": 2.0}


def _coder(name: str) -> dict[str, Callable[[], Call]]:
    kind, init = getattr(losses, name), _CODERS[name]
    given = BINS if name == "DistributionCoder" else IN_BINS
    return {
        f"{name}.encode": lambda: method(kind, init, "encode", POINTS, BOXES),
        f"{name}.decode": lambda: method(kind, init, "decode", POINTS, given, canvas_size=(16.0, 16.0)),
        f"{name}.decode(sizes)": lambda: method(kind, init, "decode", POINTS, given, canvas_size=torch.ones(2)),
    }


def decoder_outputs() -> Any:
    return given(EVERY_CRITERION["detr"])[0]


def _steps(case: str) -> dict[str, Callable[[], Call]]:
    """The whole of a criterion that is made already, and its steps."""
    own = EVERY_CRITERION[case]
    kept = own.make()

    @cache
    def assignment() -> Any:
        return kept.assign(*given(own))

    return {
        f"{case}": lambda: call(kept, *given(own)),
        f"{case}.assign": lambda: call(kept.assign, *given(own)),
        f"{case}.loss": lambda: call(kept.loss, *given(own), assignment()),
        f"{case}.counts": lambda: call(kept.counts, *given(own), assignment()),
    }


def of_public_class(case: str) -> bool:
    """Whether a case is of a class that is not made for the tests."""
    return type(EVERY_CRITERION[case].make()).__name__ in losses.__all__


@cache
def maps() -> list[Tensor]:
    return [torch.zeros(2, 5, 4, 4), torch.zeros(2, 5, 2, 2)]


def levels() -> list[list[Tensor]]:
    return [[torch.zeros(1, 3, n, n), torch.zeros(1, 5, 4, n, n), torch.ones(1, 4, n, n)] for n in (2, 1)]


def assigned() -> AssignedTargets:
    return AssignedTargets.of(targets(), assignment())


def _multiple(losses_of: Any, weights: Any) -> dict[str, Any]:
    return {"losses": losses_of, "weights": weights}


CALLS: dict[str, Callable[[], Call]] = {
    **joined(CRITERIA, "CALLS"),
    **{name: make for case in EVERY_CRITERION if of_public_class(case) for name, make in _steps(case).items()},
    **{
        name: lambda name=name: call(getattr(losses, name), LOGITS, LABELS, scores=SCORES, **_PER_CLASS[name])
        for name in _PER_CLASS
    },
    **{
        f"{name}(dense)": lambda name=name: call(getattr(losses, name), LOGITS, LOGITS.sigmoid()) for name in _PER_CLASS
    },
    **{
        name: lambda name=name: made(getattr(losses, name), _MODULES[name] | _REDUCED, LOGITS, LABELS, scores=SCORES)
        for name in _MODULES
    },
    **{
        name: lambda name=name: made(getattr(losses, name), _OF_LABELS[name] | _REDUCED, LOGITS, LABELS)
        for name in _OF_LABELS
    },
    **{
        name: lambda name=name: made(getattr(losses, name), _BOX_MODULES[name] | _REDUCED, BOXES, BOXES + 1)
        for name in _BOX_MODULES
    },
    **{
        name: lambda name=name: call(getattr(losses, name), BOXES, BOXES + 1, **_BOX_LOSSES[name])
        for name in _BOX_LOSSES
    },
    **{name: make for coder in _CODERS for name, make in _coder(coder).items()},
    "AssignedTargets.of": lambda: call(
        AssignedTargets.of, targets(), assignment(), box_format="cxcywh", normalized=True, num_classes=4
    ),
    "AssignedTargets.from_dense": lambda: call(
        AssignedTargets.from_dense,
        labels().tensor,
        boxes(3, 2),
        num_classes=3,
        quality=torch.ones(3, 2),
        weights=torch.ones(3, 2),
    ),
    "DecoderOutputs.of": lambda: call(DecoderOutputs.of, decoder_outputs(), num_classes=5),
    "DensePredictions": lambda: call(
        DensePredictions, torch.zeros(2, 3, 5), torch.zeros(2, 3, 4), POINTS, torch.zeros(2, 3), (3,)
    ),
    "HardMiningCrossEntropyLoss": lambda: made(
        losses.HardMiningCrossEntropyLoss,
        {"neg_pos_ratio": 3.0, "negatives_without_positives": 1.0},
        torch.zeros(2, 3, 6),
        torch.tensor([[0, 1, 2, 0, 0, -1]] * 2),
    ),
    "WeightedClasses": lambda: made(
        losses.WeightedClasses, {"loss": losses.FocalLoss(), "weight": torch.ones(5)}, LOGITS, LABELS
    ),
    # Of our own modules: those of torch have errors of their own.
    "MultipleObjectiveLoss": lambda: made(
        losses.MultipleObjectiveLoss,
        _multiple([losses.L1Loss(), losses.GIoULoss()], [5.0, 2.0]),
        BOXES,
        BOXES,
    ),
    "MultipleObjectiveLoss(names)": lambda: made(
        losses.MultipleObjectiveLoss, _multiple({"a": losses.GIoULoss()}, {"a": 2.0}), BOXES, BOXES
    ),
    "Normalizer": lambda: made(losses.Normalizer, {"distributed": False, "minimum": 1.0}, [torch.tensor(3), 0.5]),
    "Normalizer(count)": lambda: made(losses.Normalizer, {}, torch.ones(2), global_count=torch.ones(2)),
    "Normalizer.total": lambda: method(losses.Normalizer, {}, "total", torch.tensor(3.0)),
    "Positives.of": lambda: call(Positives.of, assignment()),
    "Vec2Box": lambda: made(Vec2Box, {"image_size": (16, 16), "strides": (8, 16)}, levels()),
    "Vec2Box.flatten": lambda: method(Vec2Box, {"image_size": (16, 16), "strides": (8, 16)}, "flatten", levels()),
    "Vec2Box.points": lambda: method(Vec2Box, {"image_size": (16, 16)}, "points", torch.zeros(1)),
    "bbox2distance": lambda: call(losses.bbox2distance, BOXES, BOXES + 1, reg_max=8, reg_scale=4.0, up=0.5),
    "oks_loss": lambda: call(losses.oks_loss, keypoints(3, 2), posed(), torch.ones(3, 2), sigmas=(0.1, 0.2, 0.3)),
    "keypoint_l1_loss": lambda: call(losses.keypoint_l1_loss, keypoints(3, 2), posed()),
    "OKSLoss": lambda: made(
        losses.OKSLoss, {"sigmas": (0.1, 0.2, 0.3)} | _REDUCED, keypoints(3, 2), posed(), torch.ones(3, 2)
    ),
    "box3d_l1_loss": lambda: call(losses.box3d_l1_loss, BOXES, BOXES + 1, code_weights=(2.0, 1.0, 1.0, 0.2)),
    "Box3DL1Loss": lambda: made(
        losses.Box3DL1Loss, {"code_weights": (2.0, 1.0, 1.0, 0.2)} | _REDUCED, BOXES, BOXES + 1
    ),
    "Box3DCoder.encode": lambda: method(losses.Box3DCoder, {}, "encode", torch.ones(3, 9)),
    "Box3DCoder.decode": lambda: method(losses.Box3DCoder, {}, "decode", torch.ones(3, 10)),
    "centerness": lambda: call(losses.centerness, IN_BINS),
    "centerness_of_points": lambda: call(losses.centerness_of_points, POINTS[:, :2], BOXES),
    "clip_to_canvas": lambda: call(losses.clip_to_canvas, BOXES, (6.0, 4.0)),
    "clip_to_canvas(sizes)": lambda: call(losses.clip_to_canvas, boxes(3, 2), torch.ones(3, 2)),
    "cross_entropy": lambda: call(losses.cross_entropy, LOGITS, LABELS, class_weights=torch.ones(5), ignored_label=-1),
    "decoupled_distillation_loss": lambda: call(
        losses.decoupled_distillation_loss, LOGITS, LOGITS + 1, temperature=5.0
    ),
    "detached": lambda: call(losses.detached, {"a": torch.ones(()), "b": torch.ones(())}),
    "distance2bbox": lambda: call(losses.distance2bbox, BOXES, IN_BINS, reg_scale=4.0),
    "distance2bbox(tensor)": lambda: call(losses.distance2bbox, BOXES, IN_BINS, reg_scale=torch.tensor([4.0])),
    "distribution_focal_loss": lambda: call(losses.distribution_focal_loss, BINS, IN_BINS),
    "fine_grained_localization_loss": lambda: call(
        losses.fine_grained_localization_loss,
        BINS,
        IN_BINS.long(),
        weight_left=torch.ones(3, 4),
        weight_right=torch.ones(3, 4),
        quality=SCORES.unsqueeze(-1),
    ),
    "flatten_levels": lambda: call(losses.flatten_levels, maps(), channels=5, name="scores", num_per_cell=1),
    "hard_negative_mining": lambda: call(
        losses.hard_negative_mining,
        torch.rand(2, 4),
        torch.tensor([[True, False, False, False]] * 2),
        ratio=2.0,
        negative=torch.ones(2, 4, dtype=torch.bool),
        negatives_without_positives=1.0,
    ),
    "image_size_of": lambda: call(losses.image_size_of, maps(), (4, 8)),
    "integral": lambda: call(losses.integral, BINS, torch.arange(8.0)),
    "negative_probability": lambda: call(losses.negative_probability, LOGITS, LABELS),
    "sigmoid_focal_cost": lambda: call(losses.sigmoid_focal_cost, LOGITS, LABELS, alpha=0.25, gamma=2.0),
    "softmax_focal_loss": lambda: call(
        losses.softmax_focal_loss, LOGITS, LABELS, gamma=2.0, class_weights=torch.ones(5), ignored_label=-1
    ),
    "total": lambda: call(losses.total, {"a": torch.ones(()), "b": torch.ones(())}),
    "weighting_function": lambda: call(losses.weighting_function, 8, 0.5, 4.0),
    "weighting_function(tensors)": lambda: call(losses.weighting_function, 8, torch.tensor([0.5]), torch.tensor([4.0])),
}
