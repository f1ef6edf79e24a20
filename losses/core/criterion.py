"""What the criteria have in common: matching and loss as two steps, and how terms are reduced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses.core.assigned import AssignedTargets
from losses.core.looking_up import check_one_label, checked_assignment, look_up
from losses.core.normalizer import Normalizer, checked_normalizer
from losses.core.ragged_predictions import check_filler_is_ignored, of_sizes
from losses.core.terms import Losses, Terms, check_reduction, count_terms, reduce_terms
from matchers.assignments.assignment import Assignment
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged.values.checks import check_is_callable, checked_positive
from ragged.values.precision import WideModule

GlobalCount = Mapping[str, Any] | Tensor | float | None


class Criterion(WideModule):
    """Base class of a criterion: matches predictions with targets, then computes the loss.

    A call is ``assign`` and ``loss`` in one. The docstring of each criterion has its formula and its defaults.

    To write your own, derive from this class and define two methods: ``match`` assigns predictions to targets, and
    ``terms`` returns the values to sum up and their divisors. Define ``read``, too, if you convert predictions first.
    The base class does the rest: it reads once, reduces, and counts over several ranks.

    Args:
        num_classes: C, without a background. None if the class sets ``CLASSES_OF_PREDICTIONS``.
        matcher: Called with ``Predictions``, ``Targets`` and priors; gives an ``Assignment``.
        reduction: ``"mean"``: a scalar for each term, the sum over the batch divided by a count over the batch.
            ``"sample"``: ``(B,)``, the loss of each image as if it were alone in the batch. ``"none"``: a RaggedBatch
            ``(B, P)``, one value for each prediction, weighted but not divided, ragged like the predictions.
            ``"sum"``: a scalar, not divided.
        normalizer: Sums counts over all ranks, and clamps them to a minimum.

    Raises:
        TypeError, ValueError: A parameter is out of range.
    """

    num_classes: int

    def __init__(
        self,
        num_classes: int | None,
        *,
        matcher: Callable[..., Any],
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__()
        if num_classes is not None or not self.CLASSES_OF_PREDICTIONS:
            self.num_classes = checked_positive(num_classes, "num_classes")
        self.matcher = matcher
        self.reduction = reduction
        check_is_callable(matcher, "matcher", "a matcher")
        self.normalizer = checked_normalizer(normalizer)

    @property
    def reduction(self) -> str:
        """See the class. You can set it. Raises ``ValueError`` for an unknown value."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: str) -> None:
        check_reduction(reduction)
        self._reduction = reduction

    def forward(
        self,
        predictions: Any,
        targets: Any,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> Any:
        """Assign, and compute the loss.

        Args:
            predictions: The outputs of the head; see the criterion.
            targets: Anything that ``Targets.of`` reads.
            valid_label_mask: (B, C), or a shape that broadcasts to it: the annotated classes of each image, as booleans
                or weights. The others have no class loss in this image.
            global_count: Totals over all ranks and micro-batches, sums of results of ``counts``; see ``Normalizer``.

        Returns:
            A dict of the weighted terms by name; shapes as ``reduction`` says.

        Raises:
            TypeError, ValueError: Predictions or targets have a wrong shape, dtype or device.
        """
        read = self._read(predictions, valid_label_mask)
        own = self.read_targets(targets, read).of_one_call()
        return self.loss(read, own, self.assign(read, own), global_count=global_count)

    @torch.no_grad()
    def assign(self, predictions: Any, targets: Any) -> Any:
        """The first step: assign predictions to targets. Arguments as for a call."""
        read = self.read(predictions)
        return self.match(read, self.read_targets(targets, read))

    def loss(
        self,
        predictions: Any,
        targets: Any,
        assignment: Any = None,
        *,
        valid_label_mask: Tensor | None = None,
        global_count: GlobalCount = None,
    ) -> Any:
        """The second step: the loss of predictions whose targets are known.

        Args:
            predictions: As for a call.
            targets: As for a call; or ``AssignedTargets``, which need no assignment.
            assignment: The assignment, as ``assign`` returns it for these targets.
            valid_label_mask, global_count: As for a call.
        """
        read = self._read(predictions, valid_label_mask)
        terms = self._terms(read, targets, assignment)
        return self.finished(self._reduced(read, terms, global_count), read, terms)

    @torch.no_grad()
    def counts(self, predictions: Any, targets: Any, assignment: Any = None) -> dict[str, Tensor]:
        """The count of each term, summed over all ranks. Add the counts of your micro-batches and pass the sum as
        ``global_count``.

        Arguments as for ``loss``. Counts are not clamped, so you can add them.
        """
        read = self.read(predictions)
        terms = self._terms(read, targets, assignment)
        return count_terms(terms, self.normalizer, layers=self.num_layers(read), counted=self.COUNTS)

    def call_matcher(self, *args: Any, **kwargs: Any) -> Assignment:
        """Call the matcher. Raises ``TypeError`` unless it returns an ``Assignment``."""
        return checked_assignment(self.matcher(*args, **kwargs), self.matcher, type(self).__name__)

    def _read(self, predictions: Any, mask: Tensor | None) -> Any:
        read = self.read(predictions)
        return read if mask is None else self.with_class_mask(read, mask)

    def _reduced(self, read: Any, terms: Terms, global_count: GlobalCount) -> Losses:
        losses = reduce_terms(
            terms,
            reduction=self.reduction,
            normalizer=self.normalizer,
            global_count=global_count,
            layers=self.num_layers(read),
            counted=self.COUNTS,
        )
        if self.reduction == "none":
            losses = {name: of_sizes(values, self.sizes_of(read, name)) for name, values in losses.items()}
        return losses

    def _terms(self, read: Any, targets: Any, assignment: Any) -> Terms:
        own = targets if isinstance(targets, AssignedTargets) else self.read_targets(targets, read)
        if not self.MULTI_HOT:
            check_one_label(own, type(self).__name__)
        assigned = self.look_up(read, own, assignment)
        if isinstance(assigned, AssignedTargets):
            check_filler_is_ignored(assigned.labels, self.sizes_of(read))
        return self.terms(read, assigned)

    # --- what a criterion has to say -------------------------------------------------------------------------------

    def match(self, predictions: Any, targets: Targets) -> Any:
        """The assignment for predictions that ``read`` returned; runs without gradients."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it matches")

    def terms(self, predictions: Any, assigned: Any) -> Terms:
        """The terms before they are reduced, from the results of ``read`` and ``look_up``."""
        raise NotImplementedError(f"{type(self).__name__} does not define its terms")

    # --- what it may say -------------------------------------------------------------------------------------------

    COUNTS: tuple[str, ...] = ()
    """Names of all counts that any rank can have. Every rank reduces all of them, so that collectives match."""
    CLASSES_OF_PREDICTIONS: bool = False
    """Whether the predictions determine the number of classes. If so, there is no attribute ``num_classes``."""
    MULTI_HOT: bool = False
    """Whether ``terms`` reads ``AssignedTargets.class_targets``, and so learns from targets with several labels each.
    Otherwise such targets are an error."""

    BOXES: ClassVar[Mapping[str, Any]] = MappingProxyType({"box_format": "xyxy", "normalized": False})
    """Format and unit of ``AssignedTargets.boxes``, the boxes that ``terms`` is given; ``normalized=None`` keeps the
    unit of the targets."""

    def read(self, predictions: Any) -> Any:
        """Convert predictions to the internal form. Returns them unchanged if they have it."""
        return predictions

    def with_class_mask(self, predictions: Any, mask: Tensor) -> Any:
        """The predictions with a class mask. Delegates to ``with_class_mask`` of what ``read`` returned."""
        own = getattr(predictions, "with_class_mask", None)
        if own is None:
            raise ValueError(f"{type(self).__name__} takes no valid_label_mask, got {tuple(mask.shape)}")
        return own(mask)

    def read_targets(self, targets: Any, predictions: Any) -> Targets:
        """The targets of what was read; raw layouts hold xyxy boxes in pixels, unless the criterion says otherwise."""
        return Targets.of(targets)

    def look_up(self, predictions: Any, targets: Targets | AssignedTargets, assignment: Any) -> Any:
        """What ``terms`` is given: the targets of the predictions, from an assignment, or from ``AssignedTargets``.

        Boxes are as ``BOXES`` says: xyxy, in pixels, unless the criterion says otherwise.
        """
        num_classes = None if self.CLASSES_OF_PREDICTIONS else self.num_classes
        return look_up(targets, assignment, num_classes=num_classes, **self.BOXES)

    def sizes_of(self, predictions: Any, name: Any = None) -> Tensor | None:
        """How many predictions each image has, ``(*batch,)``, if predictions are ragged; None if every image has P.

        Args:
            predictions: What was read.
            name: Of a term, where terms are of different predictions.
        """
        return predictions.sizes if isinstance(predictions, Predictions) else None

    def num_layers(self, predictions: Any) -> int:
        """How many leading dimensions of what was read are layers, each with a loss and counts of its own."""
        return 0

    def finished(self, losses: Losses, predictions: Any, terms: Terms) -> Any:
        """The return value of a call, made from the reduced terms."""
        return losses
