"""Every criterion, with predictions for it: what the tests of their common contract run over.

case = EVERY_CRITERION["yolox"]
criterion, predictions = case.make(), case.predictions([3, 0, 1], seed=0)
losses = criterion(predictions, case.targets([3, 0, 1], seed=0))
"""

from __future__ import annotations

import detr_case
import yolox_case
from criterion_types import *  # noqa: F403
from criterion_types import CriterionCase

EVERY_CRITERION: dict[str, CriterionCase] = yolox_case.CASES | detr_case.CASES
