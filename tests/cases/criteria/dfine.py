"""The criterion of D-FINE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cases.common import CLASSES, call, whole
from cases.decoder import ALPHA, FINE_WEIGHTS, REG_MAX, changed, decoder_case, expected
from losses import DFINECriterion
from matchers import Targets
from tests.mutation.planting import Mutant

PROVES = ("DFINECriterion",)
GAMMA = 2.0
CASE = decoder_case(
    lambda **options: DFINECriterion(FINE_WEIGHTS, ALPHA, GAMMA, CLASSES, REG_MAX, **options), fine=True
)
CASES = {
    "dfine": CASE,
    "dfine without union": decoder_case(
        lambda **options: DFINECriterion(
            FINE_WEIGHTS, ALPHA, GAMMA, CLASSES, REG_MAX, union=False, balance="own", **options
        ),
        fine=True,
    ),
}
VARIANTS = {"dfine without union"}


def reference(criterion: DFINECriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    found = criterion.assign(predictions, targets)
    return expected(
        predictions,
        targets,
        found,
        fine=True,
        weights=criterion.weight_dict,
        gamma=GAMMA,
        union_of_layers=criterion.union,
        own_numbers=criterion.balance == "own",
    )


TAKES = ("by cost", "MaxIoU")
DEFAULT = "Hungarian"
CALLS = {
    "DFINECriterion": whole(
        DFINECriterion,
        CASE,
        weight_dict=FINE_WEIGHTS,
        alpha=ALPHA,
        gamma=GAMMA,
        num_classes=CLASSES,
        reg_max=REG_MAX,
        temperature=5.0,
        union=True,
        balance="decoder",
        up=0.5,
        reg_scale=4.0,
    )
}
# fmt: off
BAD_INPUTS = [
    ("weight of text", lambda: DFINECriterion({"loss_bbox": "5"}), TypeError, "the weight of loss_bbox must be a number, got str"),
    ("points of text", lambda: call(CASE, changed(CASE, ref_points="text")), TypeError, "ref_points of outputs must be a torch.Tensor, got str"),
    ("points too few", lambda: call(CASE, changed(CASE, ref_points=torch.zeros(2, 3, 4))), ValueError, r"ref_points of outputs must have shape \(2, 12, 4\), got \(2, 3, 4\)"),
    ("bins without their scale", lambda: call(CASE, changed(CASE, up=None)), KeyError, "outputs with pred_corners must have 'up' as well, for loss_fgl, or the criterion up="),
    ("numbers of nobody", lambda: DFINECriterion({"loss_ddf": 1.0}, balance="teacher"), ValueError, "balance must be 'decoder' or 'own', got 'teacher'"),
    ("corners of other queries", lambda: call(CASE, changed(CASE, teacher_corners=torch.zeros(2, 3, 20))), ValueError, r"teacher_corners of outputs must have shape \(2, 12, 4 \* R\), got \(2, 3, 20\)"),
]
# fmt: on
BUGS = [
    Mutant(
        "choice",
        "the teacher's certainty has no sigmoid",
        "losses.criteria.query.dfine",
        'wide(_of_layers(extras, "teacher_logits").detach()).amax(-1).sigmoid()',
        'wide(_of_layers(extras, "teacher_logits").detach()).amax(-1)',
        "dfine",
        "reference",
    )
]
