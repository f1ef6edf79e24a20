"""The layers of a decoder that are matched as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from losses.core.assigned import AssignedTargets
from losses.core.positives import Positives
from losses.core.ragged_predictions import check_filler_is_ignored
from losses.core.terms import Term
from losses.heads.class_masks import with_background, without_classes
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from losses.modules.adapters import traits_of
from losses.modules.base import ClassLoss
from losses.modules.classes import class_values, sum_of_classes
from matchers.assignments.assignment import Assignment
from matchers.geometry.boxes import convert
from matchers.geometry.overlaps import giou_and_iou, iou
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.interop.registration import register_dataclass
from ragged.values.once import once
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
        class_mask: Which classes count, broadcasts to (L, B, Q, C); None for all.
        matches: The targets and the assignment (L, B, Q) that ``boxes`` are of, where layers differ in them.
        computed: What was computed on the way.
    """

    layers: DecoderLayers
    classes: AssignedTargets
    boxes: AssignedTargets
    class_counts: Mapping[str, Tensor]
    box_counts: Mapping[str, Tensor]
    same_boxes: bool = False
    class_mask: Tensor | None = None
    matches: tuple[Targets, Assignment] | None = None
    computed: dict[str, Any] = field(default_factory=dict)

    def check_filler(self) -> None:
        """Raise unless filler of ragged queries has no target and is no background."""
        check_filler_is_ignored(self.classes.labels, self.layers.sizes)
        if self.boxes is not self.classes:
            check_filler_is_ignored(self.boxes.labels, self.layers.sizes)

    def class_term(self, loss: ClassLoss, *, of_quality: bool = True) -> list[Term]:
        """Of all queries, with the IoU of a matched box as score, or with 1."""
        scores = self.overlap_of_queries() if of_quality else None
        labels = self.classes.class_targets()
        values = class_values(loss, self.layers.logits, labels, scores, class_mask=self.class_mask)
        return [Term(self.classes.counted(values), self.class_counts)]

    def label_term(self, loss: ClassLoss, has_background: bool) -> list[Term]:
        """Of all queries, of a loss that takes labels and no scores; divided by the weights of the labels if one of
        them is the background's."""
        logits, traits = wide(self.layers.logits), traits_of(loss)
        background = logits.shape[-1] - 1 if has_background else -1
        if has_background and self.classes.multi_hot is not None:
            raise ValueError("a class loss with a background takes one label of each target, got multi-hot ones")
        labels = self.classes.class_targets(background)
        mask = self.class_mask
        if has_background and mask is not None:
            own = labels.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
            logits, mask = without_classes(logits, with_background(mask, -1) | own), None
        rows = logits.flatten(0, -2)
        values = sum_of_classes(
            traits.with_labels(rows, labels.flatten(0, logits.dim() - 2), one_hot=False),
            rows,
            None if mask is None else mask.expand(logits.shape).flatten(0, -2),
        ).view(logits.shape[:-1])
        counts = self._mass(traits.class_weights(logits), labels) if has_background else self.class_counts
        return [Term(self.classes.counted(values), counts)]

    def box_term(self, rows: Tensor) -> list[Term]:
        """Of values (R,) of the matched boxes."""
        return [Term(self.boxes.counted_rows(rows), self.box_counts, self.boxes.positives)]

    def overlap_of_queries(self) -> Tensor:
        """(L, B, Q), the IoU of boxes with the targets that the class loss has for them; 0 without one. A constant."""
        rows = self.classes.positives
        if self.classes is self.boxes:
            return rows.per_prediction(self.overlaps()[1])
        return rows.per_prediction(overlap(rows.of_predictions(self.layers.boxes.detach()), self.classes.boxes))

    def matched_boxes(self) -> Tensor:
        """(R, 4), the predicted boxes that have a target, cxcywh, float32 at least."""
        return once(self.computed, "boxes", lambda: wide(self.boxes.positives.of_predictions(self.layers.boxes)))

    def overlaps(self) -> tuple[Tensor, Tensor]:
        """GIoU and IoU (R,) of the matched boxes with their targets; the IoU is a constant."""

        def make() -> tuple[Tensor, Tensor]:
            return giou_and_iou(
                *(convert(boxes, "cxcywh", "xyxy") for boxes in (self.matched_boxes(), self.boxes.boxes))
            )

        return once(self.computed, "overlaps", make)

    def boxes_of(self, layers: Sequence[int]) -> AssignedTargets:
        """The box targets of some layers, one after the other."""
        if len(layers) == len(self.layers.suffixes):
            return self.boxes
        if self.same_boxes:
            return _first_layers(self.boxes, len(self.layers.suffixes), len(layers))
        if self.matches is None:
            raise ValueError(
                "loss_fgl and loss_ddf are of some layers, whose matches are not known: let matched_layers say "
                "matches, or set same_boxes if all layers have the same"
            )
        targets, assignment = self.matches
        own = assignment.unstack()
        return AssignedTargets.of(
            targets, Assignment.stack([own[index] for index in layers]), box_format="cxcywh", normalized=True
        )

    def rows_of(self, boxes: AssignedTargets, values: Sequence[Tensor]) -> Tensor:
        """Of values (B, Q, …) of some layers those of the matched queries, (R, …); ``boxes`` are ``boxes_of`` these."""
        if not self.same_boxes:
            return boxes.positives.of_predictions(torch.stack(list(values)))
        first = self.boxes_of([0]).positives
        return boxes.positives.masked(torch.cat([first.rows_of(value.unsqueeze(0)) for value in values]))

    def overlaps_of(self, boxes: AssignedTargets, layers: Sequence[int]) -> Tensor:
        """IoU (R,) of the matched boxes of some layers, one after the other. A constant."""
        if boxes is self.boxes:
            return self.overlaps()[1]
        if self.same_boxes:  # as many rows in each layer
            own_rows = self.overlaps()[1].unflatten(0, (len(self.layers.suffixes), -1))
            return torch.cat([own_rows[index] for index in layers])
        own = self.layers.boxes.detach()
        return overlap(self.rows_of(boxes, [own[index] for index in layers]), boxes.boxes)

    def _mass(self, weights: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
        """The sum of the weights of the labels of each layer and image, (L, B); (1, B) where layers cannot differ."""
        mass = torch.ones_like(labels, dtype=torch.float32) if weights is None else weights[labels]
        counted = self.classes.counted(mass)
        if self.layers.denoising:
            return {"class_mass_dn": counted[:1].sum(-1)}
        return {f"class_mass{self.layers.suffixes[0]}": counted.sum(-1)}


def overlap(pred: Tensor, target: Tensor) -> Tensor:
    """IoU (R,) of cxcywh boxes (R, 4)."""
    both = convert(torch.stack([wide(pred), target]), "cxcywh", "xyxy")
    return iou(both[0], both[1])


def sizes_of_layers(read: DecoderOutputs, suffixes: Sequence[str]) -> Tensor | None:
    """How many queries the images of some layers have, (L, B); None if they are not ragged."""
    (group,) = [each for each in read.groups if suffixes[0] in each.suffixes]
    if group.sizes is None:
        return None
    return torch.stack([group.sizes[group.suffixes.index(suffix)] for suffix in suffixes])


def by_layer(values: Any) -> Sequence[Any]:
    """The values of each layer, of those of several."""
    if not isinstance(values, RaggedBatch):
        layers: Sequence[Tensor] = values.unbind()  # not one by one: each index has its own derivative
        return layers
    parts = zip(*(part.unbind() for part in (values.tensor, values.mask, values.sample_sizes)), strict=True)
    return [RaggedBatch._unchecked(tensor, mask, sizes, 0) for tensor, mask, sizes in parts]


def _first_layers(boxes: AssignedTargets, layers: int, count: int) -> AssignedTargets:
    """The box targets of ``count`` layers, all of which have the same matches."""
    own = boxes.positives
    rows = len(own) // layers * count
    positives = Positives(
        own.sample[:rows],
        own.prediction[:rows],
        own.target[:rows],
        None if own.valid is None else own.valid[:rows],
        (count, *own.shape[1:]),
    )
    weights = None if boxes.weights is None else boxes.weights[:count]
    return AssignedTargets(boxes.labels[:count], boxes.quality[:count], positives, boxes.boxes[:rows], weights)


register_dataclass(LayerAssignments, constants=("suffixes",))
