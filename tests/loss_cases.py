"""Every unreduced loss, with inputs and constants for it: what the tests of their common contract run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from losses.functional import boxes, boxes3d, distribution, iou_aware, keypoints, sigmoid, softmax
from matchers.testing import make_boxes

CLASSES = 5
BINS = 6


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Case:
    """A loss, with its hyper-parameters, of inputs that differentiate and of inputs that are constants."""

    function: Callable[..., Tensor]
    options: dict[str, Any]
    make: Callable[[tuple[int, ...], int], tuple[tuple[Tensor, ...], dict[str, Tensor]]]
    elementwise: bool = False  # a loss for each element of the input, not for each row
    cut: bool = False  # has a part that is a constant for the gradient, so that finite differences do not agree

    def __call__(self, *inputs: Tensor, **constants: Tensor) -> Tensor:
        return self.function(*inputs, **constants, **self.options)


def logits(shape: tuple[int, ...], seed: int, last: int = CLASSES) -> Tensor:
    return torch.randn(*shape, last, generator=generator(seed), dtype=torch.float64) * 3


def uniform(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def labels(shape: tuple[int, ...], seed: int, low: int = 0) -> Tensor:
    return torch.randint(low, CLASSES, shape, generator=generator(seed + 100))


def dense(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    targets = uniform((*shape, CLASSES), seed + 1)
    return (logits(shape, seed),), {"targets": targets.where(targets > 0.5, 0)}


def sparse(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    constants = {"targets": labels(shape, seed, low=-1), "scores": uniform(shape, seed + 1)}
    return (logits(shape, seed),), constants


def labelled(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return (logits(shape, seed),), {"labels": labels(shape, seed)}


def weighted(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    constants = {"labels": labels(shape, seed, low=-1), "class_weights": uniform((CLASSES,), seed + 2)}
    return (logits(shape, seed),), constants


def box_pairs(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    count = torch.Size(shape).numel()
    first = make_boxes(count, generator(seed)).double() / 10
    second = first + torch.rand(count, 4, generator=generator(seed + 1)).double()
    return (first.reshape(*shape, 4), second.reshape(*shape, 4)), {}


def binned(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return (logits(shape, seed, BINS),), {"distances": uniform(shape, seed + 1) * (BINS + 1) - 1}


def graded(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    names = ("weight_left", "weight_right", "quality")
    constants = {name: uniform(shape, seed + k) for k, name in enumerate(names)}
    left = torch.randint(BINS - 1, shape, generator=generator(seed + 9))
    return (logits(shape, seed, BINS),), {"left": left, **constants}


def taught(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return (logits(shape, seed, BINS),), {"teacher": logits(shape, seed + 1, BINS)}


def posed(shape: tuple[int, ...], seed: int, number: int = 17) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Keypoints near those of targets, of which the first is visible."""
    places = uniform((*shape, number, 2), seed)
    visible = torch.randint(3, (*shape, number, 1), generator=generator(seed + 1)).double()
    visible[..., 0, :] = 2
    found = places + logits((*shape, number), seed + 2, 2) / 100
    return (found,), {"target": torch.cat([places, visible], -1), "area": uniform(shape, seed + 3) / 2 + 0.1}


def posed_3(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return posed(shape, seed, 3)


def places_of(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    inputs, constants = posed(shape, seed)
    return inputs, {"target": constants["target"]}


def coded(shape: tuple[int, ...], seed: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    return (logits(shape, seed, 10),), {"target": logits(shape, seed + 1, 10)}


def case(function: Callable[..., Tensor], make: Any, **options: Any) -> Any:
    flags = {name: options.pop(name) for name in ("elementwise", "cut") if name in options}
    described = ",".join([make.__name__, *(f"{name}={value}" for name, value in options.items())])
    return pytest.param(Case(function, options, make, **flags), id=f"{function.__name__}[{described}]")


PER_CLASS = [
    case(function, form, elementwise=True, **options)
    for form in (dense, sparse)
    for function, options in (
        (sigmoid.binary_cross_entropy, {}),
        (sigmoid.sigmoid_focal_loss, {}),
        (sigmoid.sigmoid_focal_loss, {"alpha": None, "gamma": 1.5}),
        (sigmoid.sigmoid_focal_loss, {"alpha": 0.4, "gamma": 0}),
        (sigmoid.sigmoid_focal_loss, {"alpha": 1.0, "gamma": 0.5}),
        (sigmoid.quality_focal_loss, {}),
        (sigmoid.quality_focal_loss, {"beta": 1.5}),
        (sigmoid.varifocal_loss, {"cut": True}),
        (sigmoid.varifocal_loss, {"alpha": 0.2, "gamma": 0.5, "detach_weights": False}),
        (sigmoid.varifocal_loss, {"detach_weights": False}),
        (sigmoid.matchability_aware_loss, {"cut": True}),
        (iou_aware.iou_aware_binary_cross_entropy, {"cut": True}),
        (sigmoid.matchability_aware_loss, {"detach_weights": False}),
    )
]
OTHERS = [
    case(sigmoid.sigmoid_focal_cost, labelled),
    case(sigmoid.sigmoid_focal_cost, labelled, alpha=None, gamma=0.5),
    case(softmax.cross_entropy, labelled),
    case(softmax.cross_entropy, weighted, ignored_label=-1),
    case(softmax.softmax_focal_loss, labelled),
    case(softmax.softmax_focal_loss, labelled, gamma=0.5),
    case(softmax.softmax_focal_loss, weighted, gamma=1.5, ignored_label=-1),
    case(softmax.negative_probability, labelled),
    case(boxes.iou_loss, box_pairs),
    case(boxes.iou_loss, box_pairs, mode="square"),
    case(boxes.iou_loss, box_pairs, mode="log"),
    case(boxes.giou_loss, box_pairs),
    case(boxes.diou_loss, box_pairs),
    case(boxes.ciou_loss, box_pairs, cut=True),
    case(boxes.ciou_loss, box_pairs, detach_trade_off=False),
    case(boxes.l1_loss, box_pairs, elementwise=True),
    case(boxes.smooth_l1_loss, box_pairs, elementwise=True),
    case(boxes.smooth_l1_loss, box_pairs, elementwise=True, beta=0.1),
    case(distribution.distribution_focal_loss, binned),
    case(distribution.fine_grained_localization_loss, graded),
    case(distribution.decoupled_distillation_loss, taught),
    case(distribution.decoupled_distillation_loss, taught, temperature=1.0),
    case(keypoints.oks_loss, posed),
    case(keypoints.oks_loss, posed_3, sigmas=(0.3, 0.05, 0.1)),
    case(keypoints.keypoint_l1_loss, places_of),
    case(boxes3d.box3d_l1_loss, coded),
    case(boxes3d.box3d_l1_loss, coded, code_weights=(2.0, 2.0, 1, 1, 1, 1, 1, 1, 0.2, 0.0)),
]
EVERY_LOSS = [*PER_CLASS, *OTHERS]


def gradients(loss: Case, inputs: tuple[Tensor, ...], constants: dict[str, Tensor]) -> tuple[Tensor, ...]:
    leaves = tuple(each.detach().clone().requires_grad_() for each in inputs)
    return torch.autograd.grad(loss(*leaves, **constants).sum(), leaves)
