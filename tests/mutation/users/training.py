"""A criterion that users may write, a right one: bugs are planted into copies of this module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, pad

from losses.core.normalizer import Normalizer
from matchers import Assignment, Hungarian, Predictions, Targets, convert, giou


class SetLoss(nn.Module):
    """Binary cross-entropy of all queries; L1 and GIoU of those that have a target; divided by the weights of these."""

    def __init__(self) -> None:
        super().__init__()
        self.matcher = Hungarian()
        self.normalizer = Normalizer()

    def match(self, predictions: dict[str, Tensor], targets: Targets) -> Assignment:
        """Which query has which target."""
        logits, boxes = predictions["pred_logits"].detach(), predictions["pred_boxes"].detach()
        return self.matcher(Predictions(logits, boxes, box_format="cxcywh", normalized=True), targets)

    def weights(self, targets: Targets) -> Tensor:
        """(B, G)."""
        if targets.weights is None:
            return torch.ones_like(targets.mask, dtype=torch.float32)
        return torch.where(targets.matchable, targets.weights.tensor, 0)

    def of_boxes(self, boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """L1 and GIoU losses, (B, P) each."""
        corners = convert(boxes, "cxcywh", "xyxy"), convert(wanted, "cxcywh", "xyxy")
        return (boxes - wanted).abs().sum(-1), 1 - giou(*corners)

    def of_classes(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Class losses, (B, P)."""
        return binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)

    @torch.autocast("cpu", enabled=False)
    def forward(self, predictions: dict[str, Tensor], targets: Targets) -> dict[str, Any]:
        """The terms by name."""
        dtype = torch.promote_types(predictions["pred_logits"].dtype, torch.float32)
        logits, boxes = predictions["pred_logits"].to(dtype), predictions["pred_boxes"].to(dtype)
        found = self.match(predictions, targets)
        positive = found.is_positive
        # A slot more, for images without targets.
        true_boxes = pad(targets.boxes_as("cxcywh", normalized=True), (0, 0, 0, 1)).to(dtype)
        labels = pad(targets.padded_labels(), (0, 1))
        image = torch.arange(len(labels), device=labels.device).unsqueeze(-1)
        index = found.target_index.clamp(min=0)
        wanted = one_hot(labels[image, index], logits.shape[-1]).to(dtype) * positive.unsqueeze(-1)
        own = torch.where(positive, pad(self.weights(targets), (0, 1)).to(dtype)[image, index], 0)
        weights = torch.where(found.is_background, 1, own)
        # No box of zeros beside a query without a target: its gradient would be NaN.
        beside = torch.where(positive.unsqueeze(-1), true_boxes[image, index], boxes.detach() + 0.1)
        distance, overlap = self.of_boxes(boxes, beside)
        count = self.normalizer(own.sum())
        return {
            "loss_cls": (self.of_classes(logits, wanted) * weights).sum() / count,
            "loss_bbox": (distance * own).sum() / count,
            "loss_giou": (overlap * own).sum() / count,
        }


class LayersLoss(SetLoss):
    """The same for the last layer of a decoder and for its auxiliary ones, added up."""

    def forward(self, predictions: dict[str, Any], targets: Targets) -> dict[str, Any]:
        """The terms by name."""
        layers = [predictions, *predictions["aux_outputs"]]
        terms = [super(LayersLoss, self).forward(layer, targets) for layer in layers]
        return {name: torch.stack([each[name] for each in terms]).sum(0) for name in terms[0]}
