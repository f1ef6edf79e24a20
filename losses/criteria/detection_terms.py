"""The terms of a detection loss, for hard assignments and for soft plans."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from losses.coders.boxes import BoxCoder
from losses.core.assigned import AssignedTargets
from losses.core.ragged_predictions import check_filler_has_no_mass, check_filler_is_ignored
from losses.core.terms import Term
from losses.functional.expected import expected_loss
from losses.functional.mining import hardest_negatives
from losses.modules.adapters import traits_of
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import box_values
from losses.modules.classes import sum_of_classes
from matchers.assignments.assignment import Assignment, Plan
from matchers.targets.targets import Targets
from ragged.batch.layout import check_same_sizes
from ragged.values.checks import check_weights
from ragged.values.precision import wide


@dataclass(frozen=True, eq=False)
class DetectionTerms:
    """Predictions, and how they are judged.

    Args:
        logits: ``(*batch, P, C)``, float32 at least.
        boxes: ``(*batch, P, 4)``, xyxy, in the unit of the targets; or what an ``EncodedLoss`` takes.
        cls_loss, loc_loss: Not reduced.
        background: The label of the background; -1 if that is no class.
        ratio: How many negatives are trained for each positive; None for all.
        negatives_without_positives: How many, with a ratio, of an image without any positive.
    """

    logits: Tensor
    boxes: Tensor
    cls_loss: ClassLoss
    loc_loss: BoxLoss
    background: int
    ratio: float | None = None
    negatives_without_positives: float = 0.0

    def of_assignment(
        self, targets: Targets, assignment: Assignment, *, sizes: Tensor | None = None
    ) -> dict[str, Term]:
        """The terms of a hard assignment; ``sizes`` are of ragged predictions."""
        _check_assignment(assignment, self.logits.shape[:-1])
        check_filler_is_ignored(assignment.target_index, sizes)
        assigned = AssignedTargets.of(targets, assignment)
        labels = assigned.class_targets(self.background)
        values = self._of_labels(self.logits, labels)
        positive = assigned.counted(assigned.is_positive.to(values.dtype))
        negative = assignment.is_background
        trained = positive + self._mined(values, positive, negative).to(values.dtype)
        weights = traits_of(self.cls_loss).class_weights(self.logits)
        if weights is not None and assigned.multi_hot is not None:
            raise ValueError("a class loss with class weights counts one label of each target, got multi-hot ones")
        counted = positive if weights is None else positive * weights[labels.clamp(min=0)]
        rows = assigned.positives
        boxes = box_values(self.loc_loss, rows.of_predictions(self.boxes), assigned.boxes)
        return {
            "loss_cls": Term(
                values.masked_fill(trained == 0, 0) * trained, self._num_classified(counted.sum(-1), negative, weights)
            ),
            "loss_loc": Term(assigned.counted_rows(boxes), {"num_positives": assigned.num_positives()}, rows),
        }

    def of_plan(self, targets: Targets, plan: Plan, *, sizes: Tensor | None = None) -> dict[str, Term]:
        """The terms of a soft plan; ``sizes`` as above. Nothing has a value for each class of each pair."""
        shape = self.logits.shape[:-1]
        if targets.is_multi_hot:
            raise ValueError(
                "a plan divides targets of one label each, got multi-hot ones; plan.assignment() makes a hard match"
            )
        _check_plan(targets, plan, shape)
        if sizes is not None:
            mass = plan.weights.with_padded_set_to(0).tensor
            check_filler_has_no_mass(mass, plan.background, sizes)
        labels, theirs, mass = _merged(targets, plan, shape[:-1])
        values = self._of_mass(labels, mass, plan.background.detach().flatten(0, -2))
        boxes = expected_loss(
            partial(box_values, self.loc_loss),
            self.boxes.flatten(0, -3),
            theirs,
            mass,
            has_parameters=_has_parameters(self.loc_loss),
        )
        weights = traits_of(self.cls_loss).class_weights(self.logits)
        per_target = mass.sum(1)
        counted = per_target if weights is None else per_target * weights[labels]
        return {
            "loss_cls": Term(
                values.view(shape), self._num_classified(counted.sum(-1).view(shape[:-1]), plan.background, weights)
            ),
            "loss_loc": Term(boxes.view(shape), {"num_positives": per_target.sum(-1).view(shape[:-1])}),
        }

    def _of_mass(self, labels: Tensor, mass: Tensor, background: Tensor) -> Tensor:
        """Class losses (N, P) of labels (N, G) with mass (N, P, G), and of the background (N, P)."""
        logits, total = self.logits.flatten(0, -3), mass.sum(-1)
        num_classes = logits.shape[-1]
        known = traits_of(self.cls_loss).per_class(logits)
        if known is not None:
            by_class = _mass_of_classes(labels, mass, num_classes)
            taken = background
            if self.ratio is not None:
                taken = background * self._mined(background * known.of_label(self.background), total, background)
            if self.background >= 0:
                by_class[..., self.background] += taken
            return known.of_mass(by_class, total + taken)
        alone = self._of_labels(logits, torch.full_like(background, self.background, dtype=torch.int64))
        taken = background
        if self.ratio is not None:
            taken = background * self._mined(background * alone, total, background)
        if num_classes <= mass.shape[-1]:
            mass = _mass_of_classes(labels, mass, num_classes)
            labels = torch.arange(num_classes, device=labels.device).expand(mass.shape[0], -1)
        mixed = expected_loss(self._of_labels, logits, labels, mass, has_parameters=_has_parameters(self.cls_loss))
        return alone.masked_fill(taken == 0, 0) * taken + mixed

    def _of_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        shape = logits.shape[:-1]
        rows, labels = logits.flatten(0, -2), labels.flatten(0, len(shape) - 1)
        values = traits_of(self.cls_loss).with_labels(rows, labels, one_hot=self.background < 0)
        return sum_of_classes(values, rows).view(shape)

    def _mined(self, loss: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Which of the negatives are trained, ``(…, P)``, bool."""
        if self.ratio is None:
            return negative
        return hardest_negatives(
            loss.detach(),
            positive,
            ratio=self.ratio,
            negative=negative,
            negatives_without_positives=self.negatives_without_positives,
        )

    def _num_classified(self, positive: Tensor, negative: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """The divisor of the class loss: with a background class and without mining, negatives count as well."""
        if self.background < 0 or self.ratio is not None:
            return {"num_classified": positive}
        count = negative.sum(-1)
        return {"num_classified": positive + (count if weights is None else count * weights[self.background])}


@dataclass(frozen=True, eq=False)
class EncodedLoss:
    """A loss of what a coder makes of boxes.

    Args:
        coder: Of boxes relative to priors, xyxy.
        loss: Of boxes that are encoded.
    """

    coder: BoxCoder
    loss: BoxLoss

    @staticmethod
    def with_priors(deltas: Tensor, priors: Tensor) -> Tensor:
        """Encoded boxes ``(*batch, P, 4)`` and their priors, which may lack batch dimensions, in one tensor."""
        return torch.cat([deltas, wide(priors.detach()).to(deltas.dtype).expand(deltas.shape)], -1)

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Of encoded boxes with their priors (…, 8), and boxes (…, 4)."""
        deltas, priors = pred.split(4, -1)
        return self.loss(deltas, self.coder.encode(priors, target))


def _merged(targets: Targets, plan: Plan, batch: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Labels (N, G) and xyxy boxes (N, G, 4) of targets, and how much of them predictions have, (N, P, G)."""

    def merged(values: Tensor) -> Tensor:
        rest = values.shape[len(targets.batch_shape) :]
        return values.expand(*batch, *rest).reshape(math.prod(batch), *rest)

    without = ~merged(targets.matchable)
    mass = plan.weights.tensor.detach().flatten(0, -3).masked_fill(without.unsqueeze(1), 0)
    if targets.weights is not None:
        mass = mass * merged(targets.weights.tensor.detach()).masked_fill(without, 0).unsqueeze(1)
    return merged(targets.labels.tensor).masked_fill(without, 0), merged(targets.boxes_as("xyxy").detach()), mass


def _mass_of_classes(labels: Tensor, mass: Tensor, num_classes: int) -> Tensor:
    """Mass (N, P, G) of targets with labels (N, G), added up by class, (N, P, C)."""
    none = mass.new_zeros(*mass.shape[:2], num_classes)
    return none.scatter_add(-1, labels.unsqueeze(1).expand_as(mass), mass)


def _has_parameters(loss: ClassLoss | BoxLoss) -> bool:
    loss = loss.loss if isinstance(loss, EncodedLoss) else loss
    return isinstance(loss, nn.Module) and any(each.requires_grad for each in loss.parameters())


def _check_assignment(assignment: Assignment, shape: torch.Size) -> None:
    if assignment.target_index.shape != shape:
        raise ValueError(
            f"the assignment must have a target index for each prediction, {tuple(shape)}, "
            f"got {tuple(assignment.target_index.shape)}"
        )


def _check_plan(targets: Targets, plan: Plan, shape: torch.Size) -> None:
    expected = (*shape, targets.max_num_targets)
    if tuple(plan.weights.tensor.shape) != expected or plan.background.shape != shape:
        raise ValueError(
            f"the plan must have weights {expected} and a background {tuple(shape)}, as there are predictions and "
            f"targets, got {tuple(plan.weights.tensor.shape)} and {tuple(plan.background.shape)}"
        )
    check_weights(plan.weights.tensor, "the weights of the plan", counts=plan.weights.aligned_mask)
    check_weights(plan.background, "the background of the plan")
    labels = targets.labels
    if labels.num_batch_dims < len(shape) - 1:
        labels = labels.broadcast_batch_dims_to_shape(tuple(shape[:-1]))
    check_same_sizes(plan.weights, labels, what="the plan and the targets")
