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
    """Targets, and which tokens are filler (B, 1, NUM_TOKENS).

    Of dicts with ``"boxes"`` (n, 4), cxcywh in fractions of the image, ``"tags"`` (n, C), ``"spans"``, a list for each
    object, and ``"tokens"``, how many the caption has.
    """
    images = [{"boxes": each["boxes"], "tags": each["tags"], "labels": positive_map(each["spans"])} for each in truth]
    targets = Targets.of(images, fields=("tags",), box_format="cxcywh", normalized=True)
    return targets, torch.arange(NUM_TOKENS) >= torch.tensor([[[each["tokens"]]] for each in truth])


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
        tokens = sigmoid_focal_loss(predictions.logits, assigned.class_targets())
        tags = binary_cross_entropy(rows.of_predictions(predictions.fields["tags"]), assigned.fields["tags"])
        boxes = rows.of_predictions(predictions.boxes).to(assigned.boxes)
        overlap = giou_loss(convert(boxes, "cxcywh", "xyxy"), convert(assigned.boxes, "cxcywh", "xyxy"))
        return {
            "loss_tokens": Term(assigned.counted(tokens.sum(-1)), count),
            "loss_tags": Term(assigned.counted_rows(tags.sum(-1)), count, rows),
            "loss_bbox": Term(assigned.counted_rows(l1_loss(boxes, assigned.boxes).sum(-1)), count, rows, weight=5.0),
            "loss_giou": Term(assigned.counted_rows(overlap), count, rows, weight=2.0),
        }


criterion = TagCriterion(
    num_classes=NUM_TOKENS,
    matcher=Hungarian({**detr_costs(mean_over_labels=True), "tags": batched_cost(cost_of_tags)}),
)


def tag_loss(outputs: Mapping[str, Tensor], targets: Targets, filler: Tensor) -> dict[str, Tensor]:
    """The terms of ``"pred_logits"`` (B, Q, NUM_TOKENS), ``"pred_boxes"`` (B, Q, 4) and ``"tags"`` (B, Q, C)."""
    logits = outputs["pred_logits"].masked_fill(filler, -50)  # neither a loss nor a gradient
    return criterion(Predictions.of({**outputs, "pred_logits": logits}, fields=("tags",)), targets)
