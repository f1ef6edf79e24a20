"""The layers of a decoder that are matched as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from losses.core.assigned import AssignedTargets
from losses.core.ragged_predictions import check_filler_is_ignored
from losses.core.terms import Term
from losses.heads.decoder import DecoderLayers
from losses.modules.base import ClassLoss
from losses.modules.classes import class_values
from matchers.assignments.assignment import Assignment
from matchers.geometry.boxes import convert
from matchers.geometry.overlaps import iou
from ragged.interop.registration import register_dataclass
from ragged.values.precision import wide


@dataclass(frozen=True, eq=False)
class LayerAssignments(Mapping[str, Assignment]):
    """The assignment (B, Q) of every layer, by the suffix of its terms; that of the last layer is "".

    It cannot be changed; ``dict(assignments)`` can.

    Args:
        groups: Of each group of layers (L, B, Q), in the order of ``DecoderOutputs.groups``.
        suffixes: Of the layers of each group.
    """

    groups: tuple[Assignment, ...]
    suffixes: tuple[tuple[str, ...], ...]

    def __getitem__(self, suffix: str) -> Assignment:
        for group, own in zip(self.groups, self.suffixes, strict=True):
            if suffix in own:
                return group.unstack()[own.index(suffix)]
        raise KeyError(suffix)

    def __iter__(self) -> Iterator[str]:
        return (suffix for group in self.suffixes for suffix in group)

    def __len__(self) -> int:
        return sum(map(len, self.suffixes))


@dataclass(frozen=True, eq=False)
class MatchedLayers:
    """A group of layers whose queries have targets; boxes are cxcywh, in fractions of the image.

    Args:
        layers: The group: L layers, B images, Q queries.
        classes: What the queries (L, B, Q) shall be called.
        boxes: Where the queries (L, B, Q) shall be; not always of the same matches.
        class_counts, box_counts: What the terms of either kind are divided by, (1, B) each.
        same_boxes: Whether all layers have the same matches for their boxes.
    """

    layers: DecoderLayers
    classes: AssignedTargets
    boxes: AssignedTargets
    class_counts: Mapping[str, Tensor]
    box_counts: Mapping[str, Tensor]
    same_boxes: bool = False

    def check_filler(self) -> None:
        """Raise unless filler of ragged queries has no target and is no background."""
        check_filler_is_ignored(self.classes.labels, self.layers.sizes)
        if self.boxes is not self.classes:
            check_filler_is_ignored(self.boxes.labels, self.layers.sizes)

    def class_term(self, loss: ClassLoss) -> list[Term]:
        """Of all queries, with the IoU of a matched box as score."""
        values = class_values(loss, self.layers.logits, self.classes.class_targets(), self.overlap_of_queries())
        return [Term(self.classes.counted(values), self.class_counts)]

    def box_term(self, rows: Tensor) -> list[Term]:
        """Of values (R,) of the matched boxes."""
        return [Term(self.boxes.counted_rows(rows), self.box_counts, self.boxes.positives)]

    def overlap_of_queries(self) -> Tensor:
        """(L, B, Q), the IoU of boxes with the targets that the class loss has for them; 0 without one. A constant."""
        rows = self.classes.positives
        return rows.per_prediction(overlap(rows.of_predictions(self.layers.boxes.detach()), self.classes.boxes))


def overlap(pred: Tensor, target: Tensor) -> Tensor:
    """IoU (R,) of cxcywh boxes (R, 4)."""
    return iou(convert(wide(pred), "cxcywh", "xyxy"), convert(target, "cxcywh", "xyxy"))


register_dataclass(LayerAssignments, constants=("suffixes",))
