"""The criterion of DETR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from reliability.arguments import assignment
from torch import Tensor

from cases.common import CLASSES, call, criterion_of, given, whole
from cases.decoder import ALPHA, WEIGHTS, changed, decoder_case, expected
from losses import DetrCriterion
from matchers import Hungarian, Targets
from ragged import RaggedBatch
from tests.mutation.planting import Case, Mutant

PROVES = ("DetrCriterion",)
GAMMA = 2.0
CASE = decoder_case(lambda **options: DetrCriterion(WEIGHTS, ALPHA, GAMMA, CLASSES, **options))
CASES = {"detr": CASE}
VARIANTS = {"detr"}


def reference(criterion: DetrCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
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
    )
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
    )
}
BUGS = [
    Mutant(
        "mask dropped",
        "ignored targets in the divisor",
        _NUM_TARGETS,
        ".masked_fill(~targets.matchable, 0)",
        "",
        "number of targets",
        "reference",
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
