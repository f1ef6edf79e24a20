"""The criterion of D-FINE: that of DETR, with boxes as distributions that learn from the last layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from losses.coders.dfine_bins import bbox2distance
from losses.core.assigned import AssignedTargets
from losses.core.normalizer import Normalizer
from losses.core.positives import Positives
from losses.core.terms import Term
from losses.criteria.query.detr import DetrCriterion, LayerTerms, of_all_layers, targets_of_layers
from losses.criteria.query.matched_layers import MatchedLayers, overlap
from losses.functional.distribution import decoupled_distillation_loss, fine_grained_localization_loss
from losses.functional.numerics import check_scores
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising import union_of_matches
from matchers.assignments.parts import BACKGROUND
from matchers.targets.targets import Targets
from ragged.values.checks import check_number, check_one_of, check_positive
from ragged.values.precision import wide


class DFINECriterion(DetrCriterion):
    """The loss of D-FINE (Peng et al., 2024): DETR's, fine-grained localisation, and distillation from the last layer.

    Outputs are those of ``DetrCriterion``, and of layers that refine distributions ``"pred_corners"``
    (B, Q, 4 * (reg_max + 1)) and ``"ref_points"`` (B, Q, 4), with ``"up"`` and ``"reg_scale"`` of the model; of layers
    that learn from the last one ``"teacher_corners"`` and ``"teacher_logits"``, like those of the layer itself.

    The class loss of a layer is of the layer's own matches. Boxes are compared with the union of the matches of all
    layers that are not of denoising queries (``matchers.union_of_matches``). Terms besides ``loss_vfl``, ``loss_bbox``
    and ``loss_giou``, where the layer gives what they need:

    * ``loss_fgl``: of the matched boxes, ``fine_grained_localization_loss`` of the four sides, weighted by the IoU.
    * ``loss_ddf``: of all queries, ``decoupled_distillation_loss``, mean of the four sides, weighted by the IoU of
      matched boxes and by the teacher's highest probability for all others. With n matched and m other queries it is
      ``(√n mean over the matched + √m mean over the others) / (√n + √m)``; n and m are those of the decoder's queries
      also for denoising ones.

    ``loss_bbox``, ``loss_giou`` and ``loss_fgl`` are divided by the number of matches in the union, ``loss_vfl`` by
    that of targets; denoising terms by the number of targets times that of groups.

    Args:
        weight_dict, alpha, gamma, num_classes: As for ``DetrCriterion``.
        reg_max: One less than there are bins to a side.
        temperature: Of the distillation.
        matcher, reduction, normalizer: As for ``DetrCriterion``.

    Raises:
        KeyError, TypeError, ValueError: As ``DetrCriterion``; the number of bins does not fit.

    Differences to other implementations: IoU weights count also where all of them are 0. A query with as many votes for
    one target as for another takes the one of lower index. The numbers n and m are those of the same call. The outputs
    are not changed. Over several ranks, all numbers are those of the whole global batch.
    """

    TERMS = (*DetrCriterion.TERMS, "loss_fgl", "loss_ddf")
    COUNTS = (
        *DetrCriterion.COUNTS,
        "num_boxes_union",
        *(f"num_{which}_{kind}" for kind in ("queries", "dn") for which in ("matched", "others")),
    )

    DISTRIBUTIONS = True

    def __init__(
        self,
        weight_dict: Mapping[str, float],
        alpha: float = 0.2,
        gamma: float = 2.0,
        num_classes: int = 80,
        reg_max: int = 32,
        *,
        temperature: float = 5.0,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__(
            weight_dict, alpha, gamma, num_classes, matcher=matcher, reduction=reduction, normalizer=normalizer
        )
        check_positive(reg_max, "reg_max")
        check_number(temperature, "temperature")
        self.reg_max, self.temperature = reg_max, temperature

    def matched_layers(
        self, read: DecoderOutputs, targets: Targets, assignments: Sequence[Assignment]
    ) -> list[MatchedLayers]:
        """The groups of layers, with the union of matches for the boxes of those that have the queries of the last."""
        groups = super().matched_layers(read, targets, assignments)
        queries = groups[0].layers.logits.shape[-2]
        alike = [not each.layers.denoising and each.layers.logits.shape[-2] == queries for each in groups]
        union = union_of_matches(_layers_of([each for each, own in zip(assignments, alike, strict=True) if own]))
        found = []
        for group, own in zip(groups, alike, strict=True):
            if own:
                boxes = targets_of_layers(targets, of_all_layers(union, len(group.layers.suffixes)))
                counts = {"num_boxes_union": boxes.num_positives()[:1]}
                group = replace(group, boxes=boxes, box_counts=counts, same_boxes=True)
            found.append(group)
        return found

    def group_terms(self, group: MatchedLayers, decoder: MatchedLayers, read: DecoderOutputs) -> LayerTerms:
        """DETR's terms, and those of distributions."""
        terms = super().group_terms(group, decoder, read)
        extras, suffixes = group.layers.extras, group.layers.suffixes
        refining = [index for index, extra in enumerate(extras) if "pred_corners" in extra]
        learning = [index for index in refining if "teacher_corners" in extras[index]]
        for index in refining:
            self._check_corners(extras[index], group.layers, suffixes[index])
        if refining and "loss_fgl" in self.weight_dict:
            terms["loss_fgl", tuple(suffixes[index] for index in refining)] = self._fgl(group, refining, read)
        if learning and "loss_ddf" in self.weight_dict:
            terms["loss_ddf", tuple(suffixes[index] for index in learning)] = self._ddf(group, learning, decoder)
        return terms

    def _fgl(self, group: MatchedLayers, refining: list[int], read: DecoderOutputs) -> list[Term]:
        boxes, first = _same_matches(group, len(refining)), _same_matches(group, 1).positives
        missing = [key for key in ("up", "reg_scale") if key not in read.constants]
        if missing:
            raise KeyError(f"outputs with pred_corners must have {missing[0]!r} as well, for loss_fgl")
        extras = [group.layers.extras[index] for index in refining]
        corners = torch.cat([first.of_predictions(extra["pred_corners"].unsqueeze(0)) for extra in extras])
        points = torch.cat([first.of_predictions(extra["ref_points"].unsqueeze(0)) for extra in extras])
        bins = bbox2distance(
            wide(points.detach()),
            boxes.boxes,
            reg_max=self.reg_max,
            reg_scale=read.constants["reg_scale"],
            up=read.constants["up"],
        )
        values = fine_grained_localization_loss(
            corners.unflatten(-1, (4, self.reg_max + 1)),
            bins.left,
            weight_left=bins.weight_left,
            weight_right=bins.weight_right,
            quality=_overlaps(group, refining).unsqueeze(-1),
        )
        return [Term(boxes.counted_rows(values.sum(-1)), group.box_counts, boxes.positives)]

    def _ddf(self, group: MatchedLayers, learning: list[int], decoder: MatchedLayers) -> list[Term]:
        boxes = _same_matches(group, len(learning))
        bins = (4, self.reg_max + 1)
        values, sure = [], []
        for index in learning:
            extra = group.layers.extras[index]
            student, teacher = (extra[key].unflatten(-1, bins) for key in ("pred_corners", "teacher_corners"))
            values.append(decoupled_distillation_loss(student, teacher, temperature=self.temperature).mean(-1))
            sure.append(wide(extra["teacher_logits"].detach()).amax(-1).sigmoid())
        loss, positive = torch.stack(values), boxes.is_positive
        # Weighted apart: one selection of weights for both is what inductor fuses into wrong values.
        of_matched = loss * boxes.positives.per_prediction(_overlaps(group, learning))
        of_others = loss * torch.stack(sure)
        kind = "dn" if group.layers.denoising else "queries"
        own, mixed = _numbers(_same_matches(group, 1), kind), _numbers(_same_matches(decoder, 1), "queries")
        counts = {**own, **mixed}
        return [
            Term(boxes.counted(of_matched).masked_fill(~positive, 0), counts, divisor=_share_of_matched),
            Term(boxes.counted(of_others).masked_fill(positive, 0), counts, divisor=_share_of_others),
        ]

    def _check_corners(self, extra: Mapping[str, Tensor], layers: DecoderLayers, suffix: str) -> None:
        shape = (*layers.logits.shape[1:3], 4 * (self.reg_max + 1))
        for key in ("pred_corners", "teacher_corners"):
            if key in extra:
                check_scores(extra[key], f"{key} of layer {suffix!r}")
                if extra[key].shape != shape:
                    raise ValueError(
                        f"{key} of layer {suffix!r} must have shape (B, Q, 4 * (reg_max + 1)) = {shape}, "
                        f"got {tuple(extra[key].shape)}"
                    )
        needed = ["ref_points"] + ["teacher_logits"] * ("teacher_corners" in extra)
        missing = [key for key in needed if key not in extra]
        if missing:
            raise KeyError(f"layer {suffix!r} has {', '.join(extra)}, and must have {missing[0]!r} as well")

    @staticmethod
    def fgl_loss(
        preds: Tensor,
        targets: Tensor,
        weight_right: Tensor,
        weight_left: Tensor,
        iou_weight: Tensor | None = None,
        reduction: str = "sum",
        avg_factor: float | None = None,
    ) -> Tensor:
        """Fine-grained localisation loss of given bins, reduced.

        Args:
            preds: (n, reg_max + 1), logits.
            targets: (n,), whose whole part is the bin on the left.
            weight_right, weight_left: (n,), of the bins on the right and on the left.
            iou_weight: (n,), or None for 1. Weights that are all 0 count as any others.
            reduction: ``"sum"``, ``"mean"`` or ``"none"``.
            avg_factor: If given, the sum is divided by it, whatever the reduction.

        >>> half = torch.tensor([0.5])
        >>> DFINECriterion.fgl_loss(torch.zeros(1, 4), torch.tensor([1.0]), half, half)
        tensor(1.3863)
        """
        check_one_of(reduction, ("sum", "mean", "none"), "reduction")
        values = fine_grained_localization_loss(
            preds,
            targets,
            weight_left=weight_left.reshape(targets.shape),
            weight_right=weight_right.reshape(targets.shape),
            quality=None if iou_weight is None else iou_weight.reshape(targets.shape),
        )
        if avg_factor is not None:
            return values.sum() / avg_factor
        return values if reduction == "none" else values.sum() if reduction == "sum" else values.mean()


