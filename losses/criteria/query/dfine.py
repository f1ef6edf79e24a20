"""The criterion of D-FINE: that of DETR, with boxes as distributions that learn from the last layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from losses.coders.dfine_bins import bbox2distance
from losses.core.assigned import AssignedTargets
from losses.core.normalizer import Normalizer
from losses.core.terms import Term
from losses.criteria.query.balance import BALANCES, shares
from losses.criteria.query.detr import DetrCriterion, LayerTerms
from losses.criteria.query.matched_layers import MatchedLayers, chosen
from losses.criteria.query.matching import of_all_layers
from losses.functional.distribution import fine_grained_localization_loss, mean_distillation
from losses.functional.numerics import check_scores
from losses.heads.decoder import DecoderLayers, DecoderOutputs
from losses.modules.base import ClassLoss
from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising import union_of_matches
from matchers.targets.targets import Targets
from ragged.values.checks import check_flag, check_number, check_one_of, check_positive
from ragged.values.once import once
from ragged.values.precision import wide


class DFINECriterion(DetrCriterion):
    """The loss of D-FINE (Peng et al., 2024): the terms of ``DetrCriterion``, plus fine-grained localisation and
    distillation from the last layer.

    Outputs are those of ``DetrCriterion``, and of layers that refine distributions ``"pred_corners"``
    (B, Q, 4 * (reg_max + 1)) and ``"ref_points"`` (B, Q, 4), with ``"up"`` and ``"reg_scale"`` of the model; of layers
    that learn from the last one ``"teacher_corners"`` and ``"teacher_logits"``, like those of the layer itself.

    The class loss of a layer uses the layer's own matches. Boxes are compared with the union of the matches of all
    layers except denoising layers (``matchers.union_of_matches``). Terms besides ``loss_vfl``, ``loss_bbox``
    and ``loss_giou``, where the layer gives what they need:

    * ``loss_fgl``: of the matched boxes, ``fine_grained_localization_loss`` of the four sides, weighted by the IoU.
    * ``loss_ddf``: of all queries, ``decoupled_distillation_loss``, mean of the four sides, weighted by the IoU of
      matched boxes and by the teacher's highest probability for all others. With n matched and m other queries it is
      ``(√n mean over the matched + √m mean over the others) / (√n + √m)``; n and m are those of the decoder's queries
      also for denoising ones.

    ``loss_bbox``, ``loss_giou`` and ``loss_fgl`` are divided by the number of matches in the union, ``loss_vfl`` by
    the number of targets; denoising terms by the number of targets times the number of groups.

    Args:
        weight_dict, alpha, gamma, num_classes: As for ``DetrCriterion``.
        reg_max: One less than there are bins to a side.
        temperature: Of the distillation.
        union: Whether boxes are compared with the union of matches. If False, boxes use the layer's own matches, and
            the number of targets divides all terms.
        balance: Where n and m of ``loss_ddf`` come from for denoising queries: ``"decoder"``, as published, or
            ``"own"``, those of the denoising queries, as in transformers.
        up, reg_scale: Of the bins, if the outputs do not have them.
        loss_cls, num_groups, sum_groups, agnostic_encoder, matcher, reduction, normalizer: As for ``DetrCriterion``.

    Raises:
        KeyError, TypeError, ValueError: As ``DetrCriterion``; the number of bins does not fit.

    Differences to other implementations: IoU weights apply even if all are 0. On a tie of votes, a query takes the
    target of lower index. The numbers n and m are those of the same call. The outputs are not changed. Over several
    ranks, all numbers are those of the whole global batch. D-FINE in transformers has no union, and numbers of each
    layer's own: ``union=False, balance="own"``.
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
        union: bool = True,
        balance: str = "decoder",
        up: float | None = None,
        reg_scale: float | None = None,
        loss_cls: ClassLoss | None = None,
        num_groups: int = 1,
        sum_groups: bool = False,
        agnostic_encoder: bool = False,
        matcher: Callable[..., Assignment] | None = None,
        reduction: str = "mean",
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__(
            weight_dict,
            alpha,
            gamma,
            num_classes,
            loss_cls=loss_cls,
            num_groups=num_groups,
            sum_groups=sum_groups,
            agnostic_encoder=agnostic_encoder,
            matcher=matcher,
            reduction=reduction,
            normalizer=normalizer,
        )
        check_positive(reg_max, "reg_max")
        check_number(temperature, "temperature")
        check_flag(union, "union")
        check_one_of(balance, BALANCES, "balance")
        for name, value in (("up", up), ("reg_scale", reg_scale)):
            if value is not None:
                check_number(value, name)
        self.reg_max, self.temperature = reg_max, temperature
        self.union, self.balance, self.up, self.reg_scale = bool(union), balance, up, reg_scale
        if not union:
            self.COUNTS = (*self.COUNTS, *(f"num_{which}_last" for which in ("matched", "others")))

    def matched_layers(
        self, read: DecoderOutputs, targets: Targets, assignments: Sequence[Assignment]
    ) -> list[MatchedLayers]:
        """The groups of layers; with the union of matches for the boxes of those that have the queries of the last."""
        groups = super().matched_layers(read, targets, assignments)
        if not self.union:
            return groups
        queries = groups[0].layers.logits.shape[-2]
        alike = [not each.layers.denoising and each.layers.logits.shape[-2] == queries for each in groups]
        union = union_of_matches(_layers_of([each for each, own in zip(assignments, alike, strict=True) if own]))
        found = []
        for group, own in zip(groups, alike, strict=True):
            if own:
                everywhere = of_all_layers(union, len(group.layers.suffixes))
                boxes = AssignedTargets.of(targets, everywhere, **self.BOXES)
                group = replace(group, boxes=boxes, same_boxes=True)
                group = replace(group, box_counts={"num_boxes_union": group.numbers_of([0])[0]})
            found.append(group)
        return found

    def compute_together(self, groups: Sequence[MatchedLayers], read: DecoderOutputs) -> None:
        """Of the fine-grained localisation as well."""
        super().compute_together(groups, read)
        refined = [group for group in groups if self._refining(group)]
        if refined and "loss_fgl" in self.weight_dict:
            self._compute_fgl(refined, read)

    def group_terms(self, group: MatchedLayers, decoder: MatchedLayers, read: DecoderOutputs) -> LayerTerms:
        """DETR's terms, and those of distributions."""
        terms = super().group_terms(group, decoder, read)
        extras, suffixes, refining = group.layers.extras, group.layers.suffixes, self._refining(group)
        learning = [index for index in refining if "teacher_corners" in extras[index]]
        if refining and "loss_fgl" in self.weight_dict:
            boxes = group.boxes_of(refining)
            own = Term(boxes.counted_rows(group.computed["fgl"]), group.box_counts, boxes.positives)
            terms["loss_fgl", tuple(suffixes[index] for index in refining)] = [own]
        if learning and "loss_ddf" in self.weight_dict:
            terms["loss_ddf", tuple(suffixes[index] for index in learning)] = self._ddf(group, learning, decoder)
        return terms

    def _refining(self, group: MatchedLayers) -> list[int]:
        """The layers of a group that refine distributions."""
        extras, suffixes = group.layers.extras, group.layers.suffixes
        found = [index for index, extra in enumerate(extras) if "pred_corners" in extra]
        for index in found:
            self._check_corners(extras[index], group.layers, suffixes[index])
        return found

    def _corners(self, group: MatchedLayers) -> Tensor:
        """The distributions of the layers that refine them, (L, B, Q, 4, R)."""
        extras = [group.layers.extras[index] for index in self._refining(group)]
        found: Tensor = once(group.computed, "corners", lambda: _of_layers(extras, "pred_corners"))
        return found.unflatten(-1, (4, self.reg_max + 1))

    def _compute_fgl(self, groups: Sequence[MatchedLayers], read: DecoderOutputs) -> None:
        """Of the matched boxes (R,) of each group, not weighted yet."""
        parts = []
        for group in groups:
            refining = self._refining(group)
            boxes = group.boxes_of(refining)
            points = torch.stack([group.layers.extras[index]["ref_points"].detach() for index in refining])
            rows = [wide(boxes.positives.of_predictions(each)) for each in (self._corners(group), points)]
            parts.append((*rows, boxes.boxes, group.overlaps_of(boxes, refining)))
        corners, points, gts, overlaps = (
            each[0] if len(each) == 1 else torch.cat(each) for each in zip(*parts, strict=True)
        )
        bins = bbox2distance(points, gts, reg_max=self.reg_max, **self._constants(read))
        values = fine_grained_localization_loss(
            corners,
            bins.left,
            weight_left=bins.weight_left,
            weight_right=bins.weight_right,
            quality=overlaps.unsqueeze(-1),
        ).sum(-1)
        for group, own in zip(groups, values.split([len(part[0]) for part in parts]), strict=True):
            group.computed["fgl"] = own

    def _ddf(self, group: MatchedLayers, learning: list[int], decoder: MatchedLayers) -> list[Term]:
        boxes = group.boxes_of(learning)
        rows, extras = boxes.positives, [group.layers.extras[index] for index in learning]
        refining = self._refining(group)
        student = chosen(self._corners(group), [refining.index(index) for index in learning])
        teacher = _of_layers(extras, "teacher_corners").unflatten(-1, student.shape[-2:])
        loss = mean_distillation(student, teacher, temperature=self.temperature)
        sure = wide(_of_layers(extras, "teacher_logits").detach()).amax(-1).sigmoid()
        # Weighted apart: one selection of weights for both is what inductor fuses into wrong values.
        of_matched = rows.rows_of(loss) * group.overlaps_of(boxes, learning)
        of_others = boxes.counted_background(loss * sure)
        kinds = [("dn" if group.layers.denoising else "queries", group.numbers_of(learning))]
        if group.layers.denoising and self.balance == "decoder":
            kinds.append(("queries" if self.union else "last", decoder.numbers_of([0])))
        counts: dict[str, Tensor] = {}
        for kind, (matched, others) in kinds:
            counts |= {f"num_matched_{kind}": matched, f"num_others_{kind}": others}
        return [
            Term(boxes.counted_rows(of_matched), counts, rows, divisor=shares, part=0),
            Term(of_others, counts, divisor=shares, part=1),
        ]

    def _constants(self, read: DecoderOutputs) -> dict[str, Any]:
        """Those of the bins, as the outputs or the criterion have them."""
        found: dict[str, Any] = {}
        for key, own in (("up", self.up), ("reg_scale", self.reg_scale)):
            found[key] = read.constants.get(key, own)
            if found[key] is None:
                raise KeyError(
                    f"outputs with pred_corners must have {key!r} as well, for loss_fgl, or the criterion {key}="
                )
        return found

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
            targets: (n,); the integer part is the left bin.
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
    return assignments[0] if len(assignments) == 1 else [layer for each in assignments for layer in each.unstack()]


def _of_layers(extras: Sequence[Mapping[str, Tensor]], key: str) -> Tensor:
    """What the outputs of layers have, (L, …); (1, …) where all have the same, as they have one teacher."""
    values = [extra[key] for extra in extras]
    return values[0].unsqueeze(0) if all(value is values[0] for value in values) else torch.stack(values)
