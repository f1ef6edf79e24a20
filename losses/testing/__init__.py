"""Property tests for criteria: scenes with predictions, and ``check_criterion``.

Needs hypothesis: ``pip install "ragged-batch[testing]"``.

    def test_my_criterion():
        check_criterion(MyCriterion(num_classes=5))
"""

from losses.testing.case import CriterionCase, cast, leaves_of, padded, take_targets
from losses.testing.check import check_criterion
from losses.testing.predictions import near, near_at_points, queries
from losses.testing.properties.table import CRITERION_PROPERTIES, applicable, reasons
from losses.testing.roles import is_of_images, take

__all__ = [
    "CRITERION_PROPERTIES",
    "CriterionCase",
    "applicable",
    "cast",
    "check_criterion",
    "is_of_images",
    "leaves_of",
    "near",
    "near_at_points",
    "padded",
    "queries",
    "reasons",
    "take",
    "take_targets",
]
