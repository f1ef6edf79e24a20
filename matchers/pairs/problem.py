"""The input of a matcher in one form: all images in one batch, boxes in one format and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.assignments.assignment import Assignment, Plan
from matchers.geometry.boxes import stacked_coordinates
from matchers.pairs import reading
from matchers.pairs.predictions import Predictions
from matchers.pairs.settled import Settled
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.values.checks import check_same_device
from ragged.values.once import once
from ragged.values.precision import wide
from ragged.values.sizes import prefix_mask

# On a CPU, what is computed of a block should fit the cache.
_USUAL_BYTES, _USUAL_BYTES_ON_DEVICE = 1 << 24, 1 << 30
# About sixteen float32 matrices are alive at once.
_BYTES_PER_PAIR = 64

AnyPredictions = Predictions | Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """N images with P predictions and at most G targets each; boxes are xyxy, all in one unit.

    Args:
        predictions: As given, batch dimensions merged into N.
        boxes: Predicted boxes (N, P, 4), or None.
        priors: Priors (P, 4) or (N, P, 4), or None.
        gt_boxes: (N, G, 4); filler is 0. None if targets have no boxes.
        labels: (N, G), or (N, G, C) if they are multi-hot; filler is 0. None if targets have no labels.
        matchable: (N, G), true for targets that are neither filler nor ignored nor given to a prediction already.
        ignored: (N, G), true for ignored targets, or None if there are none by construction.
        num_targets: (N,), ignored ones included.
        batch_shape: What N stands for.
        known_sizes: ``num_targets`` as numbers of the host, if it knows them though it cannot read the tensor.
        max_pairwise_bytes: How much memory may be taken for pairs at once; None for a usual amount.
        fields: Those of the targets, (N, G, …) by name; filler is 0.
        settled: Predictions that are not to be matched: filler, and those with a given target. None if there are none.
        computed: What was computed on the way, for all blocks of pairs.
    """

    predictions: Predictions
    boxes: Tensor | None
    priors: Tensor | None
    gt_boxes: Tensor
    labels: Tensor
    matchable: Tensor
    ignored: Tensor | None
    num_targets: Tensor
    batch_shape: tuple[int, ...]
    known_sizes: tuple[int, ...] | None = None
    max_pairwise_bytes: int | None = None
    fields: dict[str, Tensor] = field(default_factory=dict)
    settled: Settled | None = None
    computed: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        predictions: AnyPredictions | None,
        targets: Any,
        priors: Tensor | None = None,
        *,
        normalized: bool | None = None,
        max_pairwise_bytes: int | None = None,
        given: Assignment | None = None,
        free: RaggedBatch | Tensor | None = None,
    ) -> Problem:
        """Bring what a matcher was called with into one form.

        Args:
            predictions: Anything that ``Predictions.of`` reads; None if the priors take their place.
            targets: Anything that ``Targets.of`` reads.
            priors: ``(P, 4)`` or ``(*batch, P, 4)``, or None.
            normalized: The unit of all boxes; None means that of the targets.
            max_pairwise_bytes: See the class.
            given, free: Pairs that are known, and predictions that take part; see ``Hungarian``.

        Raises:
            ValueError: Shapes or devices do not fit, a label is out of range, or a unit cannot be converted.
        """
        targets = Targets.of(targets).of_one_call()
        predictions = (
            reading.in_place_of_predictions(priors, targets) if predictions is None else Predictions.of(predictions)
        )
        check_same_device(targets.device, predictions.device, name="targets", reference="predictions")
        batch_shape, own = predictions.batch_shape, targets.batch_shape
        if not own or batch_shape[len(batch_shape) - len(own) :] != own:
            raise ValueError(
                f"the batch shape {batch_shape} of predictions must end with the batch shape {own} of targets"
            )
        if predictions.logits is not None and targets.labels is not None:
            targets.check_labels(predictions.logits.shape[-1])

        settled = Settled.of(predictions, targets, given, free)
        parts = reading.merged_targets(targets, batch_shape, normalized)
        if settled is not None and settled.taken is not None:
            parts["matchable"] = parts["matchable"] & ~settled.taken
        return cls(
            predictions=reading.merged_predictions(predictions),
            boxes=reading.merged_boxes(predictions, targets, normalized),
            priors=reading.merged_priors(priors, predictions),
            batch_shape=batch_shape,
            max_pairwise_bytes=max_pairwise_bytes,
            settled=settled,
            **parts,
        )

    @property
    def num_samples(self) -> int:
        """N."""
        return self.matchable.shape[0]

    @property
    def num_predictions(self) -> int:
        """P."""
        return self.predictions.num_predictions

    @property
    def max_num_targets(self) -> int:
        """G."""
        return self.matchable.shape[1]

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.matchable.device

    @property
    def free(self) -> Tensor | None:
        """(N, P), true for predictions to be matched; None for all. The others are filler, or have a given target."""
        return None if self.settled is None else self.settled.free

    @property
    def num_free(self) -> int | Tensor:
        """The number of predictions of each image, at least 1: a number, or (N, 1)."""
        return max(self.num_predictions, 1) if self.free is None else self.free.sum(-1, keepdim=True).clamp(min=1)

    @property
    def pairs_at_once(self) -> int:
        """The number of pairs in a block that fits into the memory limit."""
        usual = _USUAL_BYTES if self.device.type == "cpu" else _USUAL_BYTES_ON_DEVICE
        return max((self.max_pairwise_bytes or usual) // _BYTES_PER_PAIR, 1)

    @property
    def is_empty(self) -> Tensor:
        """(N, 1), true for images without a target to be matched."""
        return ~self.matchable.any(-1, keepdim=True)

    @property
    def gt_parts(self) -> dict[str, Tensor]:
        """The parts of the targets by name."""
        return reading.only_known({"boxes": self.gt_boxes, "labels": self.labels, **self.fields})

    @property
    def predicted_parts(self) -> dict[str, Tensor]:
        """The parts of the predictions by name."""
        own = self.predictions
        known = {"boxes": self.boxes, "logits": own.logits, "objectness": own.objectness, **own.fields}
        return reading.only_known(known)

    def need_targets(self, name: str, who: str) -> Tensor:
        """The part of the targets of this name: ``"boxes"``, ``"labels"``, a field, (N, G, …); or ``ValueError``."""
        return reading.needed(self.gt_parts, name, who, "targets")

    def need_predictions(self, name: str, who: str) -> Tensor:
        """The part of the predictions of this name, (N, P, …); or a ``ValueError``. Boxes are those of the problem."""
        return reading.needed(self.predicted_parts, name, who, "predictions")

    def need_boxes(self, who: str) -> Tensor:
        """The predicted boxes (N, P, 4), or a ``ValueError`` that says who needs them."""
        if self.boxes is None:
            raise ValueError(f"{who} needs predicted boxes, got predictions without them")
        return self.boxes

    def need_logits(self, who: str) -> Tensor:
        """The class logits (N, P, C), or a ``ValueError`` that says who needs them."""
        if self.predictions.logits is None:
            raise ValueError(f"{who} needs class logits, got predictions without them")
        return self.predictions.logits

    def need_priors(self, who: str, what: str) -> Tensor:
        """The priors, or a ``ValueError`` that says who needs them."""
        if self.priors is None:
            raise ValueError(f"{who} needs priors: {what}")
        return self.priors

    def need_points(self, who: str) -> Tensor:
        """Priors that are grid points, (P, 4): x, y and strides."""
        points = self.need_priors(who, "grid points (P, 4): x, y, stride in x, stride in y, in pixels")
        return reading.checked_points(points, who)

    @property
    def predicted(self) -> Tensor:
        """Coordinates of the predicted boxes, stacked, (5, N, P)."""
        return once(self.computed, "predicted", lambda: stacked_coordinates(self.need_boxes("this matcher")))

    @property
    def log_normalizer(self) -> Tensor:
        """Logarithm of the softmax denominator of each prediction, (N, P)."""
        return once(self.computed, "log_normalizer", lambda: wide(self.need_logits("this matcher")).logsumexp(-1))

    @property
    def prior_boxes(self) -> Tensor:
        """Coordinates of the priors as xyxy boxes, stacked, (5, 1, P) or (5, N, P)."""
        priors = self.need_priors("this matcher", "xyxy boxes (P, 4) or (*batch, P, 4)")
        return once(self.computed, "prior_boxes", lambda: reading.stacked_prior_boxes(priors))

    def of_images(self, images: Tensor, most: int) -> Problem:
        """The problem of some images (n,), none of which has more than so many targets."""

        def of(value: Tensor) -> Tensor:
            return value.index_select(0, images)

        return replace(
            self,
            predictions=pytree.tree_map(of, self.predictions),
            boxes=None if self.boxes is None else of(self.boxes),
            priors=of(self.priors) if self.priors is not None and self.priors.dim() == 3 else self.priors,
            gt_boxes=reading.if_any(self.gt_boxes, lambda own: of(own[:, :most])),
            labels=reading.if_any(self.labels, lambda own: of(own[:, :most])),
            fields={name: of(value[:, :most]) for name, value in self.fields.items()},
            matchable=of(self.matchable[:, :most]),
            ignored=None if self.ignored is None else of(self.ignored[:, :most]),
            num_targets=of(self.num_targets),
            settled=reading.if_any(self.settled, lambda own: own.of_images(images)),
            batch_shape=tuple(images.shape),
            known_sizes=None,
            computed={},
        )

    def assignment(
        self,
        target_index: Tensor,
        *,
        quality: Tensor | None = None,
        num_invalid: Tensor | None = None,
        per_target: int | None = None,
    ) -> Assignment:
        """The result of a matcher, with the batch dimensions of the predictions again.

        Args:
            target_index: (N, P); that of filler, and of predictions with a given target, is known better.
            quality: (N, P), read where positive; 1 there if not given.
            num_invalid: (N,); 0 if not given.
            per_target: How many predictions a target has at most.
        """
        quality = (target_index >= 0).float() if quality is None else quality.masked_fill(target_index < 0, 0).float()
        num_invalid = torch.zeros_like(self.num_targets) if num_invalid is None else num_invalid
        most = self.num_predictions
        if per_target is not None:
            most = min(most, per_target * self.max_num_targets)
        if self.settled is not None:
            target_index, quality = self.settled.put_into(target_index, quality)
            most = min(self.num_predictions, most + self.settled.max_pairs)
        return Assignment(
            self.unmerged(target_index),
            self.unmerged(quality),
            self.unmerged(self.num_targets),
            self.unmerged(num_invalid),
            self.max_num_targets,
            most,
        )

    def plan(self, weights: Tensor, background: Tensor, num_invalid: Tensor, residual: Tensor | None = None) -> Plan:
        """The result of a soft matcher, with the batch dimensions of the predictions again.

        Args:
            weights: (N, P, G); those of filler, and of predictions with a given target, are known better.
            background: (N, P), likewise.
            num_invalid: (N,).
            residual: (N,), if the matcher has one.
        """
        if self.settled is not None:
            weights, background = self.settled.put_into_plan(weights, background)
        sizes = self.unmerged(self.num_targets)
        is_known = self.ignored is None and self.settled is None
        mask = self.unmerged(self.matchable) if is_known else prefix_mask(sizes, self.max_num_targets)
        return Plan(
            RaggedBatch._unchecked(self.unmerged(weights), mask, sizes, 1),
            self.unmerged(background),
            self.unmerged(num_invalid),
            None if residual is None else self.unmerged(residual),
        )

    def unmerged(self, tensor: Tensor) -> Tensor:
        """A tensor (N, …) with the batch dimensions of the predictions again."""
        return tensor.reshape(*self.batch_shape, *tensor.shape[1:])
