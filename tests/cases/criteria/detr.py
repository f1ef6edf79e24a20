"""The criterion of DETR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from reference import detr_loss as loops
from reliability.arguments import assignment
from torch import Tensor

from cases.common import CLASSES, SIZES, call, criterion_of, given, whole
from cases.decoder import (
    ALPHA,
    WEIGHTS,
    changed,
    decoder_case,
    expected,
    expected_of_system,
    layer,
    system,
    system_case,
)
from losses import CrossEntropy, DetrCriterion, FocalLoss, query_criterion
from matchers import Hungarian, Targets
from ragged import RaggedBatch
from tests.mutation.operations import relations
from tests.mutation.planting import Case, Mutant

PROVES = ("DetrCriterion", "query_criterion")
GAMMA = 2.0
CASE = decoder_case(lambda **options: DetrCriterion(WEIGHTS, ALPHA, GAMMA, CLASSES, **options))
OF_SYSTEMS = {"loss_cls": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
GROUPS = 3
CASES = {
    "detr": CASE,
    "detr with a background": system_case(
        lambda **options: query_criterion("detr", CLASSES, **options), background=True, agnostic=True
    ),
    "detr in groups": system_case(
        lambda **options: query_criterion("rf-detr", CLASSES, num_groups=GROUPS, **options), per_image=GROUPS * 7
    ),
}
VARIANTS = set(CASES)


def reference(criterion: DetrCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    if criterion.loss_cls is not None:
        loss = criterion.loss_cls.eos_coef if criterion.has_background else loops.iou_aware
        return expected_of_system(criterion, predictions, targets, loss)
    found = criterion.assign(predictions, targets)
    return expected(predictions, targets, found, fine=False, weights=criterion.weight_dict, gamma=GAMMA)


TAKES = ("by cost", "MaxIoU")
DEFAULT = "Hungarian"
CALLS = {
    "DetrCriterion": whole(
        DetrCriterion,
        CASE,
        weight_dict=WEIGHTS,
        alpha=ALPHA,
        gamma=GAMMA,
        num_classes=CLASSES,
        matcher=Hungarian(),
        loss_cls=None,
        num_groups=1,
        sum_groups=False,
        agnostic_encoder=False,
    ),
    "query_criterion": whole(query_criterion, CASE, system="rt-detr", num_classes=CLASSES),
}
# fmt: off
BAD_INPUTS = [
    ("a matcher's class", lambda: DetrCriterion({"loss_bbox": 1.0}, matcher=Hungarian), TypeError, "matcher must be a matcher, got the class Hungarian"),
    ("misspelt term", lambda: DetrCriterion({"loss_box": 1.0}), KeyError, "weight_dict has a weight for 'loss_box', but the terms are"),
    ("weights of a list", lambda: DetrCriterion(["loss_bbox"]), TypeError, "weight_dict must be a dict of weights by term, got list"),
    ("no logits", lambda: call(CASE, changed(CASE, pred_logits=None)), KeyError, "outputs must have 'pred_logits', got"),
    ("logits of other classes", lambda: call(CASE, changed(CASE, pred_logits=torch.zeros(2, 12, 9))), ValueError, r"pred_logits of outputs must have shape \(B, Q, 5\), got \(2, 12, 9\)"),
    ("boxes of other queries", lambda: call(CASE, changed(CASE, pred_boxes=torch.zeros(2, 11, 4))), ValueError, r"pred_boxes of outputs must have shape \(2, 12, 4\), .*got \(2, 11, 4\)"),
    ("layers of a dict", lambda: call(CASE, changed(CASE, aux_outputs={})), TypeError, r"outputs\['aux_outputs'\] must be a list of dicts, one for each layer, got dict"),
    ("denoising without its numbers", lambda: call(CASE, changed(CASE, dn_meta=None)), KeyError, "outputs of denoising queries need 'dn_meta'"),
    ("a class loss without a weight", lambda: DetrCriterion({"loss_bbox": 1.0}, loss_cls=FocalLoss()), KeyError, "loss_cls is given, but weight_dict has no weight for 'loss_cls'"),
    ("a weight without a class loss", lambda: DetrCriterion({"loss_cls": 1.0}), KeyError, "weight_dict has a weight for 'loss_cls', but no loss_cls is given"),
    ("a class loss that reduces", lambda: DetrCriterion({"loss_cls": 1.0}, loss_cls=FocalLoss(reduction="mean")), ValueError, "loss_cls must have reduction='none', got 'mean'"),
    ("two class losses of other channels", lambda: DetrCriterion({"loss_cls": 1.0, "loss_vfl": 1.0}, loss_cls=CrossEntropy()), ValueError, "loss_vfl has a sigmoid for each class, and loss_cls a background among them"),
    ("no channel for the background", lambda: call(CASES["detr with a background"], CASES["detr in groups"].predictions(SIZES)), ValueError, r"pred_logits of outputs must have shape \(B, Q, 6\), got \(2, 21, 5\); num_classes counts no background, which this loss_cls has"),
    ("groups that do not divide the queries", lambda: call(CASES["detr in groups"], system([torch.zeros(0, 4)] * 2, 0)  | {"enc_outputs": layer([torch.zeros(0, 4)] * 2, 10, torch.Generator())}), ValueError, "num_groups must divide the queries: got 3 groups and 10 queries of layer '_enc'"),
    ("no group", lambda: query_criterion("rf-detr", num_groups=0), ValueError, "num_groups must be at least 1, got 0"),
    ("an unknown system", lambda: query_criterion("rfdetr"), ValueError, "system must be one of detr, .* deim, got 'rfdetr'; did you mean 'rf-detr'"),
    ("an argument that no criterion has", lambda: query_criterion("detr", groups=2), TypeError, "unexpected keyword argument 'groups'"),
    ("a mask of other classes", lambda: criterion_of(CASE)(*given(CASE), valid_label_mask=torch.ones(2, 9)), ValueError, r"valid_label_mask must broadcast to the shape of images and classes \(B, C\), \(2, 5\), got \(2, 9\)"),
    ("a mask of weights for a softmax", lambda: criterion_of(CASES["detr with a background"])(*given(CASES["detr with a background"]), valid_label_mask=torch.ones(2, 5)), TypeError, "valid_label_mask must be of booleans for a softmax"),
    ("an encoder of other classes", lambda: call(CASE, changed(CASE, enc_outputs={"logits": torch.zeros(2, 12, 3), "pred_boxes": torch.zeros(2, 12, 4)})), ValueError, r"pred_logits of outputs\['enc_outputs'\] must have shape \(B, Q, 5\), got \(2, 12, 3\); .*an encoder that asks for no class"),
    ("two names of one thing", lambda: call(CASE, changed(CASE, auxiliary_outputs=given(CASE)[0]["aux_outputs"])), KeyError, "outputs have both 'auxiliary_outputs' and 'aux_outputs', which are the same: give one"),
    ("loss with assignments in a list", lambda: criterion_of(CASE).loss(*given(CASE), [assignment()]), TypeError, "assignments must be a dict, as assign gives it, got list"),
]
# fmt: on


def number_of_targets(code: Callable[[str], Any]) -> Callable[..., Any]:
    def op(weights: RaggedBatch, ignore: RaggedBatch) -> Any:
        labels = weights.create_with_sample_sizes_like_self(torch.zeros_like(weights.tensor, dtype=torch.int64))
        boxes = labels.create_with_sample_sizes_like_self(weights.tensor.new_zeros(*weights.shape, 4))
        return code(_NUM_TARGETS)(Targets(boxes, labels, weights=weights, ignore=ignore))

    return op


def weights_and_flags() -> list[tuple[RaggedBatch, RaggedBatch]]:
    weights = RaggedBatch(torch.rand(4, 4) + 0.5, sample_sizes=[3, 0, 1, 2])
    return [(weights, weights.create_with_sample_sizes_like_self(torch.arange(16).view(4, 4) % 2 == 0))]


_NUM_TARGETS = "losses.criteria.query.matching:num_targets"
OPERATIONS = {
    "number of targets": Case(
        number_of_targets,
        weights_and_flags,
        lambda weights, ignore: weights[~ignore].sum(),
        without=frozenset({"gradients"}),
        relations=(relations.ignored_weights_do_not_count,),
    )
}
BUGS = [
    Mutant(
        "choice",
        "groups that do not count in the divisor",
        "losses.criteria.query.detr",
        "count * self.groups}",
        "count}",
        "detr in groups",
        "reference",
    ),
    Mutant(
        "choice",
        "divided by targets, though there is a background",
        "losses.criteria.query.detr",
        "group.label_term(self.loss_cls, self.has_background)",
        "group.label_term(self.loss_cls, False)",
        "detr with a background",
        "reference",
    ),
    Mutant(
        "mask dropped",
        "ignored targets in the divisor",
        _NUM_TARGETS,
        ".masked_fill(~targets.matchable, 0)",
        "",
        "number of targets",
        "relation",
    ),
    Mutant(
        "batch-global",
        "targets of all images in the divisor of each",
        "losses.criteria.query.detr",
        "count = num_targets(targets).unsqueeze(0)",
        "count = num_targets(targets).mean().expand(1, len(targets.num_targets))",
        "detr",
        "images alone",
    ),
]
