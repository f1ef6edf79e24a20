"""What the criteria have in common: matching and loss as two steps, and how terms are reduced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from losses.assigned import AssignedTargets, checked_assignment, look_up
from losses.normalizer import Normalizer, checked_normalizer
from losses.terms import Losses, Terms, check_reduction, count_terms, reduce_terms
from matchers.assignment import Assignment
from matchers.targets import Targets
from ragged.checks import check_is_callable, check_positive
from ragged.precision import WideModule

GlobalCount = Mapping[str, Any] | Tensor | float | None


class Criterion(WideModule):
    """A loss of predictions with a hard assignment to targets.

    Calling it is ``assign`` and ``loss`` in one. Whatever is not said here is said by the criterion.

    Args:
        num_classes: C, without a background.
        matcher: Called with ``Predictions``, ``Targets`` and priors; gives an ``Assignment``.
        reduction: ``"mean"``: each term is a number, the sum over the batch over a count of the batch. ``"sample"``:
            one value for each image, the loss that it would have alone. ``"none"``: a RaggedBatch, one value for each
            prediction, weighted but not divided. ``"sum"``: not divided.
        normalizer: How counts are added up over the ranks, and what they are at least.

    Raises:
        TypeError, ValueError: A parameter is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        matcher: Callable[..., Assignment],
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__()
        check_positive(num_classes, "num_classes")
        self.num_classes, self.matcher = num_classes, matcher
        self.reduction = reduction
        check_is_callable(matcher, "matcher", "a matcher")
        self.normalizer = checked_normalizer(normalizer)

    @property
    def reduction(self) -> str:
        """See the class. It can be set; another word is a ``ValueError``."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: str) -> None:
        check_reduction(reduction)
        self._reduction = reduction

    def forward(self, predictions: Any, targets: Any, *, global_count: GlobalCount = None) -> Losses:
        """Assign, and compute the loss.

        Args:
            predictions: What the head gives; see the criterion.
            targets: Anything that ``Targets.of`` reads.
            global_count: Totals of all ranks and micro-batches, as sums of what ``counts`` gives; see ``Normalizer``.

        Returns:
            The terms by name, weighted.
        """
        predictions, targets = self.read(predictions), self.read_targets(targets)
        return self.loss(predictions, targets, self.assign(predictions, targets), global_count=global_count)

    def assign(self, predictions: Any, targets: Any) -> Any:
        """The first step: which prediction is responsible for which target. Arguments as for a call."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it assigns")

    def loss(
        self,
        predictions: Any,
        targets: Any,
        assignment: Any = None,
        *,
        global_count: GlobalCount = None,
    ) -> Losses:
        """The second step: the loss of predictions whose targets are known.

        Args:
            predictions: As for a call.
            targets: As for a call; or ``AssignedTargets``, which need no assignment.
            assignment: Of these targets.
            global_count: As for a call.
        """
        terms = self.terms(self.read(predictions), self.assigned(targets, assignment))
        return reduce_terms(terms, reduction=self.reduction, normalizer=self.normalizer, global_count=global_count)

    @torch.no_grad()
    def counts(self, predictions: Any, targets: Any, assignment: Any = None) -> dict[str, Tensor]:
        """What the terms would be divided by, over all ranks: summed over micro-batches, the ``global_count`` of all.

        Arguments as for ``loss``. They are not bounded from below yet, so that they can be added up.
        """
        return count_terms(self.terms(self.read(predictions), self.assigned(targets, assignment)), self.normalizer)

    def matched_by(self, *args: Any, **kwargs: Any) -> Assignment:
        """What the matcher says; a ``TypeError`` unless that is an ``Assignment``."""
        return checked_assignment(self.matcher(*args, **kwargs), self.matcher, type(self).__name__)

    # --- what a criterion says -------------------------------------------------------------------------------------

    def read(self, predictions: Any) -> Any:
        """The predictions in the form that is computed on; what has this form already is given back."""
        return predictions

    def read_targets(self, targets: Any) -> Targets:
        """The targets; raw layouts hold xyxy boxes in pixels, unless the criterion says otherwise."""
        return Targets.of(targets)

    def terms(self, predictions: Any, assigned: AssignedTargets) -> Terms:
        """The terms before they are reduced, of predictions that were read."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its terms are")

    def assigned(self, targets: Any, assignment: Assignment | None) -> AssignedTargets:
        """The targets of the predictions; boxes are xyxy, in pixels."""
        return look_up(targets, assignment, self.read_targets, normalized=False, num_classes=self.num_classes)
