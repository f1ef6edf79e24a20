"""Checks of the arguments of cost functions of whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from matchers.geometry.boxes import check_boxes
from ragged.values.checks import (
    INTEGER_DTYPES,
    check_broadcast,
    check_is_tensor,
    check_same_device,
    check_values,
    check_weights,
)
from ragged.values.readable import known_within

_NOT_MULTI_HOT = "; of multi-hot labels there are sum_over_labels and the softmax, focal and binary class costs"


def check_values_of(values: Tensor, name: str, last: str, *, at_least: int = 1) -> None:
    """Raise unless this is a floating tensor with so many dimensions; ``last`` names them in the message."""
    check_is_tensor(values, name)
    if not values.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype, got {values.dtype}; convert with .float()")
    if values.dim() < at_least:
        raise ValueError(f"{name} must have shape {last}, got {tuple(values.shape)}")


def checked_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels ``(*batch, G)``, int64, that fit logits ``(*batch, P, C)``."""
    check_values_of(logits, "logits", "(*batch, P, C)", at_least=2)
    check_is_tensor(labels, "labels")
    if labels.dtype not in INTEGER_DTYPES:
        raise TypeError(f"labels must be integers, got {labels.dtype}{_NOT_MULTI_HOT if labels.dim() > 1 else ''}")
    if labels.dim() == 0 or labels.shape[:-1] != logits.shape[:-2]:
        raise ValueError(
            f"logits (*batch, P, C) and labels (*batch, G) must have the same *batch, "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    check_same_device(labels.device, logits.device, name="labels", reference="logits")
    labels, classes = labels.long(), logits.shape[-1]
    if not known_within(labels, 0, classes - 1):
        check_values(
            (labels >= 0) & (labels < classes),
            lambda at: f"labels must lie in 0 … {classes - 1}, got {int(labels[at])} at {at}",
            summary="a label is not below the number of classes",
        )
    return labels


def checked_multi_hot(labels: Tensor, values: Tensor) -> Tensor:
    """Multi-hot labels ``(*batch, G, C)``, bool or floating, that fit values ``(*batch, P, C)``."""
    check_is_tensor(labels, "labels")
    if labels.dtype != torch.bool and not labels.is_floating_point():
        raise TypeError(f"multi-hot labels must be boolean or floating, got {labels.dtype}")
    if labels.dim() < 2 or labels.shape[:-2] != values.shape[:-2] or labels.shape[-1] != values.shape[-1]:
        raise ValueError(
            f"values (*batch, P, C) and multi-hot labels (*batch, G, C) must have the same *batch and C, "
            f"got {tuple(values.shape)} and {tuple(labels.shape)}"
        )
    check_same_device(labels.device, values.device, name="labels", reference="values")
    if labels.is_floating_point() and not known_within(labels, 0, 1):
        check_values(
            (labels >= 0) & (labels <= 1),
            lambda at: f"multi-hot labels must lie in [0, 1], got {labels[at].item():g} at {at}",
            summary="a multi-hot label is not in [0, 1]",
        )
    return labels


def check_of_pairs(overlap: Tensor, shape: Sequence[int], logits: Tensor) -> None:
    """Raise unless this is a floating tensor ``(*batch, G, P)`` where the logits are."""
    check_values_of(overlap, "overlap", "(*batch, G, P)")
    if tuple(overlap.shape) != tuple(shape):
        raise ValueError(f"overlap must have shape (*batch, G, P) = {tuple(shape)}, got {tuple(overlap.shape)}")
    check_same_device(overlap.device, logits.device, name="overlap", reference="logits")


def check_objectness(objectness: Tensor | None, logits: Tensor) -> None:
    """Raise unless this is None, or floating and ``(*batch, P)`` where the logits ``(*batch, P, C)`` are."""
    if objectness is None:
        return
    check_values_of(objectness, "objectness", "(*batch, P)")
    if objectness.shape != logits.shape[:-1]:
        raise ValueError(
            f"objectness must have shape (*batch, P) = {tuple(logits.shape[:-1])}, got {tuple(objectness.shape)}"
        )
    check_same_device(objectness.device, logits.device, name="objectness", reference="logits")


def checked_boxes(gt_boxes: Tensor, boxes: Tensor) -> Tensor:
    """Boxes of targets ``(*batch, G, 4)``, beside others ``(*batch, P, 4)`` whose batch broadcasts."""
    for values, name in ((gt_boxes, "gt_boxes"), (boxes, "boxes")):
        check_boxes(values, name)
        if values.dim() < 2:
            raise ValueError(f"{name} must have shape (*batch, N, 4), got {tuple(values.shape)}")
    check_same_device(boxes.device, gt_boxes.device, name="boxes", reference="gt_boxes")
    check_broadcast(gt_boxes.shape[:-2], boxes.shape[:-2], "the batch dimensions of gt_boxes", "those of boxes")
    return gt_boxes


def checked_points(points: Tensor, gt_boxes: Tensor) -> Tensor:
    """Boxes of targets ``(*batch, G, 4)``, beside points ``(*batch, P, 2)`` whose batch broadcasts."""
    check_values_of(points, "points", "(*batch, P, 2)", at_least=2)
    if points.shape[-1] != 2:
        raise ValueError(f"points must have shape (*batch, P, 2), got {tuple(points.shape)}")
    check_boxes(gt_boxes, "gt_boxes")
    if gt_boxes.dim() < 2:
        raise ValueError(f"gt_boxes must have shape (*batch, G, 4), got {tuple(gt_boxes.shape)}")
    check_same_device(points.device, gt_boxes.device, name="points", reference="gt_boxes")
    check_broadcast(gt_boxes.shape[:-2], points.shape[:-2], "the batch dimensions of gt_boxes", "those of points")
    return gt_boxes


def check_radius(radius: Tensor, points: Tensor, gt_boxes: Tensor) -> None:
    """Raise unless this is a floating tensor ``(*batch, P)`` that fits points and boxes."""
    check_values_of(radius, "radius", "(*batch, P)")
    check_same_device(radius.device, points.device, name="radius", reference="points")
    check_broadcast(points.shape[:-1], radius.shape, "points without their coordinates", "radius")
    check_broadcast(gt_boxes.shape[:-2], radius.shape[:-1], "the batch dimensions of gt_boxes", "those of radius")


def check_module(module: Any, name: str) -> None:
    """Raise if a loss module, or one in it, has class weights that are none, or rounded to half precision."""
    for each in module.modules() if isinstance(module, nn.Module) else ():
        _check_tensors(each, name)


def _check_tensors(module: nn.Module, name: str) -> None:
    for attribute in ("weight", "pos_weight"):
        value = getattr(module, attribute, None)
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.is_floating_point():
            check_weights(value, f"{attribute} of {name}")
    for own, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
            raise TypeError(
                f"{name} is computed in float32 at least, but its {own} is {tensor.dtype}: make it with float32 values"
            )
