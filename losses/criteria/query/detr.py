"""The criterion of DETR and RT-DETR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.terms import Losses, Term
from losses.criteria.query.matched_layers import LayerAssignments, MatchedLayers
from losses.functional.boxes import giou_loss, l1_loss
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from losses.modules.classes import VarifocalLoss
from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising import denoising_assignment
from matchers.by_cost.hungarian import Hungarian
from matchers.geometry.boxes import convert
from matchers.targets.targets import Targets
from ragged import RaggedBatch
from ragged.values.checks import check_not_negative
from ragged.values.keys import KnownKeys
from ragged.values.precision import wide

Assignments = Mapping[str, Assignment]
"""Of each layer, by the suffix of its terms; that of the last layer is ""."""
LayerTerms = dict[tuple[str, tuple[str, ...]], list[Term]]
"""Terms of several layers at once, by name and by the suffixes of the layers; of batch shape (L, B)."""

_LAYOUT: dict[str, Any] = {"box_format": "cxcywh", "normalized": True}


class DetrCriterion(Criterion):
    """The loss of a detection transformer: one-to-one matching of every layer, then classes and boxes.

    Outputs are a dict as ``DecoderOutputs.of`` reads it; boxes are cxcywh, in fractions of the image. They are ragged
    along the queries where images differ in their number. Targets that are no ``Targets`` yet are read as such boxes
    too; others are converted, for which pixels need a ``canvas_size``.

    Terms, each divided by the number of targets of the batch, or by 1:

    * ``loss_vfl``: ``varifocal_loss`` of all queries, with the IoU of a matched box as score, of each of its classes if
      labels are multi-hot;
    * ``loss_bbox``: L1 of the matched boxes, as cxcywh;
    * ``loss_giou``: ``1 - GIoU`` of the matched boxes.

    Other layers have the same terms with a suffix: ``_aux_0``, ``_aux_1``, …, ``_pre``, ``_enc_0``, …, and for
    denoising queries ``_dn_0``, …, ``_dn_pre``; these are divided by the number of targets times that of groups. All
    layers of equal shape are matched and evaluated together.

    Args:
        weight_dict: Weight of each term, by its name without suffix. A term that is not named is left out.
        alpha, gamma: Of the varifocal loss. RT-DETR has 0.75 and 2.
        num_classes: C.
        matcher: ``Hungarian()`` unless given: focal cost 2, L1 5, GIoU 2.
        reduction, normalizer: See ``Criterion``.

    Raises:
        KeyError: A weight is of a term that there is not; an output is missing.
        TypeError, ValueError: Shapes or numbers of classes that do not fit; a label that is no class.

    Differences to other implementations: without any target all terms are there, and 0 or those of the background.
    Targets that cannot be matched, for want of queries, count in the divisor, as elsewhere. OTX weighs a term that is
    not in ``weight_dict`` by 1. Over several ranks, the divisor is the number of all targets over the number of ranks,
    bounded from below before that division and not after.

    Source: Carion et al., DETR, 2020; Zhao et al., RT-DETR, 2024.

    >>> outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_boxes": torch.full((1, 4, 4), 0.5)}
    >>> targets = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.25]]), "labels": torch.tensor([2])}]
    >>> DetrCriterion({"loss_bbox": 5.0, "loss_giou": 2.0}, num_classes=3)(outputs, targets)
    {'loss_bbox': tensor(1.2500), 'loss_giou': tensor(1.)}
    """

    TERMS: tuple[str, ...] = ("loss_vfl", "loss_bbox", "loss_giou")
    # A model may leave out the denoising queries of a batch without targets, which other ranks have.
    COUNTS: tuple[str, ...] = ("num_boxes", "num_boxes_dn")
    DISTRIBUTIONS: bool = False
    MULTI_HOT: bool = True

    def __init__(
        self,
        weight_dict: Mapping[str, float],
        alpha: float = 0.2,
        gamma: float = 2.0,
        num_classes: int = 80,
        *,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        matcher = Hungarian() if matcher is None else matcher
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        if not isinstance(weight_dict, Mapping):
            raise TypeError(f"weight_dict must be a dict of weights by term, got {type(weight_dict).__name__}")
        for name, weight in weight_dict.items():
            if name not in self.TERMS:
                raise KeyError(f"weight_dict has a weight for {name!r}, but the terms are {list(self.TERMS)}")
            check_not_negative(weight, f"the weight of {name}")
        self.weight_dict, self.alpha, self.gamma = dict(weight_dict), alpha, gamma
        self.loss_vfl = VarifocalLoss(alpha=alpha, gamma=gamma)

    def read(self, predictions: Any) -> DecoderOutputs:
        """The layers in groups of equal shape."""
        return DecoderOutputs.of(predictions, num_classes=self.num_classes, distributions=self.DISTRIBUTIONS)

    def read_targets(self, targets: Any, predictions: Any) -> Targets:
        """Raw layouts hold cxcywh boxes in fractions of the image."""
        return targets if isinstance(targets, Targets) else Targets.of(targets, **_LAYOUT)

    def match(self, predictions: DecoderOutputs, targets: Targets) -> LayerAssignments:
        """The assignments of all layers, by the suffixes of their terms."""
        found = []
        for group in predictions.groups:
            if group.denoising:
                found.append(of_all_layers(_of_denoising(predictions.dn_meta, targets, group), len(group.suffixes)))
            else:
                found.append(self.call_matcher(group.predictions(), targets))
        return LayerAssignments(tuple(found), tuple(group.suffixes for group in predictions.groups))

    def look_up(self, predictions: DecoderOutputs, targets: Any, assignment: Assignments | None) -> list[MatchedLayers]:
        """The groups of layers with their targets, of assignments as ``match`` or as ``assign`` gives them."""
        if assignment is None:
            raise ValueError("loss needs the assignments of all layers, as assign gives them")
        if not isinstance(targets, Targets):
            raise TypeError(
                f"targets must be those of images, with the assignments of layers, got {type(targets).__name__}"
            )
        targets.check_labels(self.num_classes)
        return self.matched_layers(predictions, targets, _of_groups(predictions, assignment))

    def sizes_of(self, predictions: DecoderOutputs, name: Any = None) -> Tensor | None:
        """Those of the layers of a term, (L, B)."""
        _, suffixes = name
        (group,) = [each for each in predictions.groups if suffixes[0] in each.suffixes]
        if group.sizes is None:
            return None
        return torch.stack([group.sizes[group.suffixes.index(suffix)] for suffix in suffixes])

    def num_layers(self, predictions: DecoderOutputs) -> int:
        """1: all tensors begin with the layers of a group."""
        return 1

    def finished(self, losses: Losses, predictions: DecoderOutputs, terms: Any) -> Losses:
        """The terms of all layers by their names."""
        return {
            name + suffix: _layer(value, index)
            for (name, suffixes), value in losses.items()
            for index, suffix in enumerate(suffixes)
        }

    # --- terms -----------------------------------------------------------------------------------------------------

    def terms(self, predictions: DecoderOutputs, assigned: list[MatchedLayers]) -> LayerTerms:
        """See the class."""
        terms: LayerTerms = {}
        (decoder,) = [group for group in assigned if "" in group.layers.suffixes]
        for group in assigned:
            group.check_filler()
            for (name, suffixes), part in self.group_terms(group, decoder, predictions).items():
                terms[name, suffixes] = [replace(term, weight=self.weight_dict[name]) for term in part]
        return terms

    def matched_layers(
        self, read: DecoderOutputs, targets: Targets, assignments: Sequence[Assignment]
    ) -> list[MatchedLayers]:
        """The groups of layers with their targets, of the assignments (L, B, Q) of each group."""
        groups = []
        for group, assignment in zip(read.groups, assignments, strict=True):
            own = targets_of_layers(targets, assignment)
            counts = self.divided_by(group, read, targets)
            same = group.denoising or len(group.suffixes) == 1
            groups.append(MatchedLayers(group, own, own, counts, counts, same_boxes=same))
        return groups

    def divided_by(self, group: DecoderLayers, read: DecoderOutputs, targets: Targets) -> dict[str, Tensor]:
        """What terms are divided by, (1, B): the number of targets, in all groups of denoising queries."""
        count = num_targets(targets).unsqueeze(0)
        if not group.denoising:
            return {"num_boxes": count}
        groups = 0 if read.dn_meta is None else read.dn_meta["dn_num_group"]
        return {"num_boxes_dn": count * groups}

    def group_terms(self, group: MatchedLayers, decoder: MatchedLayers, read: DecoderOutputs) -> LayerTerms:
        """The terms of a group of layers that have a weight; ``decoder`` is the group of the last layer."""
        return {**self.class_terms(group), **self.box_terms(group)}

    def class_terms(self, group: MatchedLayers) -> LayerTerms:
        """The varifocal loss."""
        terms: LayerTerms = {}
        if "loss_vfl" in self.weight_dict:
            terms["loss_vfl", group.layers.suffixes] = group.class_term(self.loss_vfl)
        return terms

    def box_terms(self, group: MatchedLayers) -> LayerTerms:
        """L1 and GIoU of the matched boxes."""
        boxes, suffixes = group.boxes, group.layers.suffixes
        pred = wide(boxes.positives.of_predictions(group.layers.boxes))
        terms: LayerTerms = {}
        if "loss_bbox" in self.weight_dict:
            terms["loss_bbox", suffixes] = group.box_term(l1_loss(pred, boxes.boxes).sum(-1))
        if "loss_giou" in self.weight_dict:
            corners = convert(pred, "cxcywh", "xyxy"), convert(boxes.boxes, "cxcywh", "xyxy")
            terms["loss_giou", suffixes] = group.box_term(giou_loss(*corners))
        return terms

    @staticmethod
    def get_cdn_matched_indices(dn_meta: Mapping[str, Any], targets: Any) -> list[tuple[Tensor, Tensor]]:
        """The positive denoising queries of each image and their targets, (n * groups,) each, ordered by query.

        Reads their numbers, for which the host has to wait.

        Args:
            dn_meta: As ``matchers.denoising_assignment`` has it.
            targets: Anything that ``Targets.of`` reads, cxcywh in fractions of the image.
        """
        targets = targets if isinstance(targets, Targets) else Targets.of(targets, **_LAYOUT)
        gt, pred = denoising_assignment(dn_meta, targets).pairs()
        found = []
        for query, target in zip(pred.split(), gt.split(), strict=True):
            order = query.argsort()
            found.append((query[order], target[order]))
        return found


def num_targets(targets: Targets) -> Tensor:
    """(B,), float32 at least: how many targets can be matched, each as often as its weight says."""
    if targets.weights is None:
        return targets.matchable.sum(-1).float()
    return wide(targets.weights.detach().with_padded_set_to(0).tensor).masked_fill(~targets.matchable, 0).sum(-1)


def targets_of_layers(targets: Targets, assignment: Assignment) -> AssignedTargets:
    """The targets of the queries (L, B, Q) of several layers."""
    return AssignedTargets.of(targets, assignment, **_LAYOUT)


def of_all_layers(assignment: Assignment, layers: int) -> Assignment:
    """One assignment (B, Q) as that of so many layers (L, B, Q). Nothing is copied."""
    return pytree.tree_map(lambda part: part.expand(layers, *part.shape), assignment)


def _of_groups(read: DecoderOutputs, assignments: Any) -> tuple[Assignment, ...]:
    """The assignments of layers, given by their suffixes, as those of the groups."""
    if not isinstance(assignments, Mapping):
        raise TypeError(f"assignments must be a dict, as assign gives it, got {type(assignments).__name__}")
    groups = tuple(group.suffixes for group in read.groups)
    if isinstance(assignments, LayerAssignments) and assignments.suffixes == groups:
        return assignments.groups
    suffixes = tuple(suffix for group in groups for suffix in group)
    for suffix in suffixes:
        if suffix not in assignments:
            raise KeyError(f"there is no assignment of layer {suffix!r}, but of {list(assignments)}")
    KnownKeys(suffixes).check(assignments, "the assignments of these outputs")
    return tuple(Assignment.stack([assignments[suffix] for suffix in group]) for group in groups)


def _of_denoising(dn_meta: Mapping[str, Any] | None, targets: Targets, group: DecoderLayers) -> Assignment:
    found = denoising_assignment(dn_meta, targets)
    queries = group.logits.shape[-2]
    if found.target_index.shape[-1] != queries:
        raise ValueError(f"dn_meta is of {found.target_index.shape[-1]} denoising queries, outputs are of {queries}")
    return found


def _layer(values: Any, index: int) -> Any:
    if isinstance(values, RaggedBatch):
        return RaggedBatch._unchecked(values.tensor[index], values.mask[index], values.sample_sizes[index], 0)
    return values[index]
