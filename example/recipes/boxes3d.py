"""3D detection by a decoder, as in StreamPETR: boxes of ten parameters, every layer matched, denoising queries.

A velocity that nobody knows is NaN: such a box has no loss of its own, and is matched by its other eight parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from losses import AssignedTargets, Box3DCoder, Criterion, box3d_l1_loss, sigmoid_focal_loss
from losses.core.terms import Term
from matchers import (
    Assignment,
    Hungarian,
    Predictions,
    Targets,
    batched_cost,
    box3d_l1_cost,
    denoising_attention_mask,
    denoising_indices,
    focal_class_cost,
)

NUM_GROUPS = 3
CODE_WEIGHTS = (2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)


def collate(truth: Sequence[Mapping[str, Any]]) -> Targets:
    """Targets of dicts with ``"labels"`` (n,) and ``"boxes3d"`` (n, 9), one for each sample; see ``Box3DCoder``."""
    targets = Targets.of(truth, fields=("boxes3d",))
    return replace(targets, fields={"boxes3d": targets.fields["boxes3d"].apply(Box3DCoder().encode)})


def cost(gt: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
    """Focal cost, and L1 of the parameters that are always known: (n, G, P)."""
    classes = focal_class_cost(predicted["logits"], gt["labels"])
    return 2 * classes + 0.25 * box3d_l1_cost(gt["boxes3d"], predicted["boxes3d"], code_weights=(1,) * 8 + (0, 0))


def match_denoising(predictions: Predictions, targets: Targets) -> Assignment:
    """The target that each denoising query was made from, in all layers."""
    num_targets = targets.num_targets.expand(predictions.batch_shape)
    return denoising_indices(num_targets, NUM_GROUPS, targets.max_num_targets)


class Boxes3DCriterion(Criterion):
    """Focal loss of all queries, weighted L1 of those with a target; layers (L, B, Q) have a loss each."""

    def read(self, predictions: Any) -> Predictions:
        """The output of a decoder: ``"pred_logits"`` (…, B, Q, C) and ``"boxes3d"`` (…, B, Q, 10)."""
        known = isinstance(predictions, Predictions)
        return predictions if known else Predictions.of(predictions, fields=("boxes3d",))

    def num_layers(self, predictions: Predictions) -> int:
        """All dimensions before that of the samples."""
        return len(predictions.batch_shape) - 1

    def match(self, predictions: Predictions, targets: Targets) -> Assignment:
        """One query for each target, or those that were made from it."""
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        """Both divided by the number of queries with a target."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        classes = sigmoid_focal_loss(predictions.logits, assigned.labels).sum(-1)
        found = rows.of_predictions(predictions.fields["boxes3d"])
        boxes = box3d_l1_loss(found, assigned.fields["boxes3d"], code_weights=CODE_WEIGHTS)
        return {
            "loss_cls": Term(assigned.counted(classes), count, weight=2.0),
            "loss_bbox": Term(assigned.counted_rows(boxes), count, rows, weight=0.25),
        }


criterion = Boxes3DCriterion(num_classes=10, matcher=Hungarian(batched_cost(cost)))
denoising_criterion = Boxes3DCriterion(num_classes=10, matcher=match_denoising)


def boxes3d_loss(
    outputs: Mapping[str, Tensor], denoising_outputs: Mapping[str, Tensor], targets: Targets
) -> dict[str, Tensor]:
    """The terms of matched and of denoising queries, added up over the layers."""
    losses = criterion(outputs, targets)
    denoised = denoising_criterion(denoising_outputs, targets)
    losses |= {f"{name}_dn": value for name, value in denoised.items()}
    return {name: value.sum() for name, value in losses.items()}


def denoising_queries(targets: Targets, noise: float = 0.2) -> tuple[Tensor, Tensor]:
    """Boxes (B, D, 10) and labels (B, D) of denoising queries; negatives have five times the noise."""
    slots = targets.max_num_targets
    scale = torch.tensor([noise, 5 * noise]).repeat_interleave(slots).repeat(NUM_GROUPS).to(targets.device)
    known = (targets.fields["boxes3d"], targets.labels)
    boxes, labels = (batch.with_padded_set_to(0).tensor.nan_to_num() for batch in known)
    boxes = boxes.repeat(1, 2 * NUM_GROUPS, 1)
    return boxes + torch.randn_like(boxes) * scale.unsqueeze(-1), labels.repeat(1, 2 * NUM_GROUPS)


def attention_mask(targets: Targets, num_queries: int) -> Tensor:
    """Which query must not see which other, (B, D + Q, D + Q); denoising queries come first."""
    slots = targets.max_num_targets
    return denoising_attention_mask(NUM_GROUPS, slots, num_queries, num_targets=targets.num_targets)
