"""The criterion of the head that looks at each proposed box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from losses.coders.boxes import BoxCoder, DeltaXYWHCoder, check_coder
from losses.core.assigned import AssignedTargets
from losses.core.background import background_label, check_target_labels
from losses.core.criterion import Criterion
from losses.core.looking_up import look_up
from losses.core.normalizer import Normalizer
from losses.core.terms import Term, Terms
from losses.criteria.two_stage.rpn import Sampler
from losses.functional.boxes import smooth_l1_loss
from losses.functional.softmax import cross_entropy
from losses.heads.anchors import entries_of
from losses.heads.proposals import ProposalPredictions, as_proposals, of_proposals
from losses.modules.adapters import traits_of
from losses.modules.base import BoxLoss, ClassLoss
from losses.modules.boxes import box_values
from losses.modules.checks import check_loss
from losses.modules.classes import sum_of_classes
from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import IGNORED
from matchers.assignments.sampling import RandomSampler
from matchers.dense.max_iou import MaxIoU
from matchers.pairs.predictions import Predictions
from matchers.targets.targets import Targets
from ragged import RaggedBatch, batched_bool_indexing, cat_targets, get_compact_lists
from ragged.values.checks import check_count, check_flag, check_is_callable, check_one_of
from ragged.values.keys import KnownKeys
from ragged.values.precision import wide

HEAD = KnownKeys(("class_logits", "box_regression", "proposals"))
"""What the predictor of torchvision gives, and what it looked at."""
POSITIONS = ("first", "last")


class RoICriterion(Criterion):
    """The loss of the second stage of Faster R-CNN (Ren et al., 2015): classes and boxes of sampled proposals.

    The head sees only a few proposals of each image. ``sample`` chooses them first and assigns their targets:

    >>> boxes = [torch.tensor([[1.0, 0.0, 9.0, 8.0], [8.0, 0.0, 16.0, 8.0]])]
    >>> targets = ([torch.tensor([[0.0, 0.0, 8.0, 8.0]])], [torch.tensor([1])])
    >>> criterion = RoICriterion(3)
    >>> proposals, assignment = criterion.sample(boxes, targets)
    >>> logits, deltas = torch.zeros(3, 3), torch.zeros(3, 12)  # of the head, for proposals.split()
    >>> criterion.loss((logits, deltas, proposals), targets, assignment)["loss_cls"]
    tensor(1.0986)

    A call with predictions for all proposals matches them, samples, and computes the loss of the samples.

    Predictions are ``(class scores, boxes, proposals)``, or a dict with ``"class_logits"``, ``"box_regression"`` and
    ``"proposals"``. Class scores are logits (B, P, C), boxes (B, P, 4 K) encoded by ``bbox_coder``, proposals (B, P,
    4), xyxy in pixels. Each can be a RaggedBatch, ragged along P; scores and boxes can be rows (R, C) and (R, 4 K),
    image after image, and proposals a list with a tensor (n, 4) for each image. K is 1 for class-agnostic boxes, C for
    a box for each class, or C - 1 without a box for the background. Targets are in pixels, or have a ``canvas_size``.

    Terms, each divided by the number of sampled proposals of the batch, at least 1:

    * ``loss_cls``: of the sampled proposals, softmax cross entropy;
    * ``loss_bbox``: of the positives among them, smooth L1 of the encoded boxes of the target's class.

    Args:
        num_classes: C, the background included. The attribute of this name does not count it.
        bbox_coder: Default: ``DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))``.
        loss_cls: A loss in place of the cross entropy, of logits (R, C) and labels (R,).
        loss_bbox: A loss in place of smooth L1, which becomes linear at 1/9; it compares what the coder makes of boxes.
        bg_class_position: Of the background among the C classes: ``"first"``, labels of targets start at 1; or
            ``"last"``.
        matcher: Positive from an IoU of 0.5. Default: ``MaxIoU(match_low_quality=False)``. It is called with the
            proposals as predicted boxes, without logits or priors. Filler has box 0; the criterion ignores its match.
        sampler: Draws from the assignment. Default: ``RandomSampler(num_samples=512, positive_fraction=0.25)``.
        reduction, normalizer: See ``Criterion``.

    Raises:
        KeyError: A dict has an unknown key, or a required key is missing.
        TypeError, ValueError: Shapes or numbers of classes that do not fit; a label outside ``0 … C - 1``, or that of
            the background.

    ``assign`` and ``sample`` are random. For the same samples, give the sampler a generator in the same state.

    Differences to other implementations: in torchvision, a batch without any sample has loss NaN.

    A detector has the terms of both stages, ``RPNCriterion(…)(…) | RoICriterion(…).loss(…)``.
    """

    def __init__(
        self,
        num_classes: int,
        bbox_coder: BoxCoder | None = None,
        loss_cls: ClassLoss | None = None,
        loss_bbox: BoxLoss | None = None,
        *,
        bg_class_position: str = "first",
        matcher: Callable[..., Assignment] | None = None,
        sampler: Sampler | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        check_count(num_classes, "num_classes")
        if num_classes < 2:
            raise ValueError(f"num_classes counts the background, so that it must be 2 at least, got {num_classes}")
        matcher = MaxIoU(match_low_quality=False) if matcher is None else matcher
        super().__init__(num_classes - 1, matcher=matcher, reduction=reduction, normalizer=normalizer)
        check_one_of(bg_class_position, POSITIONS, "bg_class_position")
        self.bg_class_position = bg_class_position
        self.sampler = RandomSampler(num_samples=512, positive_fraction=0.25) if sampler is None else sampler
        check_is_callable(self.sampler, "sampler", "a sampler, as RandomSampler")
        self.loss_cls = cross_entropy if loss_cls is None else loss_cls
        self.loss_bbox = partial(smooth_l1_loss, beta=1 / 9) if loss_bbox is None else loss_bbox
        check_loss(self.loss_cls, "loss_cls")
        check_loss(self.loss_bbox, "loss_bbox")
        self.bbox_coder = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2)) if bbox_coder is None else bbox_coder
        check_coder(self.bbox_coder, "bbox_coder")

    @torch.no_grad()
    def sample(self, proposals: Any, targets: Any, *, add_gt_proposals: bool = True) -> tuple[RaggedBatch, Assignment]:
        """Sampled proposals for the head, and their targets.

        Args:
            proposals: See the class.
            targets: Anything that ``Targets.of`` reads.
            add_gt_proposals: Whether the boxes of targets are proposed, too, after the others.

        Returns:
            Proposals (B, S, 4), ragged along S, in their order, and their assignment (B, S), whose filler is ignored. S
            is the sampler's ``num_samples`` or the number of proposals, whichever is less; nothing waits for the
            device.
        """
        check_flag(add_gt_proposals, "add_gt_proposals")
        given, own = as_proposals(proposals), self.read_targets(targets, None)
        if add_gt_proposals:
            boxes = own.boxes.create_with_sample_sizes_like_self(own.boxes_as("xyxy", normalized=False))
            if own.ignore is not None:
                boxes = batched_bool_indexing(boxes, own.matchable, max_size=own.max_num_targets)
            given = cat_targets([given, boxes])
        drawn = self._drawn(given.with_padded_set_to(0), own)
        most = min(given.max_sample_size, getattr(self.sampler, "num_samples", given.max_sample_size))
        parts = [given.tensor, drawn.target_index, drawn.quality]
        kept, index, quality = get_compact_lists(~drawn.is_ignored, parts, max_size=most)
        assignment = replace(
            drawn,
            target_index=index.with_padded_set_to(IGNORED).tensor,
            quality=quality.with_padded_set_to(0).tensor,
            max_pairs=min(drawn.max_pairs, most),
        )
        return kept, assignment

    def read(self, predictions: Any) -> ProposalPredictions:
        """Scores, boxes and proposals, padded, with filler of 0."""
        if isinstance(predictions, ProposalPredictions):
            return predictions
        predictions = entries_of(predictions, HEAD, needed=3)
        if not isinstance(predictions, Sequence) or len(predictions) != 3:
            got = f"{len(predictions)} entries" if isinstance(predictions, Sequence) else type(predictions).__name__
            raise TypeError(f"predictions must be (class scores, boxes, proposals); got {got}")
        scores, boxes, proposals = predictions
        proposals = as_proposals(proposals).with_padded_set_to(0).detach()
        logits, deltas = of_proposals(scores, proposals, "class scores"), of_proposals(boxes, proposals, "boxes")
        count = self.num_classes + 1
        if logits.shape[-1] != count:
            raise ValueError(
                f"class scores must have {count} classes, the background included, got {tuple(logits.shape)}"
            )
        if deltas.shape[-1] not in (4, 4 * count, 4 * count - 4):
            wanted = f"4, {4 * count - 4} or {4 * count}"
            raise ValueError(f"boxes must have {wanted} channels, 4 for each of K classes, got {tuple(deltas.shape)}")
        return ProposalPredictions(logits, deltas, proposals.tensor, proposals.mask)

    def match(self, predictions: ProposalPredictions, targets: Targets) -> Assignment:
        """Match proposals, and draw from them."""
        sizes = predictions.mask.sum(-1)
        return self._drawn(RaggedBatch._unchecked(predictions.proposals, predictions.mask, sizes, 0), targets)

    def look_up(
        self, predictions: ProposalPredictions, targets: Targets | AssignedTargets, assignment: Assignment | None
    ) -> AssignedTargets:
        """The targets of the proposals; labels are those of channels."""
        if isinstance(targets, Targets):
            check_target_labels(targets, self.bg_class_position, self.num_classes + 1, "RoICriterion")
        return look_up(targets, assignment, normalized=False)

    def terms(self, predictions: ProposalPredictions, assigned: AssignedTargets) -> Terms:
        """See the class."""
        rows, count = assigned.positives, {"num_samples": assigned.num_counted()}
        background = background_label(self.bg_class_position, self.num_classes + 1)
        labels = torch.where(assigned.is_positive, assigned.labels, background)
        logits = wide(predictions.logits.flatten(0, -2))
        scores = sum_of_classes(traits_of(self.loss_cls).with_labels(logits, labels.flatten(), one_hot=False), logits)
        deltas = self._of_class(wide(rows.of_predictions(predictions.deltas)), assigned.labels_of_rows())
        wanted = self.bbox_coder.encode(rows.of_priors(predictions.proposals), assigned.boxes)
        return {
            "loss_cls": Term(assigned.counted(scores.view(labels.shape)), count),
            "loss_bbox": Term(assigned.counted_rows(box_values(self.loss_bbox, deltas, wanted)), count, rows),
        }

    def _of_class(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """The boxes (R, 4) of the labelled classes, of boxes (R, 4 K) of all."""
        count = deltas.shape[-1] // 4
        if count == 1:
            return deltas
        if count == self.num_classes and self.bg_class_position == "first":
            labels = (labels - 1).clamp(min=0)  # of rows that are not valid, labels are 0
        index = labels.view(-1, 1, 1).expand(-1, 1, 4)
        return deltas.unflatten(-1, (count, 4)).gather(1, index).squeeze(1)

    def _drawn(self, proposals: RaggedBatch, targets: Targets) -> Assignment:
        """What the sampler leaves of proposals whose filler is 0."""
        check_target_labels(targets, self.bg_class_position, self.num_classes + 1, "RoICriterion")
        boxes = wide(proposals.tensor)
        found = self.call_matcher(Predictions(boxes=boxes, box_format="xyxy", normalized=False), targets)
        index = found.target_index.masked_fill(~proposals.mask, IGNORED)
        return self.sampler(replace(found, target_index=index, quality=found.quality.masked_fill(index < 0, 0)))
