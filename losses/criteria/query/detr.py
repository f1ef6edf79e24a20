"""The criterion of DETR and of all that came after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from losses.core.assigned import AssignedTargets
from losses.core.criterion import Criterion
from losses.core.normalizer import Normalizer
from losses.core.terms import Losses, Term
from losses.criteria.query.cardinality import cardinality_errors
from losses.criteria.query.matched_layers import LayerAssignments, MatchedLayers, by_layer, compare, sizes_of_layers
from losses.criteria.query.matching import (
    matches_of_denoising,
    matches_of_layers,
    num_targets,
    of_groups,
    pairs_by_query,
    usual_matcher,
    without_labels,
)
from losses.criteria.query.weights import checked_weights
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from losses.modules.adapters import traits_of
from losses.modules.base import ClassLoss
from losses.modules.checks import check_loss
from losses.modules.classes import VarifocalLoss
from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising import denoising_assignment
from matchers.targets.targets import Targets
from ragged.values.checks import check_flag, checked_positive

Assignments = Mapping[str, Assignment]
"""Of each layer, by the suffix of its terms; that of the last layer is ""."""
LayerTerms = dict[tuple[str, tuple[str, ...]], list[Term]]
"""Terms of several layers at once, by name and by the suffixes of the layers; of batch shape (L, B)."""


class DetrCriterion(Criterion):
    """The loss of a detection transformer: one-to-one matching of every layer, then classes and boxes.

    Outputs are a dict as ``DecoderOutputs.of`` reads it; boxes are cxcywh, in fractions of the image. They can be
    ragged along the queries. Raw targets must be cxcywh in fractions of the image, too. ``Targets`` are converted;
    boxes in pixels need a ``canvas_size``.

    Terms, each divided by the number of targets of the batch, at least 1:

    * ``loss_cls``: ``loss_cls`` of all queries, if you pass it. A quality loss gets the IoU of a matched box as its
      score. With a background class, for example ``CrossEntropy``, the divisor is the sum of the class weights of
      the queries instead, for each layer;
    * ``loss_vfl``: ``varifocal_loss`` of all queries, with the IoU of a matched box as score of its classes;
    * ``loss_bbox``: L1 of the matched boxes, as cxcywh;
    * ``loss_giou``: ``1 - GIoU`` of the matched boxes.

    Other layers have the same terms with a suffix: ``_aux_0``, ``_aux_1``, …, ``_pre``, ``_enc``, ``_enc_0``, …,
    ``_interm``, and for denoising queries ``_dn_0``, …, ``_dn_pre``; their divisor is the number of targets times
    the number of groups, or the number of queries with a target if ``"dn_target_idx"`` is given. One call matches and
    evaluates all layers of equal shape. ``query_criterion`` has the settings of published systems.

    Args:
        weight_dict: Weight of each term, by its name without suffix. Terms without a weight are not computed.
        alpha, gamma: Parameters of ``loss_vfl``. RT-DETR has 0.75 and 2.
        num_classes: C, without a background.
        loss_cls: The loss of this term: a class loss of ``losses``, ``torch.nn.CrossEntropyLoss(reduction="none")``, or
            one of your own. One with ``has_background`` takes labels and logits (…, C + 1), the background last.
        num_groups: Number of groups of queries in training mode; in evaluation mode there is 1, as in such models. Each
            group is matched with all targets, and the number of groups multiplies the divisor.
        sum_groups: Whether to leave the number of groups out of the divisor.
        agnostic_encoder: Whether the encoder learns class 0 alone, whatever its channels, as in two-stage Deformable
            DETR; see ``DecoderOutputs.of``.
        matcher: ``Hungarian()`` unless given: focal cost 2, L1 5, GIoU 2; softmax cost 1 if ``loss_cls`` has a
            background class.
        reduction, normalizer: See ``Criterion``.

    Raises:
        KeyError: A weight belongs to no term, or a loss has no weight; an output is missing.
        TypeError, ValueError: Shapes or numbers of classes that do not fit; groups that do not divide the queries; a
            label outside ``0 … C - 1``.

    Differences to other implementations: without any target, all terms exist: box terms are 0, class terms count the
    background. OTX weighs a term that is not in ``weight_dict`` by 1. Over several ranks, the divisor is the number of
    all targets over the number of ranks, bounded from below before that division and not after.

    Source: Carion et al., DETR, 2020; Zhao et al., RT-DETR, 2024; Chen et al., Group DETR, 2023.

    >>> outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_boxes": torch.full((1, 4, 4), 0.5)}
    >>> targets = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.25]]), "labels": torch.tensor([2])}]
    >>> DetrCriterion({"loss_bbox": 5.0, "loss_giou": 2.0}, num_classes=3)(outputs, targets)
    {'loss_bbox': tensor(1.2500), 'loss_giou': tensor(1.)}
    """

    TERMS: tuple[str, ...] = ("loss_vfl", "loss_bbox", "loss_giou", "loss_cls")
    # A model may leave out the denoising queries of a batch without targets, which other ranks have.
    COUNTS: tuple[str, ...] = ("num_boxes", "num_boxes_dn")
    DISTRIBUTIONS: bool = False
    MULTI_HOT: bool = True
    BOXES: ClassVar[Mapping[str, Any]] = {"box_format": "cxcywh", "normalized": True}

    def __init__(
        self,
        weight_dict: Mapping[str, float],
        alpha: float = 0.2,
        gamma: float = 2.0,
        num_classes: int = 80,
        *,
        loss_cls: ClassLoss | None = None,
        num_groups: int = 1,
        sum_groups: bool = False,
        agnostic_encoder: bool = False,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        if loss_cls is not None:
            check_loss(loss_cls, "loss_cls")
        has_background = loss_cls is not None and traits_of(loss_cls).has_background
        matcher = usual_matcher(has_background) if matcher is None else matcher
        super().__init__(num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer)
        self.weight_dict = checked_weights(weight_dict, self.TERMS, loss_cls is not None, has_background)
        for name, flag in (("sum_groups", sum_groups), ("agnostic_encoder", agnostic_encoder)):
            check_flag(flag, name)
        self.alpha, self.gamma, self.loss_cls, self.has_background = alpha, gamma, loss_cls, has_background
        self.takes_scores = loss_cls is None or traits_of(loss_cls).takes_scores()
        self.num_groups = checked_positive(num_groups, "num_groups")
        self.sum_groups, self.agnostic_encoder = bool(sum_groups), bool(agnostic_encoder)
        self.COUNTS = (*self.COUNTS, *["class_mass_dn"] * has_background)
        self.loss_vfl = VarifocalLoss(alpha=alpha, gamma=gamma)

    def read(self, predictions: Any) -> DecoderOutputs:
        """The layers in groups of equal shape."""
        return DecoderOutputs.of(
            predictions,
            num_classes=self.num_classes,
            distributions=self.DISTRIBUTIONS,
            has_background=self.has_background,
            agnostic_encoder=self.agnostic_encoder,
        )

    def with_class_mask(self, predictions: DecoderOutputs, mask: Tensor) -> DecoderOutputs:
        """See ``DecoderOutputs.with_class_mask``; with a background class, it must be of booleans."""
        return predictions.with_class_mask(mask, num_classes=self.num_classes, only_flags=self.has_background)

    def read_targets(self, targets: Any, predictions: Any) -> Targets:
        """Raw layouts hold cxcywh boxes in fractions of the image."""
        return targets if isinstance(targets, Targets) else Targets.of(targets, **self.BOXES)

    def match(self, predictions: DecoderOutputs, targets: Targets) -> LayerAssignments:
        """The assignments of all layers, by the suffixes of their terms."""
        found = tuple(
            matches_of_denoising(predictions.dn_meta, targets, group)
            if group.denoising
            else matches_of_layers(group, targets, self.call_matcher, self.groups)
            for group in predictions.groups
        )
        return LayerAssignments(found, tuple(group.suffixes for group in predictions.groups))

    def look_up(self, predictions: DecoderOutputs, targets: Any, assignment: Assignments | None) -> list[MatchedLayers]:
        """The groups of layers with their targets, of assignments as ``match`` or as ``assign`` gives them."""
        if assignment is None:
            raise ValueError("loss needs the assignments of all layers, as assign gives them")
        if not isinstance(targets, Targets):
            raise TypeError(
                f"targets must be those of images, with the assignments of layers, got {type(targets).__name__}"
            )
        targets.check_labels(self.num_classes)
        return self.matched_layers(predictions, targets, of_groups(predictions, assignment))

    def sizes_of(self, predictions: DecoderOutputs, name: Any = None) -> Tensor | None:
        """Those of the layers of a term, (L, B)."""
        return sizes_of_layers(predictions, name[1])

    def num_layers(self, predictions: DecoderOutputs) -> int:
        """1: all tensors begin with the layers of a group."""
        return 1

    def finished(self, losses: Losses, predictions: DecoderOutputs, terms: Any) -> Losses:
        """The terms of all layers by their names."""
        names = [name + suffix for name, suffixes in losses for suffix in suffixes]
        return dict(zip(names, by_layer(list(losses.values())), strict=True))

    def cardinality_error(self, predictions: Any, targets: Any) -> dict[str, Tensor]:
        """Mean absolute error of the number of detected objects of each layer, for logging.

        With a background class, it counts queries whose best class is not the background; otherwise queries with a
        class probability above 0.5. With groups of queries, it is the mean over the groups. It is not a loss term:
        ``total`` does not include it.

        Args:
            predictions, targets: As for a call.

        Returns:
            ``"cardinality_error"`` with the suffix of each layer, except denoising layers; scalars without a gradient.

        >>> outputs = {"pred_logits": torch.tensor([[[3.0], [1.0], [-1.0]]]), "pred_boxes": torch.rand(1, 3, 4)}
        >>> targets = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.25]]), "labels": torch.tensor([0])}]
        >>> DetrCriterion({"loss_bbox": 5.0}, num_classes=1).cardinality_error(outputs, targets)
        {'cardinality_error': tensor(1.)}
        """
        read = self.read(predictions)
        return cardinality_errors(read, self.read_targets(targets, read), self.has_background, self.groups)

    # --- terms -----------------------------------------------------------------------------------------------------

    def terms(self, predictions: DecoderOutputs, assigned: list[MatchedLayers]) -> LayerTerms:
        """See the class."""
        terms: LayerTerms = {}
        (decoder,) = [group for group in assigned if "" in group.layers.suffixes]
        self.compute_together(assigned, predictions)
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
            seen = without_labels(targets, group)
            own = AssignedTargets.of(seen, assignment, **self.BOXES)
            counts, same = self.divided_by(group, read, targets, own), group.denoising or len(group.suffixes) == 1
            mask = None if group.agnostic else read.class_mask
            groups.append(MatchedLayers(group, own, own, counts, counts, same, mask, (seen, assignment)))
        return groups

    def divided_by(
        self, group: DecoderLayers, read: DecoderOutputs, targets: Targets, own: AssignedTargets
    ) -> dict[str, Tensor]:
        """The divisor of the terms, (1, B): the number of targets, in all groups of queries."""
        count = num_targets(targets).unsqueeze(0)
        if not group.denoising:
            return {"num_boxes": count if self.groups == 1 or self.sum_groups else count * self.groups}
        if read.dn_meta is not None and read.dn_meta.get("dn_target_idx") is not None:
            return {"num_boxes_dn": own.num_positives()[:1]}
        groups = 0 if read.dn_meta is None else read.dn_meta["dn_num_group"]
        return {"num_boxes_dn": count * groups}

    @property
    def groups(self) -> int:
        """How many groups of queries there are: one in evaluation."""
        return self.num_groups if self.training else 1

    def compute_together(self, groups: Sequence[MatchedLayers], read: DecoderOutputs) -> None:
        """What the terms of all groups need and takes many operations, of all groups at once."""
        if self.weight_dict.keys() - {"loss_cls"} and len(groups) > 1:
            compare(groups)

    def group_terms(self, group: MatchedLayers, decoder: MatchedLayers, read: DecoderOutputs) -> LayerTerms:
        """The terms of a group of layers that have a weight; ``decoder`` is the group of the last layer."""
        return {**self.class_terms(group), **self.box_terms(group)}

    def class_terms(self, group: MatchedLayers) -> LayerTerms:
        """The class losses that have a weight."""
        suffixes = group.layers.suffixes
        terms: LayerTerms = {}
        if self.loss_cls is not None and self.takes_scores:
            of_quality = traits_of(self.loss_cls).of_quality
            terms["loss_cls", suffixes] = group.class_term(self.loss_cls, of_quality=of_quality)
        elif self.loss_cls is not None:
            terms["loss_cls", suffixes] = group.label_term(self.loss_cls, self.has_background)
        if "loss_vfl" in self.weight_dict:
            terms["loss_vfl", suffixes] = group.class_term(self.loss_vfl)
        return terms

    def box_terms(self, group: MatchedLayers) -> LayerTerms:
        """L1 and GIoU of the matched boxes."""
        suffixes = group.layers.suffixes
        terms: LayerTerms = {}
        if "loss_bbox" in self.weight_dict:
            terms["loss_bbox", suffixes] = group.box_term(group.compared().distance)
        if "loss_giou" in self.weight_dict:
            terms["loss_giou", suffixes] = group.box_term(group.compared().miss)
        return terms

    @staticmethod
    def get_cdn_matched_indices(dn_meta: Mapping[str, Any], targets: Any) -> list[tuple[Tensor, Tensor]]:
        """The positive denoising queries of each image and their targets, (n * groups,) each, ordered by query.

        Reads sizes on the host, so it synchronises with the device.

        Args:
            dn_meta: As ``matchers.denoising_assignment`` has it.
            targets: Anything that ``Targets.of`` reads, cxcywh in fractions of the image.
        """
        targets = targets if isinstance(targets, Targets) else Targets.of(targets, **DetrCriterion.BOXES)
        return pairs_by_query(denoising_assignment(dn_meta, targets))
