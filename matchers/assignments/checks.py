"""What is asked of the parts of an assignment, and of those who want to see one image of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.assignments.parts import AssignmentParts, PlanParts
from ragged.batch.ragged_batch import check_is_batch
from ragged.values.checks import (
    INTEGER_DTYPES,
    check_count,
    check_dim,
    check_has_values,
    check_is_tensor,
    check_same_device,
    is_sequence,
)


def check_parts(assignment: AssignmentParts) -> None:
    """Raise unless the parts of an ``Assignment`` are tensors that fit each other. No value is read."""
    index = assignment.target_index
    check_is_tensor(index, "target_index")
    if index.dtype != torch.int64 or index.dim() == 0:
        raise ValueError(f"target_index must be int64 (*batch, P), got {index.dtype} {tuple(index.shape)}")
    shapes = {"quality": index.shape, "num_targets": index.shape[:-1], "num_invalid": index.shape[:-1]}
    _check_shapes(assignment, shapes, index.device, "target_index", "has")
    if not assignment.quality.is_floating_point():
        raise TypeError(f"quality must be floating, got {assignment.quality.dtype}")
    for name in ("num_targets", "num_invalid"):
        if getattr(assignment, name).dtype != torch.int64:
            raise TypeError(f"{name} must be int64, got {getattr(assignment, name).dtype}")
    check_count(assignment.max_num_targets, "max_num_targets")
    check_count(assignment.max_pairs, "max_pairs")


def check_parts_of_plan(plan: PlanParts) -> None:
    """Raise unless the parts of a ``Plan`` are tensors that fit each other. No value is read."""
    check_is_batch(plan.weights, "weights")
    weights = plan.weights
    if weights.ragged_axis != 1 or weights.dim() != weights.num_batch_dims + 2 or not weights.dtype.is_floating_point:
        raise ValueError(
            f"weights must be floating (*batch, P, G), ragged along G, got {weights.dtype} {tuple(weights.shape)} with "
            f"non_uniform_dim={weights.non_uniform_dim}"
        )
    shapes = {"background": weights.shape[:-1], "num_invalid": weights.batch_shape}
    if plan.residual is not None:
        shapes["residual"] = weights.batch_shape
    _check_shapes(plan, shapes, weights.device, "weights", "have")


def _check_shapes(
    match: AssignmentParts | PlanParts, shapes: Mapping[str, torch.Size], device: torch.device, like: str, verb: str
) -> None:
    """Raise unless these parts are tensors of these shapes, on the device of the part that they are ``like``."""
    for name, shape in shapes.items():
        value = getattr(match, name)
        check_is_tensor(value, name)
        if value.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)}, as {like} {verb}, got {tuple(value.shape)}")
        check_same_device(value.device, device, name=name, reference=like)


def check_num_targets(num_targets: Tensor) -> None:
    """Raise ``TypeError`` unless this is a tensor of integers."""
    check_is_tensor(num_targets, "num_targets")
    if num_targets.dtype not in INTEGER_DTYPES:
        raise TypeError(f"num_targets must be integers, got {num_targets.dtype}")


def check_quality(quality: Tensor, target_index: Tensor) -> None:
    """Raise unless this is a tensor of real numbers, one for each prediction."""
    check_is_tensor(quality, "quality")
    if quality.dtype.is_complex:
        raise TypeError(f"quality must be real numbers, got {quality.dtype}")
    if quality.shape != target_index.shape:
        raise ValueError(f"quality must have shape {tuple(target_index.shape)}, got {tuple(quality.shape)}")
    check_same_device(quality.device, target_index.device, name="quality", reference="target_index")


def checked_position(sample: Any, num_targets: Tensor) -> tuple[int, ...]:
    """Indices of an image, one for each batch dimension; ``IndexError`` if there is no such image."""
    check_has_values(num_targets, "to look at one image")
    return position_in(sample, num_targets.shape)


def position_in(sample: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """As ``checked_position``, for a batch of this shape."""
    at = tuple(sample) if is_sequence(sample) else (sample,)
    if len(at) == 1 and isinstance(at[0], (tuple, list)):
        at = tuple(at[0])
    if len(at) != len(shape):
        raise IndexError(f"sample must have {len(shape)} indices, one for each batch dimension, got {sample}")
    for index, size in zip(at, shape, strict=True):
        check_dim(index, size, name="the index of a sample")
    return at


def check_costs(costs: Any, shape: Sequence[int]) -> None:
    """Raise unless these are cost terms by name, each at least of shape ``(*batch, G, P)``."""
    if not isinstance(costs, Mapping):
        raise TypeError(f"costs must be a mapping from names to tensors, got {type(costs).__name__}")
    for name, term in costs.items():
        check_is_tensor(term, f"the cost {name!r}")
        check_has_values(term, "an explanation")
        if tuple(term.shape) != tuple(shape):
            raise ValueError(
                f"the cost {name!r} must have shape (*batch, G, P) = {tuple(shape)}, got {tuple(term.shape)}"
            )
