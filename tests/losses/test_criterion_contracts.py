"""What every criterion keeps to: images that do not see each other, padding, empties, precision, no synchronisation."""

from __future__ import annotations

import pytest
from criterion_cases import EVERY_CRITERION

from losses.testing import CRITERION_PROPERTIES, applicable


@pytest.mark.parametrize("prop", CRITERION_PROPERTIES)
@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_every_criterion(name: str, prop: str) -> None:
    CRITERION_PROPERTIES[prop](EVERY_CRITERION[name])


def test_no_property_is_skipped() -> None:
    for name, case in EVERY_CRITERION.items():
        assert applicable(case) == list(CRITERION_PROPERTIES), name
