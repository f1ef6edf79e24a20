"""Checks of the arguments of the solver."""

from __future__ import annotations

import torch
from torch import Tensor

from ragged import RaggedBatch
from ragged.values.checks import (
    INTEGER_DTYPES,
    check_is_tensor,
    check_one_of,
    check_same_device,
    check_values,
    sample_name,
)

SOLVERS = ("auto", "scipy", "triton", "lapx")


def checked_problem(
    cost: Tensor | RaggedBatch, num_targets: Tensor | None, forbidden: Tensor | None, solver: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Padded costs, numbers of targets ``(*batch,)`` and forbidden pairs ``(*batch, G, P)``; or an error."""
    cost, num_targets = _costs_of_targets(cost, num_targets)
    check_is_tensor(cost, "cost")
    check_one_of(solver, SOLVERS, "solver")
    if cost.dim() < 3 or not cost.is_floating_point():
        raise (ValueError if cost.is_floating_point() else TypeError)(
            f"cost must be a floating tensor of shape (*batch, G, P), got {tuple(cost.shape)}, {cost.dtype}"
        )
    batch_shape, width = cost.shape[:-2], cost.shape[-2]
    if num_targets is None:
        num_targets = torch.full(batch_shape, width, device=cost.device)
    check_is_tensor(num_targets, "num_targets")
    if num_targets.dtype not in INTEGER_DTYPES:
        raise TypeError(f"num_targets must be integers, got {num_targets.dtype}")
    if not _ends_with(batch_shape, num_targets.shape):
        raise ValueError(
            f"num_targets must have shape {tuple(batch_shape)}, or its last dimensions, got {tuple(num_targets.shape)}"
        )
    check_same_device(num_targets.device, cost.device, name="num_targets", reference="cost")
    counts = num_targets
    check_values(
        (counts >= 0) & (counts <= width),
        lambda at: f"num_targets must lie between 0 and {width}, got {int(counts[at])} for {sample_name(at)}",
        summary="batched_linear_sum_assignment: a number of targets is out of range",
    )
    if forbidden is not None:
        if not isinstance(forbidden, Tensor) or forbidden.dtype != torch.bool:
            raise TypeError("forbidden must be a boolean tensor")
        check_is_tensor(forbidden, "forbidden")
        if forbidden.dim() < 2 or not _ends_with(cost.shape, forbidden.shape):
            raise ValueError(
                f"forbidden must have the shape {tuple(cost.shape)} of cost, or its last dimensions, "
                f"got {tuple(forbidden.shape)}"
            )
        check_same_device(forbidden.device, cost.device, name="forbidden", reference="cost")
        forbidden = forbidden.expand(cost.shape)
    return cost, num_targets.expand(batch_shape), forbidden


def _ends_with(shape: torch.Size, own: torch.Size) -> bool:
    return len(own) <= len(shape) and shape[len(shape) - len(own) :] == own


def _costs_of_targets(cost: Tensor | RaggedBatch, num_targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Padded costs, and how many targets there are."""
    if not isinstance(cost, RaggedBatch):
        return cost, num_targets
    if cost.ragged_axis or cost.dim() != cost.num_batch_dims + 2:
        raise ValueError(
            f"a ragged cost must have shape (*batch, G, P), ragged along G, got {tuple(cost.shape)} with "
            f"non_uniform_dim={cost.non_uniform_dim}"
        )
    return cost.tensor, cost.sample_sizes if num_targets is None else num_targets
