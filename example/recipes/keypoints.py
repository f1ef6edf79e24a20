"""Keypoints of persons, as in DETRPose: a target is a box and 17 keypoints; OKS is cost, score and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from losses import AssignedTargets, Criterion, giou_loss, keypoint_l1_loss, l1_loss, varifocal_loss
from losses.core.terms import Term
from matchers import Assignment, Hungarian, Predictions, Targets, convert, detr_costs, keypoint_costs, oks


def collate(truth: Sequence[Mapping[str, Any]]) -> Targets:
    """Targets of dicts with ``"boxes"`` (n, 4), ``"labels"`` (n,), ``"keypoints"`` (n, 17, 3) and ``"area"`` (n,).

    Boxes are cxcywh; all is in fractions of the image. A keypoint is x, y and its visibility, 0 where it is unknown.
    """
    return Targets.of(truth, fields=("keypoints", "area"), box_format="cxcywh", normalized=True)


class KeypointCriterion(Criterion):
    """Varifocal loss with OKS as score; OKS and L1 of the keypoints, L1 and GIoU of the boxes of the positives."""

    BOXES: ClassVar[Mapping[str, Any]] = {"box_format": "cxcywh", "normalized": True}

    def read(self, predictions: Any) -> Predictions:
        """``"pred_logits"`` (B, Q, C), ``"pred_boxes"`` (B, Q, 4) and ``"keypoints"`` (B, Q, 17, 2)."""
        known = isinstance(predictions, Predictions)
        return predictions if known else Predictions.of(predictions, fields=("keypoints",))

    def match(self, predictions: Predictions, targets: Targets) -> Assignment:
        """One query for each target."""
        return self.call_matcher(predictions, targets)

    def terms(self, predictions: Predictions, assigned: AssignedTargets) -> dict[str, Term]:
        """All divided by the number of positives."""
        rows, count = assigned.positives, {"num_positives": assigned.num_positives()}
        found, wanted = rows.of_predictions(predictions.fields["keypoints"]), assigned.fields["keypoints"]
        boxes = rows.of_predictions(predictions.boxes).to(assigned.boxes)
        similarity = oks(found, wanted, assigned.fields["area"])
        scores = rows.per_prediction(similarity.detach())
        classes = varifocal_loss(predictions.logits, assigned.labels, scores=scores, alpha=0.75).sum(-1)
        corners = (convert(each, "cxcywh", "xyxy") for each in (boxes, assigned.boxes))
        of_rows = {
            "loss_oks": 4 * (1 - similarity),
            "loss_keypoints": 10 * keypoint_l1_loss(found, wanted),
            "loss_bbox": 5 * l1_loss(boxes, assigned.boxes).sum(-1),
            "loss_giou": 2 * giou_loss(*corners),
        }
        terms = {name: Term(assigned.counted_rows(values), count, rows) for name, values in of_rows.items()}
        return {"loss_vfl": Term(assigned.counted(classes), count), **terms}


matcher = Hungarian({**detr_costs(), **keypoint_costs(oks_weight=10, l1_weight=4)})
criterion = KeypointCriterion(num_classes=1, matcher=matcher)
