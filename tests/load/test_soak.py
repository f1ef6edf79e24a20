"""A short run of the soak: the number of live tensors does not change at all."""

from __future__ import annotations

import pytest
from soak import WARM_UP, Sighting, growth, main, soak
from torch import Tensor

pytestmark = pytest.mark.hunts


def test_live_tensors_stay() -> None:
    seen = list(soak(WARM_UP + 56, every=14))
    assert len(seen) >= 4
    assert {sighting.tensors for sighting in seen} == {seen[0].tensors}


def test_a_leak_is_seen() -> None:
    kept: list[Tensor] = []
    seen = list(soak(WARM_UP + 14, every=14, after_step=kept.append))
    assert seen[-1].tensors == seen[0].tensors + seen[-1].step - seen[0].step
    assert "live tensors grew" in growth(seen[0], seen[-1])[0]


def test_what_may_grow() -> None:
    first = Sighting(step=10, tensors=5, objects=1000, mebibytes=100.0)
    assert growth(first, Sighting(step=20, tensors=5, objects=1100, mebibytes=110.0)) == []
    assert len(growth(first, Sighting(step=20, tensors=6, objects=1600, mebibytes=117.0))) == 3


def test_too_few_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--steps", "5"])
    assert "of warm-up" in capsys.readouterr().err
