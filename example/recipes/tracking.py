"""Tracking by queries, as in MOTR: tracks keep their objects from frame to frame, free queries find new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses import AssignedTargets, Criterion, l1_loss, sigmoid_focal_loss
from losses.core.terms import Term
from matchers import Assignment, Hungarian, Predictions, Targets, detr_costs, match_by_key
from ragged import RaggedBatch, batched_indexing_access, cat_targets, key_padding_mask


def collate(frame: Sequence[Mapping[str, Any]]) -> Targets:
    """Targets of dicts with ``"boxes"`` (n, 4), cxcywh in fractions of the image, ``"labels"`` and ``"ids"`` (n,)."""
    return Targets.of(frame, fields=("ids",), box_format="cxcywh", normalized=True)


class TrackingCriterion(Criterion):
    """Focal loss of all queries, L1 of the boxes of those that have an object."""

    BOXES: ClassVar[Mapping[str, Any]] = {"box_format": "cxcywh", "normalized": True}

    def match(self, predictions: Predictions, targets: Targets) -> Assignment:
        """Tracks by their ids; free queries, whose id is -1, with the objects that have no track."""
        ids = predictions.as_batch("ids")
        known = match_by_key(targets.fields["ids"], ids)
        return self.call_matcher(predictions, targets, given=known, free=ids < 0)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        """Both divided by the number of queries with an object."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        classes = sigmoid_focal_loss(predictions.logits, assigned.labels).sum(-1)
        boxes = l1_loss(rows.of_predictions(predictions.boxes), assigned.boxes).sum(-1)
        return {
            "loss_cls": Term(assigned.counted(classes), count, weight=2.0),
            "loss_bbox": Term(assigned.counted_rows(boxes), count, rows, weight=5.0),
        }


criterion = TrackingCriterion(num_classes=3, matcher=Hungarian(detr_costs(giou_weight=0)))


def clip_loss(
    decoder: Callable[..., Mapping[str, Tensor]], detect: Tensor, memory: Tensor, clip: Sequence[Targets]
) -> dict[str, Tensor]:
    """The terms of all frames, divided by the number of objects in all of them.

    Args:
        decoder: Gives ``"logits"``, ``"boxes"`` and ``"hidden"`` (B, Q, …) of queries (B, Q, D), the memory of a frame,
            and a mask (B, Q) that is true for queries to be ignored.
        detect: Free queries (Q, D).
        memory: What the decoder attends to, (frames, B, M, D).
        clip: The targets of each frame.
    """
    count = torch.stack([targets.num_targets.sum() for targets in clip]).sum()
    free = RaggedBatch.from_full_tensor(detect.expand(memory.shape[1], -1, -1))
    nobody = RaggedBatch.from_full_tensor(torch.full(free.shape[:2], -1, device=detect.device))
    tracks = RaggedBatch.empty(free.batch_shape, detect.shape[1:], device=detect.device)
    ids = RaggedBatch.empty(free.batch_shape, dtype=torch.int64, device=detect.device)
    losses = []
    for seen, targets in zip(memory, clip, strict=True):
        queries, ids = cat_targets([free, tracks]), cat_targets([nobody, ids])
        outputs = decoder(queries.with_padded_set_to(0).tensor, seen, key_padding_mask(queries))
        logits, boxes = (queries.create_with_sample_sizes_like_self(outputs[name]) for name in ("logits", "boxes"))
        predictions = Predictions(logits, boxes, fields={"ids": ids})
        match = criterion.assign(predictions, targets)
        losses.append(criterion.loss(predictions, targets, match, global_count=count))
        gt, pred = match.pairs()
        tracks = batched_indexing_access(outputs["hidden"], pred)
        ids = batched_indexing_access(targets.fields["ids"], gt)
    return {name: torch.stack([each[name] for each in losses]).sum() for name in losses[0]}
