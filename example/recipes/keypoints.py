"""Keypoints of persons, as in DETRPose: a target is a box and 17 keypoints; OKS is cost, score and loss.

OKS, the object keypoint similarity of COCO, is the mean of ``exp(-d² / (2 area (2 sigma)²))`` over the visible
keypoints, with the distance d of each and a sigma of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from losses import AssignedTargets, Criterion, giou_loss, l1_loss, varifocal_loss
from losses.core.terms import Term
from matchers import Assignment, Hungarian, Pairs, Predictions, Targets, convert, detr_costs

SIGMAS = torch.tensor([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


def collate(truth: Sequence[Mapping[str, Any]]) -> Targets:
    """Targets of dicts with ``"boxes"`` (n, 4), ``"labels"`` (n,), ``"keypoints"`` (n, 17, 3) and ``"area"`` (n,).

    Boxes are cxcywh; all is in fractions of the image. A keypoint is x, y and its visibility, 0 where it is unknown.
    """
    images = [{**image, "spread": 8 * image["area"].unsqueeze(-1) * SIGMAS**2 + 1e-9} for image in truth]
    return Targets.of(images, fields=("keypoints", "area", "spread"), box_format="cxcywh", normalized=True)


def similarity(found: Tensor, gt: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """OKS (…) and mean L1 distance (…) of keypoints (…, 17, 2) from visible ones (…, 17, 3); spread is (…, 17)."""
    x, y = (found[..., axis] - gt[..., axis] for axis in (0, 1))
    shares = (gt[..., 2] > 0).to(spread.dtype)
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1)
    # 1e-35 instead of less: numbers below 1e-38 take ten times as long.
    each = torch.exp(-((x**2 + y**2) / spread).clamp(max=80))
    return (each * shares).sum(-1), ((x.abs() + y.abs()) * shares).sum(-1)


def cost(pairs: Pairs) -> Tensor:
    """``1 - OKS`` and L1 of keypoints of R targets and all P predictions of their images, (R, P)."""
    gt, spread = pairs.gt_field("keypoints").unsqueeze(1), pairs.gt_field("spread").unsqueeze(1)
    oks, distance = similarity(pairs.predicted_field("keypoints"), gt, spread)
    return 10 * (1 - oks) + 4 * distance


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
        found = rows.of_predictions(predictions.fields["keypoints"])
        boxes = rows.of_predictions(predictions.boxes).to(assigned.boxes)
        oks, distance = similarity(found, assigned.fields["keypoints"], assigned.fields["spread"])
        scores = rows.per_prediction(oks.detach())
        classes = varifocal_loss(predictions.logits, assigned.labels, scores=scores, alpha=0.75).sum(-1)
        corners = (convert(each, "cxcywh", "xyxy") for each in (boxes, assigned.boxes))
        of_rows = {
            "loss_oks": 4 * (1 - oks),
            "loss_keypoints": 10 * distance,
            "loss_bbox": 5 * l1_loss(boxes, assigned.boxes).sum(-1),
            "loss_giou": 2 * giou_loss(*corners),
        }
        terms = {name: Term(assigned.counted_rows(values), count, rows) for name, values in of_rows.items()}
        return {"loss_vfl": Term(assigned.counted(classes), count), **terms}


matcher = Hungarian({**detr_costs(), "keypoints": cost})
criterion = KeypointCriterion(num_classes=1, matcher=matcher)
