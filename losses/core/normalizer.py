"""What sums of losses are divided by: numbers of targets or positives, or sums of weights, over all ranks.

With W ranks, S the sum of a loss on one rank and n its count, DDP averages the gradients of the ranks. The average is
exactly the gradient of ``S_all / max(n_all, minimum)``, the same loss over the whole global batch, if each rank
computes ``W S / max(all_reduce(n), minimum)``. To clamp before the reduction, or after a division by W, would be wrong
where a rank has no target, or where there are fewer targets than ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from ragged.values.checks import (
    NUMBERS,
    check_flag,
    check_is_tensor,
    check_not_negative,
    check_number,
    check_same_device,
    check_weights,
    is_sequence,
)
from ragged.values.precision import wide

_NUMBERS: Any = (*NUMBERS, torch.SymInt, torch.SymFloat)


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """Turns the counts of one rank into divisors, ``max(all_reduce(n), minimum) / W``.

    All ranks must call it equally often, with the same number of counts. If counts require a gradient on one rank,
    they must on all ranks and be part of every rank's loss. A call is one all-reduce, whatever the number of counts,
    and never waits for the device. The reduction is differentiable.

    With gradient accumulation, divide every micro-batch by the total count::

        total = normalizer.total(sum_of_the_counts_of_all_micro_batches)
        for micro_batch in micro_batches:
            loss = criterion_sum(micro_batch) / normalizer(global_count=total)
            loss.backward()  # under no_sync() on all but the last, as always

    Args:
        distributed: Whether to count over all ranks, where ``torch.distributed`` is initialised.
        minimum: Lower bound of the count of the whole global batch: a term without counts is then 0 instead of NaN.
        group: The process group; None is the default one. It must be the one that the gradients are averaged over.

    >>> from losses.core.normalizer import Normalizer
    >>> num_positives, sum_of_weights = Normalizer()([torch.tensor(12), torch.tensor(0.5)])
    >>> num_positives, sum_of_weights
    (tensor(12.), tensor(1.))
    """

    distributed: bool = True
    minimum: float = 1.0
    group: Any = None

    def __post_init__(self) -> None:
        check_flag(self.distributed, "distributed")
        check_number(self.minimum, "minimum", low=None)
        if not self.minimum > 0:
            raise ValueError(f"minimum must be positive, since sums are divided by it, got {self.minimum}")

    def __call__(
        self,
        counts: Tensor | Sequence[Tensor | float] | float | None = None,
        *,
        global_count: Tensor | Sequence[Tensor | float] | float | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Divisors for the sums of this rank.

        Args:
            counts: Of this rank: a number, a tensor of any shape, or a sequence of n numbers and one-element tensors.
            global_count: Counts of all ranks and all micro-batches, as ``total`` returns them. If you pass them,
                ``counts`` is optional and nothing is reduced.
            device: Device of the result if no count is a tensor.

        Returns:
            The shape of the counts, (n,) for a sequence; float32 at least.

        Raises:
            TypeError: Neither counts nor ``global_count`` is given, or one is not a number.
            ValueError: A count is negative or not finite, a tensor in a sequence has more than one element, or devices
                differ.
        """
        if global_count is not None:
            given = _tensor(global_count, device, "global_count")
            if counts is not None and given.shape != (own := _tensor(counts, device, "counts")).shape:
                raise ValueError(
                    f"global_count must have the shape of counts, {tuple(own.shape)}, got {tuple(given.shape)}"
                )
            total = given
        elif counts is not None:
            total = self.total(counts, device=device)
        else:
            raise TypeError("Normalizer needs counts or global_count, got neither")
        return total.clamp(min=self.minimum) / self.num_ranks

    def total(
        self, counts: Tensor | Sequence[Tensor | float] | float, *, device: torch.device | str | None = None
    ) -> Tensor:
        """Counts over all ranks, neither clamped nor divided; arguments and result as for a call."""
        return self.sum_over_ranks(_tensor(counts, device, "counts"))

    def sum_over_ranks(self, local: Tensor) -> Tensor:
        """``total`` of a tensor of counts that is already checked, float32 at least."""
        if self.num_ranks == 1:
            return local
        return _AllReduceSum.apply(local, self.group)

    @property
    def num_ranks(self) -> int:
        """W; 1 where ``torch.distributed`` is not initialised, or if ``distributed=False``."""
        if not self.distributed or not distributed.is_available() or not distributed.is_initialized():
            return 1
        return distributed.get_world_size(self.group)


def checked_normalizer(normalizer: Normalizer | None) -> Normalizer:
    """The normalizer, or a new one if there is none; a ``TypeError`` if it is something else."""
    if normalizer is None:
        return Normalizer()
    if not isinstance(normalizer, Normalizer):
        raise TypeError(f"normalizer must be a Normalizer, got {type(normalizer).__name__}")
    return normalizer


class _AllReduceSum(torch.autograd.Function):
    """Sum over ranks. What a rank's count contributes to the losses of all ranks, it learns from all of them."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = local.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _AllReduceSum.apply(gradients[0], ctx.group), None


def _tensor(counts: Any, device: torch.device | str | None, name: str) -> Tensor:
    """As one tensor, in float32 at least."""
    if isinstance(counts, Tensor):
        check_is_tensor(counts, name)
        numbers = wide(counts) if not counts.is_complex() else counts
        check_weights(numbers, name)
        return numbers
    if not is_sequence(counts):
        return _scalar(counts, device, name)
    if not counts:
        raise ValueError(f"{name} must not be an empty sequence")
    tensors = [each for each in counts if isinstance(each, Tensor)]
    device = tensors[0].device if tensors else device
    for each in tensors:
        check_same_device(each.device, tensors[0].device, name=f"every one of {name}", reference="the first")
    scalars = [_scalar(each, device, name) for each in counts]
    # Promoted together: stacking asks for one dtype.
    dtype = torch.float64 if any(each.dtype == torch.float64 for each in scalars) else torch.float32
    return torch.stack([each.to(dtype) for each in scalars])


def _scalar(value: Any, device: torch.device | str | None, name: str) -> Tensor:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name} in a sequence must have one element each, got shape {tuple(value.shape)}")
        check_weights(value, name)
        return wide(value).reshape(())
    if not isinstance(value, _NUMBERS):
        raise TypeError(f"{name} must be numbers or tensors, got {type(value).__name__}")
    if isinstance(value, NUMBERS):
        check_not_negative(value, name)
    # Filled on the device: a copy from the host would wait for it.
    return torch.full((), value, device=device, dtype=torch.float32)
