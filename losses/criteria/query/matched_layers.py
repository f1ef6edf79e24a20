"""The layers of a decoder that are matched as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from losses.core.assigned import AssignedTargets
from losses.core.positives import Positives
from losses.core.ragged_predictions import check_filler_is_ignored
from losses.core.terms import Term
from losses.criteria.query.balance import numbers_of
from losses.functional.boxes import l1_loss
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
        if self.classes is self.boxes:
            return self.boxes.positives.per_prediction(self.compared().overlap)
        rows = self.classes.positives
        found = once(
            self.computed, "of classes", lambda: overlap(self._boxes_of(self.classes).detach(), self.classes.boxes)
        )
        return rows.per_prediction(found)

    def compared(self) -> Compared:
        """The matched boxes with their targets."""
        if "compared" not in self.computed:
            compare([self])
        found: Compared = self.computed["compared"]
        return found

    def _boxes_of(self, targets: AssignedTargets) -> Tensor:
        """(R, 4), the predicted boxes that have one of the targets, cxcywh, float32 at least."""
        return wide(targets.positives.of_predictions(self.layers.boxes))

    def boxes_of(self, layers: Sequence[int]) -> AssignedTargets:
        """The box targets of some layers, one after the other."""
        if len(layers) == len(self.layers.suffixes):
            return self.boxes
        if self.same_boxes:
            return once(self.computed, f"first {len(layers)}", lambda: _first_layers(self.boxes, len(layers)))
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

    def overlaps_of(self, boxes: AssignedTargets, layers: Sequence[int]) -> Tensor:
        """IoU (R,) of the matched boxes of some layers, one after the other. A constant."""
        if boxes is self.boxes:
            return self.compared().overlap
        if self.same_boxes:  # as many rows in each layer
            own_rows = self.compared().overlap.unflatten(0, (len(self.layers.suffixes), -1))
            return chosen(own_rows, layers).flatten()
        own = chosen(self.layers.boxes.detach(), layers)
        return overlap(boxes.positives.of_predictions(own), boxes.boxes)

    def numbers_of(self, layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """How many queries of some layers are matched, and how many are not, (L, B) each; (1, B) of same boxes."""
        own = [0] if self.same_boxes else layers
        return once(self.computed, f"numbers of {list(own)}", lambda: numbers_of(self.boxes_of(own)))

    def _mass(self, weights: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
        """The sum of the weights of the labels of each layer and image, (L, B); (1, B) where layers cannot differ."""
        mass = torch.ones_like(labels, dtype=torch.float32) if weights is None else weights[labels]
        counted = self.classes.counted(mass)
        if self.layers.denoising:
            return {"class_mass_dn": counted[:1].sum(-1)}
        return {f"class_mass{self.layers.suffixes[0]}": counted.sum(-1)}


class Compared(NamedTuple):
    """Matched boxes and their targets, (R,) each."""

    distance: Tensor
    """L1 of cxcywh."""
    miss: Tensor
    """``1 - GIoU``."""
    overlap: Tensor
    """The IoU, a constant."""


def compare(groups: Sequence[MatchedLayers]) -> None:
    """Compare the matched boxes of all groups at once: they are few, and that takes many operations."""
    parts = [(group._boxes_of(group.boxes), group.boxes.boxes) for group in groups]
    apart = [group for group in groups if len(groups) > 1 and group.classes is not group.boxes]
    parts += [(group._boxes_of(group.classes).detach(), group.classes.boxes) for group in apart]
    pred, target = parts[0] if len(parts) == 1 else (torch.cat(each) for each in zip(*parts, strict=True))
    similarity, overlap = giou_and_iou(*(convert(boxes, "cxcywh", "xyxy") for boxes in (pred, target)))
    values = l1_loss(pred, target).sum(-1), 1 - similarity, overlap
    sizes = [len(part) for part, _ in parts]
    split = [Compared(*each) for each in zip(*(value.split(sizes) for value in values), strict=True)]
    for group, own in zip(groups, split, strict=False):
        group.computed["compared"] = own
    for group, own in zip(apart, split[len(groups) :], strict=True):
        group.computed["of classes"] = own.overlap


def overlap(pred: Tensor, target: Tensor) -> Tensor:
    """IoU (R,) of cxcywh boxes (R, 4)."""
    both = convert(torch.stack([wide(pred), target]), "cxcywh", "xyxy")
    return iou(both[0], both[1])


def chosen(values: Tensor, layers: Sequence[int]) -> Tensor:
    """Some of the layers (L, …); those that follow each other are not copied."""
    first, count = layers[0], len(layers)
    if list(layers) == list(range(first, first + count)):
        return values if count == len(values) else values[first : first + count]
    return torch.stack([values[index] for index in layers])


def sizes_of_layers(read: DecoderOutputs, suffixes: Sequence[str]) -> Tensor | None:
    """How many queries the images of some layers have, (L, B); None if they are not ragged."""
    (group,) = [each for each in read.groups if suffixes[0] in each.suffixes]
    if group.sizes is None:
        return None
    return torch.stack([group.sizes[group.suffixes.index(suffix)] for suffix in suffixes])


def by_layer(values: Sequence[Any]) -> list[Any]:
    """The values of each layer, of terms of several, one term after the other."""
    if all(isinstance(each, Tensor) for each in values) and len({each.dtype for each in values}) == 1:
        return list(torch.cat(list(values)).unbind())  # not one by one: each index has its own derivative
    return [layer for each in values for layer in _unbound(each)]


def _unbound(values: Any) -> Sequence[Any]:
    if not isinstance(values, RaggedBatch):
        layers: Sequence[Tensor] = values.unbind()
        return layers
    parts = zip(*(part.unbind() for part in (values.tensor, values.mask, values.sample_sizes)), strict=True)
    return [RaggedBatch._unchecked(tensor, mask, sizes, 0) for tensor, mask, sizes in parts]


def _first_layers(boxes: AssignedTargets, count: int) -> AssignedTargets:
    """The box targets of ``count`` layers, all of which have the same matches."""
    own = boxes.positives
    rows = len(own) // own.shape[0] * count
    positives = Positives(
        own.sample[:rows],
        own.prediction[:rows],
        own.target[:rows],
        None if own.valid is None else own.valid[:rows],
        (count, *own.shape[1:]),
        own.whole,
        {name: each[:rows] for name, each in own.computed.items()},
    )
    weights = None if boxes.weights is None else boxes.weights[:count]
    return AssignedTargets(boxes.labels[:count], boxes.quality[:count], positives, boxes.boxes[:rows], weights)


register_dataclass(LayerAssignments, constants=("suffixes",))
