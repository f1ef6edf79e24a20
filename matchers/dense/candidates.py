"""The predictions that targets would take by their metric, and what becomes of them where several targets want one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matchers.assignments.selection import BestTarget
from ragged.values.ranking import INDEX_BITS, INDEX_MASK, sortable

SMALLEST = 1e-9
"""What the largest metric of a target is at least, or what is added to it."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The K predictions that each of R targets would take.

    Args:
        row, sample, target: (R,), which target to be matched, its image, and its index there.
        prediction, metric, overlap, counts: (R, K): which prediction of the image, how well it fits, and whether it may
            be taken; for quality "normalized_over_all", the metric of one that may not is 0.
        highest_overlap: (R,), among all predictions.
        num_invalid: (N,), of the images.
    """

    row: Tensor
    sample: Tensor
    target: Tensor
    prediction: Tensor
    metric: Tensor
    overlap: Tensor
    counts: Tensor
    highest_overlap: Tensor
    num_invalid: Tensor

    @classmethod
    def joined(cls, blocks: Iterator[Candidates], num_rows: int) -> Candidates:
        """All rows of blocks, in memory that is taken before the second block is computed.

        Otherwise the little that is kept of a block would stand where the large tensors of the next one were, and all
        of these would be put in ever new places.
        """
        first = next(blocks)
        if first.sample.shape[0] == num_rows:
            return first
        whole, start = first._empty(num_rows), 0
        for block in itertools.chain([first], blocks):
            end = start + block.sample.shape[0]
            for name, value in block._of_rows().items():
                getattr(whole, name)[start:end] = value
            whole.num_invalid.add_(block.num_invalid)
            start = end
        return whole

    def _of_rows(self) -> dict[str, Tensor]:
        names = ("row", "sample", "target", "prediction", "metric", "overlap", "counts", "highest_overlap")
        return {name: getattr(self, name) for name in names}

    def _empty(self, num_rows: int) -> Candidates:
        fields = {name: value.new_empty(num_rows, *value.shape[1:]) for name, value in self._of_rows().items()}
        return replace(self, **fields, num_invalid=torch.zeros_like(self.num_invalid))

    def wanted_by(self, best: BestTarget, *, by_metric: bool) -> Tensor:
        """Let each prediction see who wants it, and how well it fits: by its overlap, unless by its metric.

        Returns:
            (R * K,), which prediction of all images each candidate is.
        """
        value = self.metric if by_metric else self.overlap
        return best.see_pairs(value, self.sample, self.target, self.prediction, self.counts)

    def kept(self, target: Tensor, most: int) -> Candidates:
        """Of the candidates that each target won, the ``most`` of largest metric; of N images' targets (N, P)."""
        won = self.won(target)
        return replace(self, counts=won & (won.cumsum(-1) <= most))

    def write_target(self, target: Tensor) -> Tensor:
        """Target (N, P) of the candidates that count, which no two targets share."""
        sample = self.sample.unsqueeze(-1)
        places = torch.where(self.counts, self.target.unsqueeze(-1) + 1, 0)
        return torch.zeros_like(target).index_put_((sample, self.prediction), places, accumulate=True) - 1

    def won(self, target: Tensor) -> Tensor:
        """(R, K), bool: candidates that are their target's in the end."""
        return self.counts & (target[self.sample.unsqueeze(-1), self.prediction] == self.target.unsqueeze(-1))

    def write_quality(self, quality: Tensor, target: Tensor, kind: str, *, add_eps: bool) -> None:
        """Write the quality of the pairs that were made into (N, P)."""
        won = self.won(target)
        value = self.metric
        if kind != "metric" and value.shape[-1]:
            if kind == "normalized_over_all":
                most, overlap = value.amax(-1, keepdim=True), self.highest_overlap.unsqueeze(-1)
            else:
                most, overlap = ((each * won).amax(-1, keepdim=True) for each in (value, self.overlap))
            value = value / bounded(most, add_eps=add_eps) * overlap
        index = self.sample.unsqueeze(-1), self.prediction
        quality.index_put_(index, (value * won).float(), accumulate=True)


def is_contested(slots: Tensor, counts: Tensor, like: Tensor) -> Tensor:
    """(N, P), bool, as ``like`` is shaped: whether several targets want a prediction.

    Args:
        slots: (R * K,), what ``wanted_by`` gave.
        counts: (R, K), which of the candidates may be taken.
        like: (N, P).
    """
    times = slots.new_zeros(like.numel()).index_add_(0, slots, counts.flatten().to(slots.dtype))
    return times.view(like.shape) > 1


def bounded(metric: Tensor, *, add_eps: bool) -> Tensor:
    """The largest metrics of targets, as divisors."""
    return metric + SMALLEST if add_eps else metric.clamp(min=SMALLEST)


def best_of(slot: Tensor, metric: Tensor, count: int) -> Tensor:
    """(N, P), bool: whether a prediction is among the ``count`` of largest metric that have its slot, then the first.

    Args:
        slot: (N, P), a number for each target, int64.
        metric: (N, P), not negative.
        count: How many.
    """
    falling = ~sortable(metric, nonnegative=True) >> INDEX_BITS & INDEX_MASK
    key, order = (slot << INDEX_BITS | falling).sort(dim=-1, stable=True)
    slot = key >> INDEX_BITS
    rank = torch.arange(slot.shape[-1], device=slot.device) - torch.searchsorted(slot, slot)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order, rank < count)


def normalized(slot: Tensor, metric: Tensor, overlap: Tensor, slots: int, *, add_eps: bool) -> Tensor:
    """Metrics (N, P), scaled so that the largest of each slot is the largest overlap there."""
    both = torch.stack([metric, overlap])
    index = slot.expand_as(both)
    most = both.new_zeros(*both.shape[:-1], slots).scatter_reduce_(-1, index, both, "amax").gather(-1, index)
    return metric * most[1] / bounded(most[0], add_eps=add_eps)
