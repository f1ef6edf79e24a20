"""Pairs of a target with every prediction of the target's own image, in rows: R targets, P predictions.

Where the host can read the masks (on CPU), the rows are the targets to be matched and nothing else, so that neither
filler nor a crowded image costs anything; elsewhere they are all padded slots, of static shape, some of them not valid.
Rows are computed in blocks that fit the cache: the result does not depend on the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from matchers.boxes import Coordinates
from ragged.checks import known_finite
from ragged.precision import wide

if TYPE_CHECKING:
    from matchers.problem import Problem

# Bytes of one float32 matrix of pairs. On a CPU a dozen of them should fit the cache together.
_BLOCK_BYTES = 1 << 20
_BLOCK_BYTES_ON_DEVICE = 1 << 28


@dataclass(frozen=True, eq=False)
class Pairs:
    """R targets, each with all P predictions of its image.

    Args:
        problem: Where the targets are from.
        corners: Coordinates of the targets, stacked, (5, R, 1).
        labels: (R,).
        sample: (R,), the image of each target; ascending.
        target: (R,), its index in the image.
        valid: (R,), false for rows of filler.
        packed: Whether there are no rows of filler.
        computed: What was computed on the way.

    >>> def corner_cost(pairs):
    ...     return (pairs.gt.x1 - pairs.predicted.x1).abs()
    >>> boxes = torch.tensor([[[9.0, 0.0, 12.0, 4.0], [1.0, 0.0, 4.0, 4.0]]])
    >>> targets = Targets.of(([boxes[0, 1:]], [torch.tensor([0])]))
    >>> Hungarian(cost=corner_cost)({"pred_boxes": boxes}, targets).target_index
    tensor([[-1,  0]])
    """

    problem: Problem
    corners: Tensor
    labels: Tensor
    sample: Tensor
    target: Tensor
    valid: Tensor
    packed: bool
    computed: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.labels.shape[0]

    @property
    def gt(self) -> Coordinates:
        """Coordinates of the targets, (R, 1) each."""
        return Coordinates(*self.corners.unbind())

    @property
    def predicted(self) -> Coordinates:
        """Coordinates of the predicted boxes, (R, P) each."""
        if "predicted" not in self.computed:  # several cost terms ask for them
            self.computed["predicted"] = self.problem.predicted.index_select(1, self.sample)
        return Coordinates(*self.computed["predicted"].unbind())

    @property
    def priors(self) -> Coordinates:
        """Coordinates of the priors, (1, P) or (R, P) each."""
        boxes = self.problem.prior_boxes
        return Coordinates(*(boxes if boxes.shape[1] == 1 else boxes.index_select(1, self.sample)).unbind())

    def logits_of_labels(self) -> Tensor:
        """The logit of the target's class in each prediction, (R, P), float32 at least; NaN if it is infinite."""
        logits = self.problem.need_logits("this matcher").transpose(1, 2)[self.sample, self.labels]
        logits = wide(logits)
        return logits if known_finite(logits) else logits.add_(logits - logits)

    def log_probabilities_of_labels(self) -> Tensor:
        """The logarithm of the softmax probability of the target's class in each prediction, (R, P)."""
        return self.logits_of_labels() - self.of_sample(self.problem.log_normalizer)

    def counts(self, pairs: Tensor | None = None) -> Tensor | None:
        """Pairs (R, P) or (R, 1) that are true and not of filler; None stands for all."""
        if self.packed:
            return pairs
        valid = self.valid.unsqueeze(-1)
        return valid if pairs is None else pairs & valid

    def of_sample(self, values: Tensor) -> Tensor:
        """Values (N, …) of the images, for each row (R, …)."""
        return values.index_select(0, self.sample)

    def runs(self) -> tuple[Tensor, Tensor]:
        """First row and number of rows of each image, (N,) each."""
        samples = torch.arange(self.problem.num_samples, device=self.sample.device)
        start = torch.searchsorted(self.sample, samples)
        return start, torch.searchsorted(self.sample, samples, right=True) - start

    def blocks(self, *, larger: int = 1) -> Iterator[Pairs]:
        """The rows in blocks that are computed one after the other; ``larger`` times as large as usual."""
        limit = _BLOCK_BYTES_ON_DEVICE if self.labels.device.type != "cpu" else _BLOCK_BYTES
        size = max(1, larger * limit // (4 * max(self.problem.num_predictions, 1)))
        if torch.compiler.is_compiling() or len(self) <= size:
            yield self
            return
        # Blocks of nearly equal size, not a small one at the end.
        size = math.ceil(len(self) / math.ceil(len(self) / size))
        columns = [part.split(size) for part in (self.labels, self.sample, self.target, self.valid)]
        for corners, labels, sample, target, valid in zip(self.corners.split(size, 1), *columns, strict=True):
            yield Pairs(self.problem, corners, labels, sample, target, valid, self.packed)
