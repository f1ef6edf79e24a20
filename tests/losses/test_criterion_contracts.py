"""What every criterion keeps to: images that do not see each other, padding, empties, precision, no synchronisation."""

from __future__ import annotations

import pickle

import pytest
import torch
from criterion_cases import EVERY_CRITERION
from effort import mostly_thorough

from losses.testing import CRITERION_PROPERTIES, applicable

# A variant has nearly the graph of another criterion.
VARIANTS = {"detr", "deim", "atss qfl", "yolov9 with auxiliary branch", "detection"}
PROMISES = [(name, prop) for name in EVERY_CRITERION for prop in CRITERION_PROPERTIES]
USUAL = [(name, prop) for name, prop in PROMISES if prop != "compilation" or name not in VARIANTS]


@pytest.mark.parametrize(("name", "prop"), mostly_thorough(PROMISES, USUAL))
def test_every_criterion(name: str, prop: str) -> None:
    CRITERION_PROPERTIES[prop](EVERY_CRITERION[name])


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_can_be_pickled(name: str) -> None:
    case = EVERY_CRITERION[name]
    predictions, targets = case.predictions([3, 0]), case.targets([3, 0])
    criterion = case.make()
    restored = pickle.loads(pickle.dumps(criterion))
    expected = case.losses(criterion, predictions, targets)
    torch.testing.assert_close(case.losses(restored, predictions, targets), expected, rtol=0, atol=0)


def test_no_property_is_skipped() -> None:
    for name, case in EVERY_CRITERION.items():
        assert applicable(case) == list(CRITERION_PROPERTIES), name
