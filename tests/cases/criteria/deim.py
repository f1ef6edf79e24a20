"""The criterion of DEIM."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cases.common import CLASSES, whole
from cases.decoder import ALPHA, FINE_WEIGHTS, REG_MAX, decoder_case, expected
from losses import DEIMCriterion
from matchers import Targets
from tests.mutation.planting import Mutant

PROVES = ("DEIMCriterion",)
GAMMA = 1.5
WEIGHTS = FINE_WEIGHTS | {"loss_mal": 1.0}
CASE = decoder_case(
    lambda **options: DEIMCriterion(WEIGHTS, ALPHA, GAMMA, CLASSES, REG_MAX, **options), fine=True, denoising=False
)
CASES = {"deim": CASE}
VARIANTS = {"deim"}


def reference(criterion: DEIMCriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    found = criterion.assign(predictions, targets)
    return expected(predictions, targets, found, fine=True, weights=criterion.weight_dict, gamma=GAMMA)


TAKES = ("by cost", "MaxIoU")
DEFAULT = "Hungarian"
CALLS = {
    "DEIMCriterion": whole(
        DEIMCriterion,
        CASE,
        weight_dict={"loss_mal": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0},
        num_classes=CLASSES,
        reg_max=REG_MAX,
    )
}
# fmt: off
BAD_INPUTS = [
    ("misspelt term of DEIM", lambda: DEIMCriterion({"loss_mall": 1.0}), KeyError, "weight_dict has a weight for 'loss_mall', but the terms are .*loss_mal"),
]
# fmt: on
BUGS = [
    Mutant(
        "choice",
        "another exponent than that of the criterion",
        "losses.criteria.query.deim",
        "MatchabilityAwareLoss(gamma=self.gamma)",
        "MatchabilityAwareLoss(gamma=2.0)",
        "deim",
        "reference",
    )
]