def _layers_of(assignments: Sequence[Assignment]) -> Assignment | list[Assignment]:
    """The layers of several groups, whose first dimension they are."""
    if len(assignments) == 1:
        return assignments[0]
    return [layer for each in assignments for layer in each.unstack()]


def _overlaps(group: MatchedLayers, layers: list[int]) -> Tensor:
    """IoU (R,) of the matched boxes of some layers, one after the other. A constant."""
    first, boxes = _same_matches(group, 1), group.layers.boxes.detach()
    pred = [first.positives.of_predictions(boxes[index : index + 1]) for index in layers]
    return overlap(torch.cat(pred), torch.cat([first.boxes] * len(layers)))


def _same_matches(group: MatchedLayers, count: int) -> AssignedTargets:
    """The box targets of ``count`` layers, all of which have the same matches."""
    if not group.same_boxes:
        raise ValueError(
            "loss_fgl and loss_ddf are of boxes that have the same matches in all layers, as "
            "DFINECriterion.matched_layers gives them; those given here may differ: let it call "
            "super().matched_layers, or set same_boxes if they do not"
        )
    boxes, layers = group.boxes, len(group.layers.suffixes)
    rows = len(boxes.positives) // layers * count
    own = boxes.positives
    positives = Positives(
        own.sample[:rows],
        own.prediction[:rows],
        own.target[:rows],
        None if own.valid is None else own.valid[:rows],
        (count, *own.shape[1:]),
    )
    weights = None if boxes.weights is None else boxes.weights[:count]
    return AssignedTargets(boxes.labels[:count], boxes.quality[:count], positives, boxes.boxes[:rows], weights)


def _numbers(first: AssignedTargets, kind: str) -> dict[str, Tensor]:
    """How many queries are matched, and how many are not, (1, B) each."""
    background = (first.labels == BACKGROUND).sum(-1).float()
    return {f"num_matched_{kind}": first.num_positives(), f"num_others_{kind}": background}


def _share_of_matched(matched: Tensor, others: Tensor, *mixed: Tensor) -> Tensor:
    n, m = mixed or (matched, others)
    return matched.clamp(min=1) * (n.sqrt() + m.sqrt()).clamp(min=1) / n.sqrt()


def _share_of_others(matched: Tensor, others: Tensor, *mixed: Tensor) -> Tensor:
    n, m = mixed or (matched, others)
    return others.clamp(min=1) * (n.sqrt() + m.sqrt()).clamp(min=1) / m.sqrt()
