"""The functions and modules of ``losses``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from loss_cases import BINS, CLASSES, EVERY_LOSS, Case, sparse
from reference import boxes as box_loops
from reference import boxes3d as box3d_loops
from reference import keypoints as keypoint_loops
from reference import loss_terms as loops
from torch import Tensor, nn

import losses
from ragged import RaggedBatch
from registry.entries import (
    SIZES,
    SLOTS,
    Elsewhere,
    Operation,
    boxes,
    data,
    integers,
    labels,
    per_row,
    scores,
    uniform,
    wrapped,
)


def of_classes(loop: Callable[..., float], **options: Any) -> Callable[..., Tensor]:
    """A loss of each class, from labels and scores."""

    def reference(logits: Tensor, label: Tensor, score: Tensor) -> Tensor:
        return loops.of_labels(
            lambda x, t, positive: loop(x, t, *(positive,) * takes_flag, **options), logits, label, score
        )

    takes_flag = loop in (loops.varifocal, loops.matchability_aware, loops.iou_aware)
    return reference


SIGMOID_LOOPS = {
    "binary_cross_entropy": loops.bce,
    "sigmoid_focal_loss": loops.focal,
    "quality_focal_loss": loops.quality_focal,
    "varifocal_loss": loops.varifocal,
    "matchability_aware_loss": loops.matchability_aware,
    "iou_aware_binary_cross_entropy": loops.iou_aware,
}


def loop_of(case: Case) -> Callable[..., Tensor] | None:
    """The loop for a case, in the order of its arguments."""
    name, options = case.function.__name__, dict(case.options)
    if case.make is sparse:
        options.pop("detach_weights", None)
        return of_classes(SIGMOID_LOOPS[name], **options)
    if case.options or "class_weights" in case.make((1,), 0)[1]:
        return None
    if name in ("l1_loss", "smooth_l1_loss"):
        beta = {"l1_loss": 0.0, "smooth_l1_loss": 1.0}[name]
        return lambda *pairs: loops.of_elements(lambda x, t: smooth(x, t, beta), *pairs)
    of_pairs = {
        f"{kind}_loss": lambda a, b, kind=kind: 1 - getattr(box_loops, kind)(a, b)
        for kind in ("iou", "giou", "diou", "ciou")
    }
    of_logits = {
        "sigmoid_focal_cost": lambda row, label: loops.focal_cost(row[label]),
        "cross_entropy": loops.cross_entropy,
        "softmax_focal_loss": loops.softmax_focal,
        "negative_probability": loops.negative_probability,
        "distribution_focal_loss": loops.distribution_focal,
        "fine_grained_localization_loss": loops.fine_grained,
        "decoupled_distillation_loss": loops.distillation,
        "oks_loss": keypoint_loops.pose_loss,
        "keypoint_l1_loss": keypoint_loops.l1,
        "box3d_l1_loss": box3d_loops.l1_loss,
    }
    found = (of_pairs | of_logits).get(name)
    return None if found is None else per_row(found)


def smooth(x: float, t: float, beta: float) -> float:
    return loops.smooth_l1(x, t, beta=beta) if beta else abs(x - t)


def operation_of(case: Case) -> Operation:
    """A case of ``loss_cases`` on ragged rows: its inputs, then its constants."""
    inputs, constants = case.make((len(SIZES), SLOTS), 20)
    names = [name for name in constants if name != "class_weights"]
    shared = [name for name in constants if name == "class_weights"]
    values = [*inputs, *(constants[name] for name in names)]
    values = [value.float() if value.is_floating_point() else value for value in values]

    def call(*given: Tensor) -> Tensor:
        return case(*given[: len(inputs)], **dict(zip([*names, *shared], given[len(inputs) :], strict=True)))

    cut = {"gradients": "a part of it is a constant for the gradient, as its docstring says"}
    loop = loop_of(case)
    return Operation(
        call,
        lambda: tuple(wrapped(value.clone()) for value in values),
        shared=tuple(constants[name].float() for name in shared),
        constants=tuple(range(len(inputs), len(values))),
        reference=loop,
        is_loop=loop is not None,
        without=cut if case.cut else {},
    )


def of_every_loss() -> dict[str, Operation]:
    """The first case of each function under its name, all others as variants."""
    found: dict[str, Operation] = {}
    for parameter in EVERY_LOSS:
        case, name = parameter.values[0], parameter.values[0].function.__name__
        found[name if name not in found else str(parameter.id)] = operation_of(case)
    return found


def of_boxes(module: nn.Module, function: Callable[..., Tensor]) -> Operation:
    return Operation(
        module,
        lambda: (boxes(), boxes(1)),
        reference=function,
        without={"gradients": "as ciou"} if isinstance(module, losses.CIoULoss) else {},
    )


def of_labels(module: nn.Module, function: Callable[..., Tensor], **options: Any) -> Operation:
    return Operation(
        module, lambda: (scores(CLASSES), labels(CLASSES)), reference=lambda x, y: function(x, y), **options
    )


def several(pred: Tensor, target: Tensor) -> Tensor:
    return 5 * (pred - target).abs().sum(-1) + 2 * losses.giou_loss(pred, target)


def mined_loss(logits: RaggedBatch, label: RaggedBatch) -> Tensor:
    module = losses.HardMiningCrossEntropyLoss(2.0)
    return module(logits.with_padded_set_to(0).tensor, label.with_padded_set_to(-1).tensor)


def mined(loss: RaggedBatch, positive: RaggedBatch) -> RaggedBatch:
    known = positive.with_padded_set_to(False).tensor
    chosen = losses.hard_negative_mining(loss.tensor, known, ratio=1.0, negative=~known & loss.mask)
    return loss.create_with_sample_sizes_like_self(chosen)


def mined_sample(loss: Tensor, positive: Tensor) -> Tensor:
    return torch.tensor(loops.mined(loss.tolist(), positive.long().tolist(), ratio=1.0), dtype=torch.bool)


def mined_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    log_p = logits.log_softmax(0)
    chosen = (label > 0) | mined_of(-log_p[0].detach(), label > 0)
    return (-log_p.gather(0, label.unsqueeze(0))[0] * chosen).sum()


def mined_of(loss: Tensor, positive: Tensor) -> Tensor:
    return torch.tensor(loops.mined(loss.tolist(), positive.long().tolist(), ratio=2.0), dtype=torch.bool)


OF_MODULES: dict[str, Operation | Elsewhere] = {
    "LossModule": Elsewhere("tests/losses/test_loss_traits.py", "is an abstract class"),
    "IoULoss": of_boxes(losses.IoULoss(), losses.iou_loss),
    "GIoULoss": of_boxes(losses.GIoULoss(), losses.giou_loss),
    "DIoULoss": of_boxes(losses.DIoULoss(), losses.diou_loss),
    "CIoULoss": of_boxes(losses.CIoULoss(), losses.ciou_loss),
    "L1Loss": of_boxes(losses.L1Loss(), lambda a, b: (a - b).abs()),
    "BinaryCrossEntropy": of_labels(losses.BinaryCrossEntropy(), losses.binary_cross_entropy),
    "QualityFocalLoss": of_labels(losses.QualityFocalLoss(), losses.quality_focal_loss),
    "FocalLoss": of_labels(losses.FocalLoss(), losses.sigmoid_focal_loss),
    "VarifocalLoss": of_labels(
        losses.VarifocalLoss(),
        losses.varifocal_loss,
        without={"gradients": "its weights are constants for the gradient, as in RT-DETR"},
    ),
    "MatchabilityAwareLoss": of_labels(
        losses.MatchabilityAwareLoss(),
        losses.matchability_aware_loss,
        without={"gradients": "its weights are constants for the gradient, as in the paper"},
    ),
    "IoUAwareBinaryCrossEntropy": of_labels(
        losses.IoUAwareBinaryCrossEntropy(),
        losses.iou_aware_binary_cross_entropy,
        without={"gradients": "its targets are constants for the gradient, as published"},
    ),
    "WeightedClasses": Elsewhere("tests/losses/test_query_systems.py", "holds a tensor of weights"),
    "CrossEntropy": of_labels(losses.CrossEntropy(eos_coef=1.0), losses.cross_entropy),
    "NegativeProbLoss": of_labels(losses.NegativeProbLoss(), losses.negative_probability),
    "SigmoidFocalCost": of_labels(losses.SigmoidFocalCost(alpha=0.25), losses.sigmoid_focal_cost),
    "SigmoidFocalLoss": of_labels(
        losses.SigmoidFocalLoss(alpha=0.25), lambda x, y: losses.sigmoid_focal_loss(x, y).sum(-1)
    ),
    "MultipleObjectiveLoss": of_boxes(
        losses.MultipleObjectiveLoss([nn.L1Loss(reduction="none"), losses.GIoULoss()], [5.0, 2.0]), several
    ),
    "HardMiningCrossEntropyLoss": Operation(
        mined_loss,
        lambda: (wrapped(uniform(3, CLASSES, SLOTS) * 4, axis=1), wrapped(integers(2, 3, SLOTS, seed=1))),
        reference=mined_cross_entropy,
    ),
}

OF_OTHERS = {
    "centerness": Operation(
        losses.centerness, lambda: (data(4),), reference=per_row(lambda d: loops.centerness(*d)), is_loop=True
    ),
    "centerness_of_points": Operation(
        losses.centerness_of_points,
        lambda: (wrapped(uniform(3, SLOTS, 2) * 4), boxes()),
        reference=per_row(lambda p, b: loops.centerness(p[0] - b[0], p[1] - b[1], b[2] - p[0], b[3] - p[1])),
        is_loop=True,
    ),
    "hard_negative_mining": Operation(
        mined, lambda: (data(), wrapped(integers(3, 3, SLOTS, seed=2) == 0)), reference=mined_sample
    ),
    "total": Operation(
        lambda a, b: losses.total({"a": a, "b": b}), lambda: (uniform(3), uniform(3, seed=1)), reference=torch.add
    ),
    "total[ragged]": Operation(
        lambda a, b: losses.total({"a": a, "b": b}), lambda: (data(), data(seed=1)), reference=torch.add
    ),
    "detached": Operation(
        lambda a: losses.detached({"a": a * 2}), lambda: (data(),), reference=lambda a: {"a": a.detach() * 2}
    ),
    "clip_to_canvas": Operation(
        losses.clip_to_canvas,
        lambda: (boxes(), uniform(3, 2) * 8),
        reference=lambda b, size: torch.minimum(b.clamp(min=0), size.flip(-1).repeat(2)),
    ),
    "integral": Operation(
        losses.integral, lambda: (scores(BINS),), reference=lambda x: (x.softmax(-1) * torch.arange(BINS)).sum(-1)
    ),
}

PACKAGE = "losses"
ENTRIES: dict[str, Operation | Elsewhere] = {
    **of_every_loss(),
    **OF_MODULES,
    **OF_OTHERS,
}
