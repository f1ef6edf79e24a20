"""Pairs of a target with predictions of the target's own image, in rows: R targets, with all P predictions each.

Where the host can read the masks (on CPU), the rows are the targets to be matched and nothing else, so that neither
filler nor a crowded image costs anything; elsewhere they are all padded slots, of static shape, some of them not valid.
Rows are computed in blocks that fit the cache: the result does not depend on the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from matchers.assignments.selection import reduce_rows_
from matchers.geometry.boxes import Coordinates, coordinates
from matchers.pairs.problem import Problem
from ragged.values.precision import wide
from ragged.values.readable import known_finite, values_are_readable

_JOINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "amin": torch.minimum,
    "amax": torch.maximum,
    "sum": torch.add,
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """R targets, each with all P predictions of its image.

    Args:
        problem: Where the targets are from.
        corners: Coordinates of the targets, stacked, (5, R, 1); None if they have no boxes.
        labels: (R,), or (R, C) if they are multi-hot; None if targets have none.
        sample: (R,), the image of each target; ascending.
        target: (R,), its index in the image.
        valid: (R,), false for rows of filler.
        row: (R,), which of all targets to be matched.
        packed: Whether there are no rows of filler.
        images: The first image and how many there are, if not packed: each of them has as many rows, in order.
        prediction: (R, W), the predictions of each row, if not all of them; what is (R, P) otherwise is (R, W) then.
        near: (R, P), bool, pairs of interest, where a rule asked for these; see ``matchers.pairs.near``.
        computed: What was computed on the way.

    >>> def corner_cost(pairs):
    ...     return (pairs.gt.x1 - pairs.predicted.x1).abs()
    >>> boxes = torch.tensor([[[9.0, 0.0, 12.0, 4.0], [1.0, 0.0, 4.0, 4.0]]])
    >>> targets = Targets.of(([boxes[0, 1:]], [torch.tensor([0])]))
    >>> Hungarian(cost=corner_cost)({"pred_boxes": boxes}, targets).target_index
    tensor([[-1,  0]])
    """

    problem: Problem
    corners: Tensor | None
    labels: Tensor | None
    sample: Tensor
    target: Tensor
    valid: Tensor
    row: Tensor
    packed: bool
    images: tuple[int, int] = (0, 0)
    prediction: Tensor | None = None
    near: Tensor | None = None
    computed: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, which: Tensor | None = None, *, padded: bool = False) -> Pairs:
        """The rows of the targets to be matched, or of those that ``which`` (N, G) is true for.

        Args:
            problem: Whose targets and predictions.
            which: Mask of targets.
            padded: Keep all N * G slots, also where the host can read the mask.
        """
        which = problem.matchable if which is None else which
        slots = torch.arange(which.numel(), device=problem.device)
        valid = which.reshape(-1)
        packed = not padded and values_are_readable(which)
        if packed:
            slots, valid = slots[valid], valid[valid]
        width, boxes = max(problem.max_num_targets, 1), problem.gt_boxes
        return cls(
            problem=problem,
            corners=None if boxes is None else torch.stack(coordinates(boxes.reshape(-1, 1, 4)[slots])),
            labels=None if problem.labels is None else problem.labels.flatten(0, 1)[slots],
            sample=slots // width,
            target=slots % width,
            valid=valid,
            row=torch.arange(slots.shape[0], device=problem.device),
            packed=packed,
            images=(0, problem.num_samples),
        )

    def __len__(self) -> int:
        return self.sample.shape[0]

    @property
    def gt(self) -> Coordinates:
        """Coordinates of the targets, (R, 1) each."""
        return Coordinates(*self.need_corners().unbind())

    def need_corners(self) -> Tensor:
        """Coordinates of the targets, stacked, (5, R, 1); or a ``ValueError``."""
        self.problem.need_targets("boxes", "this matcher")
        assert self.corners is not None
        return self.corners

    def labels_of_classes(self) -> Tensor | None:
        """(R, C), how much each class is one of each target, if labels are multi-hot; None if there is one label."""
        return None if self.labels is None or self.labels.dim() == 1 else self.labels

    def need_labels(self) -> Tensor:
        """Labels (R,), one of each target; or a ``ValueError``."""
        self.problem.need_targets("labels", "this matcher")
        assert self.labels is not None
        if self.labels_of_classes() is not None:
            raise ValueError(
                "this matcher or cost reads the one class of each target, but labels are multi-hot, (*batch, G, C): "
                "match by detr_costs or by a cost with sum_over_labels, or give one label of each target, (*batch, G)"
            )
        return self.labels

    def gt_field(self, name: str) -> Tensor:
        """What the targets have of a field, (R, …)."""
        values = self.problem.need_targets(name, "this cost")
        return values[self.sample, self.target] if values.shape[1] else values.new_zeros(0, *values.shape[2:])

    def predicted_field(self, name: str) -> Tensor:
        """What the predictions have of a field, for each row, (R, P, …)."""
        values = self.problem.need_predictions(name, "this cost")
        return values.index_select(0, self.sample) if self.prediction is None else values.flatten(0, 1)[self.slots]

    @property
    def predicted(self) -> Coordinates:
        """Coordinates of the predicted boxes, (R, P) each."""
        if "predicted" not in self.computed:  # several cost terms ask for them
            boxes = self.problem.predicted
            if self.prediction is None:
                self.computed["predicted"] = boxes.index_select(1, self.sample)
            else:
                self.computed["predicted"] = boxes.flatten(1)[:, self.slots]
        return Coordinates(*self.computed["predicted"].unbind())

    @property
    def priors(self) -> Coordinates:
        """Coordinates of the priors, (1, P) or (R, P) each."""
        boxes = self.problem.prior_boxes
        return Coordinates(*(boxes if boxes.shape[1] == 1 else boxes.index_select(1, self.sample)).unbind())

    def logits_of_labels(self) -> Tensor:
        """The logit of the target's class in each prediction, (R, P), float32 at least; NaN if it is infinite."""
        logits, labels = self.problem.need_logits("this matcher"), self.need_labels()
        if self.prediction is None:
            logits = wide(logits.transpose(1, 2)[self.sample, labels])
        else:
            logits = wide(logits[self.sample.unsqueeze(-1), self.prediction, labels.unsqueeze(-1)])
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

    @property
    def slots(self) -> Tensor:
        """(R, P), the index of each prediction among those of all images."""
        first = self.sample.unsqueeze(-1) * self.problem.num_predictions
        if self.prediction is not None:
            return first + self.prediction
        return first + torch.arange(self.problem.num_predictions, device=first.device)

    def of_predictions(self, values: Tensor) -> Tensor:
        """Values (N, P) of the predictions, for each row (R, P)."""
        return values.index_select(0, self.sample) if self.prediction is None else values.flatten()[self.slots]

    def of_points(self, values: Tensor) -> Tensor:
        """Values (P,) of points that all images share, (P,) or (R, W)."""
        return values if self.prediction is None else values[self.prediction]

    def of_sample(self, values: Tensor) -> Tensor:
        """Values (N, …) of the images, for each row (R, …)."""
        return values.index_select(0, self.sample)

    def select(self, rows: Tensor, *, prediction: Tensor, near: Tensor) -> Pairs:
        """Some rows, with some predictions."""
        columns = {name: getattr(self, name)[rows] for name in ("sample", "target", "valid", "row")}
        corners = None if self.corners is None else self.corners[:, rows]
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, corners=corners, labels=labels, prediction=prediction, near=near, computed={}, **columns)

    def runs(self) -> tuple[Tensor, Tensor]:
        """First row and number of rows of each image, (N,) each."""
        samples = torch.arange(self.problem.num_samples, device=self.sample.device)
        start = torch.searchsorted(self.sample, samples)
        return start, torch.searchsorted(self.sample, samples, right=True) - start

    def over_targets(self, values: Tensor, reduce: str, *, none: int = 0, into: Tensor | None = None) -> Tensor:
        """Values (R, …) reduced over the targets of each image, (N, …).

        Rows of an image follow each other: where there are as many of each, nothing is scattered.

        Args:
            values: A number for each row, or several; those of rows of filler change nothing.
            reduce: ``"amin"``, ``"amax"`` or ``"sum"``.
            none: What is found where there is no target.
            into: What was found of other rows; it is overwritten and given back.
        """
        shape = (self.problem.num_samples, *values.shape[1:])
        if self.packed:
            into = values.new_full(shape, none) if into is None else into
            reduce_rows_(into, self.sample, values, reduce)
            return into
        first, count = self.images
        width = len(self) // max(count, 1)
        if not width:
            return values.new_full(shape, none) if into is None else into
        found: Tensor = getattr(values.unflatten(0, (count, width)), reduce)(1)
        if into is None and count == self.problem.num_samples:
            return found
        into = values.new_full(shape, none) if into is None else into
        own = into[first : first + count]
        own.copy_(_JOINED[reduce](own, found))
        return into

    def blocks(self, *, larger: int = 1) -> Iterator[Pairs]:
        """The rows in blocks that are computed one after the other; ``larger`` times as large as usual."""
        size = max(1, larger * self.problem.pairs_at_once // max(self.problem.num_predictions, 1))
        if torch.compiler.is_compiling() or len(self) <= size:
            yield self
            return
        run = len(self) if self.packed else len(self) // self.images[1]
        for start, stop in _cuts(len(self), size, run):
            part = slice(start, stop)
            yield Pairs(
                problem=self.problem,
                corners=None if self.corners is None else self.corners[:, part],
                labels=None if self.labels is None else self.labels[part],
                sample=self.sample[part],
                target=self.target[part],
                valid=self.valid[part],
                row=self.row[part],
                packed=self.packed,
                images=(self.images[0] + start // run, max((stop - start) // run, 1)),
            )


def _cuts(count: int, size: int, run: int) -> list[tuple[int, int]]:
    """Where blocks of at most ``size`` rows begin and end, nearly equal: of whole runs of rows, or within one."""
    if size < run:
        size = math.ceil(run / math.ceil(run / size))
        within = [(start, min(start + size, run)) for start in range(0, run, size)]
        return [(first + start, first + stop) for first in range(0, count, run) for start, stop in within]
    runs = count // run
    size = math.ceil(runs / math.ceil(runs / (size // run))) * run
    return [(start, min(start + size, count)) for start in range(0, count, size)]
