"""The target of each prediction: an assignment in the form that criteria read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from losses.core.positives import Positives
from losses.functional.numerics import check_floating, check_integer, check_shape
from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.geometry.boxes import check_boxes
from matchers.targets.targets import Targets
from ragged.batch.layout import check_equal_sizes
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_positive, check_same_device, check_values, check_weights, sample_name
from ragged.values.precision import wide


@dataclass(frozen=True, eq=False)
class AssignedTargets:
    """The label of each of P predictions, and the boxes of those that have one.

    Args:
        labels: ``(*batch, P)``, int64: a class, ``BACKGROUND`` (-1) or ``IGNORED`` (-2). If targets have no labels or
            multi-hot labels, every positive has class 0.
        quality: ``(*batch, P)``, float32: the matcher's quality of each positive, in the unit that the matcher
            documents; 0 elsewhere.
        positives: The R predictions that have a class.
        boxes: (R, 4), their target boxes, float32 at least; format and unit are the criterion's. None if targets have
            no boxes.
        weights: ``(*batch, P)``, how much each prediction counts, or None if that is 1 for all. A target of weight 2
            counts twice, in the sum of the losses and in the divisor.
        fields: Your own fields of each positive's target, (R, …), by name.
        multi_hot: (R, C), how much each class is one of the target of each positive, float32 at least; None if a target
            has one label. ``class_targets`` is what a class loss is given.

    >>> targets = Targets.of([{"boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "labels": torch.tensor([7])}])
    >>> assignment = Assignment.from_index(torch.tensor([[-1, 0]]), num_targets=torch.tensor([1]))
    >>> assigned = AssignedTargets.of(targets, assignment)
    >>> assigned.labels, assigned.boxes
    (tensor([[-1,  7]]), tensor([[0., 0., 4., 4.]]))
    """

    labels: Tensor
    quality: Tensor
    positives: Positives
    boxes: Tensor
    weights: Tensor | None = None
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    multi_hot: Tensor | None = None

    def __post_init__(self) -> None:
        check_integer(self.labels)
        if not isinstance(self.positives, Positives):
            raise TypeError(f"positives must be Positives, got {type(self.positives).__name__}")
        check_shape(self.quality, self.labels.shape, "quality", "the labels")
        if self.boxes is not None:
            check_shape(self.boxes, (len(self.positives), 4), "boxes", "the positives, with 4 coordinates")
            object.__setattr__(self, "boxes", self.boxes.detach())
        if self.weights is not None:
            check_shape(self.weights, self.labels.shape, "weights", "the labels")
            check_weights(self.weights, "weights")
            object.__setattr__(self, "weights", self.weights.detach())
        if self.multi_hot is not None:
            check_floating(self.multi_hot, "multi_hot")
            shape = len(self.positives), self.multi_hot.shape[-1]
            check_shape(self.multi_hot, shape, "multi_hot", "the positives, with their classes")
            object.__setattr__(self, "multi_hot", self.multi_hot.detach())

    @classmethod
    def of(
        cls,
        targets: Any,
        assignment: Assignment,
        *,
        box_format: str = "xyxy",
        normalized: bool | None = None,
        num_classes: int | None = None,
    ) -> AssignedTargets:
        """Look up what an assignment refers to.

        Args:
            targets: Anything that ``Targets.of`` reads.
            assignment: An assignment of these targets. It can have extra leading batch dimensions, for example layers.
            box_format: Format of the result: ``"xyxy"``, ``"cxcywh"`` or ``"xywh"``.
            normalized: True: fractions of the image; False: pixels; None: the unit of the targets.
            num_classes: If given, labels are checked against it.

        Raises:
            ValueError: The assignment is of other targets, or a label is out of range.
        """
        targets = Targets.of(targets)
        if not isinstance(assignment, Assignment):
            raise TypeError(f"assignment must be an Assignment, got {type(assignment).__name__}")
        check_same_device(
            assignment.target_index.device, targets.device, name="the assignment", reference="the targets"
        )
        _check_same_targets(targets, assignment)
        if num_classes is not None:
            targets.check_labels(num_classes)
        positives = Positives.of(assignment)
        own = len(targets.batch_shape)
        # Ground truth is constant, also if it requires a gradient.
        boxes: Any = None
        if targets.boxes is not None:
            gt_boxes = targets.boxes_as(box_format, normalized=normalized).detach()
            boxes = positives.of_targets(gt_boxes, batch_dims=own)
        index = assignment.target_index
        multi_hot = None
        if targets.is_multi_hot:
            rows = positives.of_targets(targets.labels.tensor, batch_dims=own)
            multi_hot = wide(rows if rows.is_floating_point() else rows.float())
        weights = None
        if targets.weights is not None:
            gt_weights = targets.weights.detach().with_padded_set_to(0).tensor
            own_weights = wide(positives.of_targets(gt_weights, batch_dims=own))
            weights = (index < 0).to(own_weights.dtype) + positives.per_prediction(own_weights)
        return cls(
            labels=_labels_of(targets, index),
            quality=assignment.quality,
            positives=positives,
            boxes=boxes,
            weights=weights,
            fields={
                name: positives.of_targets(batch.detach().tensor, batch_dims=own)
                for name, batch in targets.fields.items()
            },
            multi_hot=multi_hot,
        )

    @classmethod
    def from_dense(
        cls,
        labels: Tensor,
        boxes: Tensor,
        *,
        num_classes: int,
        quality: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> AssignedTargets:
        """Wrap targets that are given for each prediction, as many heads compute them.

        Args:
            labels: ``(*batch, P)``, integers: a class from 0, ``num_classes`` or -1 for background, -2 for ignored.
            boxes: ``(*batch, P, 4)``; boxes of background and ignored predictions are not read.
            num_classes: C.
            quality: ``(*batch, P)``; 1 for positives if not given.
            weights: ``(*batch, P)``, floating, finite and not negative; a weight of 0 is the same as ignored.

        Raises:
            TypeError, ValueError: Shapes or dtypes do not fit, or a label is out of range.

        >>> boxes = torch.zeros(1, 2, 4)
        >>> AssignedTargets.from_dense(torch.tensor([[3, 80]]), boxes, num_classes=80).labels
        tensor([[ 3, -1]])
        """
        check_integer(labels)
        check_positive(num_classes, "num_classes")
        if labels.dim() == 0:
            raise ValueError("labels must have shape (*batch, P), got ()")
        check_boxes(boxes, "boxes")
        check_shape(boxes, (*labels.shape, 4), "boxes", "the labels, with 4 coordinates")
        check_same_device(boxes.device, labels.device, name="boxes", reference="labels")
        check_values(
            (labels >= IGNORED) & (labels <= num_classes),
            lambda at: (
                f"labels must be a class 0 … {num_classes - 1}, {num_classes} or -1 for background, or -2 for ignored; "
                f"got {int(labels[at])} for prediction {at[-1]} of {sample_name(at[:-1])}"
            ),
            summary="AssignedTargets: a label is out of range",
        )
        labels = labels.long()
        labels = labels.masked_fill(labels == num_classes, BACKGROUND)
        check_values(
            boxes.isfinite().all(-1) | (labels < 0),
            lambda at: f"boxes of labelled predictions must be finite, got {boxes[at].tolist()} at {at}",
            summary="AssignedTargets: the box of a labelled prediction is not finite",
        )
        if weights is not None:
            check_floating(weights, "weights")
            check_shape(weights, labels.shape, "weights", "the labels")
            check_same_device(weights.device, labels.device, name="weights", reference="labels")
            check_weights(weights, "weights", counts=labels != IGNORED)
            labels = labels.masked_fill(weights == 0, IGNORED)
        # Each prediction is the only one of a target of its own.
        places = torch.arange(labels.shape[-1], device=labels.device)
        index = torch.where(labels >= 0, places, labels)
        num_targets = torch.full(labels.shape[:-1], labels.shape[-1], device=labels.device)
        if quality is not None:
            check_floating(quality, "quality")
            check_shape(quality, labels.shape, "quality", "the labels")
        assignment = Assignment.from_index(
            index, num_targets=num_targets, quality=quality, max_num_targets=labels.shape[-1]
        )
        positives = Positives.of(assignment)
        return cls(
            labels,
            assignment.quality,
            positives,
            wide(positives.of_predictions(boxes.detach())),
            None if weights is None else wide(weights.detach()).masked_fill(labels == IGNORED, 0),
        )

    @property
    def is_positive(self) -> Tensor:
        """``(*batch, P)``, bool."""
        return self.labels >= 0

    @property
    def is_ignored(self) -> Tensor:
        """``(*batch, P)``, bool."""
        return self.labels == IGNORED

    def counted(self, values: Tensor) -> Tensor:
        """Values ``(*batch, P)`` times the weights, 0 where ignored."""
        values = values.masked_fill(self.is_ignored, 0)
        return values if self.weights is None else values * self.weights

    def counted_background(self, values: Tensor) -> Tensor:
        """Values ``(*batch, P)`` of all predictions: 0 but where they are background, and weighted."""
        values = values.masked_fill(self.labels != BACKGROUND, 0)
        return values if self.weights is None else values * self.weights

    def counted_rows(self, rows: Tensor) -> Tensor:
        """Values (R,) of the positives, weighted; a ``Term`` leaves out rows that are not valid."""
        return rows if self.weights is None else rows * self.positives.of_predictions(self.weights)

    def num_positives(self) -> Tensor:
        """``(*batch,)``, float32 at least: the sum of the positives' weights."""
        if self.weights is None:
            return self.is_positive.sum(-1, dtype=torch.float32)
        return self.counted(self.is_positive.to(self.weights.dtype)).sum(-1)

    def class_targets(self, background: int | None = None) -> Tensor:
        """The targets of a class loss: labels ``(*batch, P)``; or targets ``(*batch, P, C)``, if labels are multi-hot.

        Args:
            background: Label of background and ignored predictions; None keeps -1 and -2. Multi-hot targets are all 0
                there.
        """
        if self.multi_hot is not None:
            return self.positives.per_prediction(self.multi_hot)
        return self.labels if background is None else self.labels.masked_fill(self.labels < 0, background)

    def class_targets_of_rows(self) -> Tensor:
        """The same for the positives: labels (R,), or targets (R, C)."""
        return self.labels_of_rows() if self.multi_hot is None else self.multi_hot

    def num_counted(self) -> Tensor:
        """``(*batch,)``, float32 at least: the sum of the weights of all that are not ignored."""
        if self.weights is None:
            return (self.labels != IGNORED).sum(-1, dtype=torch.float32)
        return self.counted(torch.ones_like(self.weights)).sum(-1)

    def labels_of_rows(self) -> Tensor:
        """(R,), the classes of the positives; 0 in rows that are not valid."""
        return self.positives.of_predictions(self.labels)

    def quality_of_rows(self) -> Tensor:
        """(R,)."""
        return self.positives.of_predictions(self.quality)


def _labels_of(targets: Targets, index: Tensor) -> Tensor:
    """The label of the target of each prediction ``(*batch, P)``; what stands in place of a target is its label."""
    if targets.labels is None or targets.is_multi_hot:
        return index.clamp(max=0)
    if targets.max_num_targets == 0:
        return index
    labels = targets.labels.tensor.expand(*index.shape[:-1], targets.max_num_targets)
    return torch.where(index < 0, index, labels.gather(-1, index.clamp(min=0)))


def _check_same_targets(targets: Targets, assignment: Assignment) -> None:
    own, batch = targets.batch_shape, tuple(assignment.target_index.shape[:-1])
    if batch[len(batch) - len(own) :] != own:
        raise ValueError(f"the batch shape {batch} of the assignment must end with {own}, that of the targets")
    if assignment.max_num_targets != targets.max_num_targets:
        raise ValueError(
            f"the assignment is of {assignment.max_num_targets} targets at most, there are {targets.max_num_targets}"
        )
    sizes = targets.num_targets.expand(batch)
    check_equal_sizes(assignment.num_targets, sizes, what="the assignment and the targets")


register_dataclass(AssignedTargets)
