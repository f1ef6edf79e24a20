"""Every criterion, with predictions for it: what the tests of their common contract run over.

case = EVERY_CRITERION["yolox"]
criterion, predictions = case.make(), case.predictions([3, 0, 1], seed=0)
losses = case.losses(criterion, predictions, case.targets([3, 0, 1], seed=0))
"""

from __future__ import annotations

import atss_case
import detection_case
import detr_case
import rtmdet_case
import ssd_case
import yolov9_case
import yolox_case

from losses.testing import CriterionCase

EVERY_CRITERION: dict[str, CriterionCase] = (
    detr_case.CASES
    | yolox_case.CASES
    | yolov9_case.CASES
    | rtmdet_case.CASES
    | atss_case.CASES
    | ssd_case.CASES
    | detection_case.CASES
)
