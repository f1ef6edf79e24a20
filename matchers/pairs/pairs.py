"""Candidates: each target with the predictions of its own image, in rows: R targets, with all P predictions each.

Where the host can read the masks (on CPU), the rows are the targets to be matched and nothing else, so that neither
filler nor a crowded image costs anything. Elsewhere they are padded slots, of static shape, some of them not valid:
images with about as many targets together if the host knows sizes, so that a crowded one pads few others.
Rows are computed in blocks that fit the cache: the result does not depend on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from matchers.assignments.selection import reduce_rows_
from matchers.geometry.boxes import Coordinates, corners_of
from matchers.pairs.groups import Group, all_slots, cut, slots_of, static_groups
from matchers.pairs.problem import Problem
from matchers.pairs.reading import with_one_label
from ragged.values.once import once
from ragged.values.precision import wide
from ragged.values.readable import known_finite, values_are_readable

_JOINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "amin": torch.minimum,
    "amax": torch.maximum,
    "sum": torch.add,
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """R targets, each with all P predictions of its image: the candidates that a cost is computed of, not a match.

    Args:
        problem: Where the targets are from.
        corners: Those of the targets, bounded, (4, R, 1); None if they have no boxes.
        labels: (R,), or (R, C) if they are multi-hot; None if targets have none.
        sample: (R,), the image of each target; those of an image follow each other. All batch dimensions are counted,
            layers first: with L layers of B images it is below L * B, and ``sample % B`` the place in a tensor of the
            batch.
        target: (R,), its index in the image.
        valid: (R,), false for rows of filler.
        row: (R,), which of all targets to be matched.
        packed: Whether there are no rows of filler.
        groups: The images, if not packed, in the order of their rows.
        order: (N,), the images in the order of groups; None if that is the order of the batch.
        prediction: (R, W), the predictions of each row, if not all of them; what is (R, P) otherwise is (R, W) then.
        near: (R, P), bool, pairs of interest, none of filler, where a rule asked for them; see ``matchers.pairs.near``.
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
    groups: tuple[Group, ...] = ()
    order: Tensor | None = None
    prediction: Tensor | None = None
    near: Tensor | None = None
    computed: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, which: Tensor | None = None, *, padded: bool = False) -> Pairs:
        """The rows of the targets to be matched, or of those that ``which`` (N, G) is true for.

        Args:
            problem: Whose targets and predictions.
            which: Mask of targets.
            padded: Keep all N * G slots, also where the host can read the mask.
        """
        which = problem.matchable if which is None else which
        packed = not padded and values_are_readable(which)
        sizes = None if padded else problem.known_sizes
        groups = () if packed else static_groups(sizes, which.shape, problem.num_predictions)
        order = problem.num_targets.argsort(descending=True, stable=True) if len(groups) > 1 else None
        slots, valid = all_slots(*which.shape, which.device), which.reshape(-1)
        is_whole = not packed and order is None
        if packed:
            slots, valid = slots[:, valid], valid[valid]
        elif order is not None:
            own = slots_of(groups, order, which)
            slots, valid = slots[:, own], valid[own]
        slot, sample, target = slots

        def of(values: Tensor) -> Tensor:
            return values.flatten(0, 1) if is_whole else values.flatten(0, 1)[slot]

        boxes, labels = problem.gt_boxes, problem.labels
        return cls(
            problem=problem,
            corners=None if boxes is None else corners_of(of(boxes).unsqueeze(1)),
            labels=None if labels is None else of(labels),
            sample=sample,
            target=target,
            valid=valid,
            row=slot if is_whole else torch.arange(len(slot), device=problem.device),
            packed=packed,
            groups=groups,
            order=order,
        )

    def __len__(self) -> int:
        return self.sample.shape[0]

    @property
    def gt(self) -> Coordinates:
        """Coordinates of the targets, (R, 1) each."""
        return once(self.computed, "gt", lambda: Coordinates(self.need_corners()))

    def need_corners(self) -> Tensor:
        """Corners of the targets, (4, R, 1); or a ``ValueError``."""
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
        return with_one_label(self.labels)

    def gt_field(self, name: str) -> Tensor:
        """A field of the targets, (R, …)."""
        values = self.problem.need_targets(name, "this cost")
        return values[self.sample, self.target] if values.shape[1] else values.new_zeros(0, *values.shape[2:])

    def predicted_field(self, name: str) -> Tensor:
        """A field of the predictions, for each row, (R, P, …)."""
        values = self.problem.need_predictions(name, "this cost")
        return values.index_select(0, self.sample) if self.prediction is None else values.flatten(0, 1)[self.slots]

    @property
    def predicted(self) -> Coordinates:
        """Coordinates of the predicted boxes, (R, P) each."""

        def make() -> Coordinates:
            boxes = self.problem.predicted
            own = boxes.index_select(1, self.sample) if self.prediction is None else boxes.flatten(1)[:, self.slots]
            return Coordinates.of_stacked(own)

        return once(self.computed, "predicted", make)

    @property
    def priors(self) -> Coordinates:
        """Coordinates of the priors, (1, P) or (R, P) each."""
        boxes = self.problem.prior_boxes
        return Coordinates.of_stacked(boxes if boxes.shape[1] == 1 else boxes.index_select(1, self.sample))

    def logits_of_labels(self) -> Tensor:
        """The logit of the target's class in each prediction, (R, P), float32 at least; NaN if it is infinite."""
        logits = wide(self.of_labels(self.problem.need_logits("this matcher")))
        return logits if known_finite(logits) else logits.add_(logits, alpha=0)

    def of_labels(self, values: Tensor) -> Tensor:
        """Of values (N, P, C), that of the target's class in each prediction, (R, P)."""
        labels = self.need_labels()
        if self.prediction is None:
            return values.transpose(1, 2)[self.sample, labels]
        return values[self.sample.unsqueeze(-1), self.prediction, labels.unsqueeze(-1)]

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
        width = self.problem.max_num_targets
        if self.is_whole and width:
            start = self.row.view(-1, width)[:, 0]
            return start, torch.full_like(start, width)
        samples = torch.arange(self.problem.num_samples, device=self.sample.device)
        if self.order is None:
            start = torch.searchsorted(self.sample, samples)
            return start, torch.searchsorted(self.sample, samples, right=True) - start
        size = torch.cat([samples.new_full((group.images,), group.most) for group in self.groups])
        start = size.cumsum(0) - size
        return torch.empty_like(start).index_copy_(0, self.order, start), size[self.order.argsort()]

    @property
    def is_whole(self) -> bool:
        """Whether the rows are all slots of targets, in their order: row k of an image is its target k."""
        return not self.packed and self.order is None and self.sample.shape[0] == self.problem.matchable.numel()

    def images_of(self, group: Group) -> Tensor | slice:
        """Those of a group, to index what is given for each of the N images."""
        which = slice(group.first, group.first + group.images)
        return which if self.order is None else self.order[which]

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
        parts = [(group, getattr(part, reduce)(1)) for group, part in (() if self.packed else self.by_image(values))]
        if into is None and self.is_whole and parts:
            return parts[0][1]
        known, into = into, values.new_full(shape, none) if into is None else into
        if self.packed:
            reduce_rows_(into, self.sample, values, reduce)
        for group, found in parts:
            images = self.images_of(group)
            into[images] = found if known is None else _JOINED[reduce](known[images], found)
        return into

    def by_image(self, values: Tensor) -> list[tuple[Group, Tensor]]:
        """Values (R, …) of groups of images, unless rows are packed: (n, G, …) of n images with G rows each."""
        parts = values.split([group.rows for group in self.groups])
        return [
            (group, part.unflatten(0, (group.images, group.most)))
            for group, part in zip(self.groups, parts, strict=True)
            if group.rows
        ]

    def blocks(self, *, larger: int = 1) -> Iterator[Pairs]:
        """The rows in blocks that are computed one after the other; ``larger`` times as large as usual."""
        size = max(1, larger * self.problem.pairs_at_once // max(self.problem.num_predictions, 1))
        if torch.compiler.is_compiling() or len(self) <= size:
            yield self
            return
        if self.packed:
            count = -(-len(self) // size)
            for number in range(count):
                yield self._part(number * len(self) // count, (number + 1) * len(self) // count, ())
            return
        for block in cut(self.groups, size):
            start, (last, group) = block[0][0], block[-1]
            yield self._part(start, last + group.rows, tuple(group for _, group in block))

    def _part(self, start: int, stop: int, groups: tuple[Group, ...]) -> Pairs:
        """Some rows that follow each other."""
        part = slice(start, stop)
        return Pairs(
            problem=self.problem,
            corners=None if self.corners is None else self.corners[:, part],
            labels=None if self.labels is None else self.labels[part],
            sample=self.sample[part],
            target=self.target[part],
            valid=self.valid[part],
            row=self.row[part],
            packed=self.packed,
            groups=groups,
            order=self.order,
        )
