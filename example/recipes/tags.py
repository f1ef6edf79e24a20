"""Tags and text, as in Grounding DINO: an object has any number of tags, and is named by tokens of its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from losses import AssignedTargets, Criterion, binary_cross_entropy, giou_loss, l1_loss, sigmoid_focal_loss
from losses.core.terms import Term
from matchers import (
    Assignment,
    Hungarian,
    Predictions,
    Targets,
    batched_cost,
    convert,
    detr_costs,
    focal_cost,
    sum_over_labels,
)

NUM_TOKENS = 24
"""Room for the tokens of a caption: logits have so many classes."""


def positive_map(spans: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """The tokens of each object, (n, NUM_TOKENS), of its spans ``(start, end)``."""
    found = np.zeros((len(spans), NUM_TOKENS), dtype=bool)
    for row, own in zip(found, spans, strict=True):
        for start, end in own:
            row[start:end] = True
    return torch.from_numpy(found)


def collate(truth: Sequence[Mapping[str, Any]]) -> tuple[Targets, Tensor]:
    """Targets, and the number of tokens (B,), of dicts with ``"boxes"``, ``"tags"``, ``"spans"`` and ``"tokens"``."""
    images = [{"boxes": t["boxes"], "tags": t["tags"], "labels": positive_map(t["spans"])} for t in truth]
    targets = Targets.of(images, fields=("tags",), box_format="cxcywh", normalized=True)
    return targets, torch.tensor([t["tokens"] for t in truth])


def cost_of_tags(gt: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
    """Mean focal cost of the tags of a target, (n, G, P)."""
    return sum_over_labels(focal_cost(predicted["tags"]), gt["tags"], mean=True)


class TagCriterion(Criterion):
    """Focal loss of tokens; binary cross entropy of tags, L1 and GIoU of the boxes of the positives."""

    BOXES: ClassVar[Mapping[str, Any]] = {"box_format": "cxcywh", "normalized": True}
    MULTI_HOT = True

    def match(self, predictions: Predictions, targets: Targets) -> Assignment:
        """One query for each target."""
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        """All divided by the number of positives."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        tokens = sigmoid_focal_loss(predictions.logits, assigned.class_targets()).sum(-1)
        tags, boxes = (rows.of_predictions(each) for each in (predictions.fields["tags"], predictions.boxes))
        overlap = giou_loss(*(convert(each, "cxcywh", "xyxy") for each in (boxes, assigned.boxes)))
        wrong = binary_cross_entropy(tags, assigned.fields["tags"]).sum(-1)
        distance = l1_loss(boxes, assigned.boxes).sum(-1)
        return {
            "loss_tokens": Term(assigned.counted(tokens), count),
            "loss_tags": Term(assigned.counted_rows(wrong), count, rows),
            "loss_bbox": Term(assigned.counted_rows(distance), count, rows, weight=5.0),
            "loss_giou": Term(assigned.counted_rows(overlap), count, rows, weight=2.0),
        }


costs = {**detr_costs(mean_over_labels=True), "tags": batched_cost(cost_of_tags)}
criterion = TagCriterion(num_classes=NUM_TOKENS, matcher=Hungarian(costs))


def tag_loss(outputs: Mapping[str, Tensor], targets: Targets, num_tokens: Tensor) -> dict[str, Tensor]:
    """The terms of ``"pred_logits"`` (B, Q, NUM_TOKENS), ``"pred_boxes"`` (B, Q, 4) and ``"tags"`` (B, Q, C)."""
    filler = torch.arange(NUM_TOKENS, device=num_tokens.device) >= num_tokens.unsqueeze(-1)
    logits = outputs["pred_logits"].masked_fill(filler.unsqueeze(1), -50)  # no loss, no gradient
    return criterion(Predictions.of({**outputs, "pred_logits": logits}, fields=("tags",)), targets)
