"""The predictions that have a target, in rows: what box losses are computed of, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from ragged.interop.registration import register_dataclass
from ragged.values.memory import is_transposed
from ragged.values.once import known_range, once
from ragged.values.readable import values_are_readable


@dataclass(frozen=True, eq=False)
class Positives:
    """R matched pairs of a prediction and its target, flat over all images.

    ``Assignment.pairs()`` gives the same pairs as ragged indices of each image, ordered by target.

    Where the host can read the assignment (on CPU) there is a row for each positive prediction. On other devices, R is
    static and some rows are not valid. Invalid rows read as 0, so results are finite, and every sum leaves them out.

    Args:
        sample: (R,), the image of each row, batch dimensions merged.
        prediction: (R,), its index in the image.
        target: (R,), the index of its target in the image.
        valid: (R,), or None if all rows are. If given, all images have as many rows.
        shape: ``(*batch, P)``.
        whole: Whether there is a row for each prediction of all images, in order: then nothing is gathered.
        computed: Cache of intermediate results.

    >>> assignment = Assignment.from_index(torch.tensor([[1, -1, 0]]), num_targets=torch.tensor([2]))
    >>> positives = Positives.of(assignment)
    >>> positives.prediction, positives.target
    (tensor([0, 2]), tensor([1, 0]))
    """

    sample: Tensor
    prediction: Tensor
    target: Tensor
    valid: Tensor | None
    shape: tuple[int, ...]
    whole: bool = False
    computed: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, assignment: Assignment) -> Positives:
        """The positive predictions of an assignment."""
        if not isinstance(assignment, Assignment):
            raise TypeError(f"expected an Assignment, got {type(assignment).__name__}")
        return (cls._packed if values_are_readable(assignment.target_index) else cls._static)(assignment)

    @classmethod
    def _packed(cls, assignment: Assignment) -> Positives:
        shape, flat = tuple(assignment.target_index.shape), assignment.target_index.reshape(-1)
        count = max(shape[-1], 1)
        rows = (flat >= 0).nonzero().squeeze(-1)
        return cls(rows // count, rows % count, flat[rows], None, shape)

    @classmethod
    def _static(cls, assignment: Assignment) -> Positives:
        index, shape = assignment.target_index, tuple(assignment.target_index.shape)
        count = shape[-1]
        whole = assignment.max_pairs >= count
        if not whole:
            # Positive predictions have the largest numbers. Not ``pairs``, whose order takes a stable sort.
            index, prediction = index.topk(assignment.max_pairs, -1)
        else:
            prediction = known_range(count, index.device).expand(shape)
        target, valid = index.clamp(min=0), index >= 0
        samples = math.prod(shape[:-1])
        # Not repeat_interleave, which fixes the number of samples in graphs of torch 2.9 and older.
        sample = known_range(samples, index.device).unsqueeze(-1).expand(-1, prediction.shape[-1])
        return cls(sample.reshape(-1), prediction.reshape(-1), target.reshape(-1), valid.reshape(-1), shape, whole)

    def __len__(self) -> int:
        return self.sample.shape[0]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``*batch``."""
        return self.shape[:-1]

    @property
    def slots(self) -> Tensor:
        """(R,), the index of each prediction among those of all images."""
        return once(self.computed, "slots", lambda: torch.add(self.prediction, self.sample, alpha=self.shape[-1]))

    def of_predictions(self, values: Tensor) -> Tensor:
        """Gather values of predictions ``(*batch, P, …)`` into rows (R, …). Differentiable."""
        return self._only_valid(self.rows_of(values))

    def rows_of(self, values: Tensor) -> Tensor:
        """``of_predictions``, whatever it is in rows that are not valid."""
        merged = values.reshape(math.prod(self.batch_shape), *values.shape[len(self.batch_shape) :])
        if self.whole:
            return merged.flatten(0, 1)
        if merged.dim() == 3 and is_transposed(merged):
            # Maps with the channels first: read, and have their gradient written, as they lie in memory.
            return merged.mT[self.sample, :, self.prediction]
        return merged.flatten(0, 1).index_select(0, self.slots)

    def of_class_mask(self, mask: Tensor | None, num_classes: int) -> Tensor | None:
        """Which classes count for each row, (R, C), of a mask that broadcasts to ``(*batch, P, C)``; None for all."""
        return None if mask is None else self.of_predictions(mask.expand(*self.shape, num_classes))

    def of_priors(self, priors: Tensor) -> Tensor:
        """What priors (P, …) or ``(*batch, P, …)`` have, in rows (R, …)."""
        if priors.shape[0] == self.shape[-1] and priors.dim() == 2:
            return self._only_valid(priors.index_select(0, self.prediction))
        return self.of_predictions(priors.expand(*self.shape, *priors.shape[-1:]))

    def of_targets(self, values: Tensor, *, batch_dims: int | None = None) -> Tensor:
        """What targets have, in rows (R, …).

        Args:
            values: ``(*batch, G, …)``. Leading dimensions that only the predictions have, layers for example, may be
                missing.
            batch_dims: How many batch dimensions ``values`` has; by default those of the predictions.
        """
        own = len(self.batch_shape) if batch_dims is None else batch_dims
        images, count = math.prod(values.shape[:own]), values.shape[own]
        if images * count == 0:
            # The sum of nothing, so that the zeros are part of the graph.
            return values.new_zeros(len(self), *values.shape[own + 1 :]) + values.sum(dtype=values.dtype)
        merged = values.reshape(images * count, *values.shape[own + 1 :])
        return self._only_valid(merged.index_select(0, self._slots_of_targets(images, count)))

    def _slots_of_targets(self, images: int, count: int) -> Tensor:
        """(R,), the index of each target among the ``count`` ones of all images."""

        def make() -> Tensor:
            shared = images < math.prod(self.batch_shape)
            return torch.add(self.target, self.sample % images if shared else self.sample, alpha=count)

        # A name with sizes in it would make a graph one of these sizes alone.
        return make() if torch.compiler.is_compiling() else once(self.computed, f"targets of {images} x {count}", make)

    def per_prediction(self, rows: Tensor) -> Tensor:
        """Values (R, …) at their predictions, ``(*batch, P, …)``, and 0 elsewhere. Differentiable."""
        rest = rows.shape[1:]
        if self.whole:
            return self._only_valid(rows).view(*self.shape, *rest)
        flat = rows.new_zeros(math.prod(self.shape), *rest)
        return flat.index_add(0, self.slots, self._only_valid(rows)).view(*self.shape, *rest)

    def per_sample(self, rows: Tensor) -> Tensor:
        """Sums of values (R,) over the images, ``(*batch,)``. Differentiable."""
        return self.per_sample_of_each([rows])[0]

    def per_sample_of_each(self, rows: Sequence[Tensor]) -> Tensor:
        """``per_sample`` of K values (R,) of one dtype, ``(K, *batch)``."""
        samples = math.prod(self.batch_shape)
        if self.valid is None:
            sums = [each.new_zeros(samples).index_add(0, self.sample, each).view(self.batch_shape) for each in rows]
            return side_by_side(sums)
        merged = side_by_side(rows).masked_fill(self._filler, 0)
        return merged.view(len(rows), *self.batch_shape, len(self) // max(samples, 1)).sum(-1)

    def masked(self, rows: Tensor) -> Tensor:
        """Values (R,), 0 where the row is not valid."""
        return self._only_valid(rows)

    def _only_valid(self, rows: Tensor) -> Tensor:
        if self.valid is None:
            return rows
        return rows.masked_fill(self._filler.view(-1, *(1,) * (rows.dim() - 1)), 0)

    @property
    def _filler(self) -> Tensor:
        """(R,), the rows that are not valid, where there are any."""
        valid = self.valid
        assert valid is not None
        return once(self.computed, "filler", lambda: ~valid)


def side_by_side(values: Sequence[Tensor]) -> Tensor:
    """Values of one shape, (K, …); one alone is not copied."""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(list(values))


register_dataclass(Positives, constants=("shape", "whole"))
