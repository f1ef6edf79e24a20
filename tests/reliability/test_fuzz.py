"""Valid calls with one or two arguments made wrong: a result, or an error of our own; see ``fuzz.py``."""

from __future__ import annotations

import warnings

import pytest
from reliability import fuzz

import losses
import matchers
import ragged

# Not called by themselves: numbers, a protocol, abstract classes, and containers that the toolkit fills itself.
NOT_CALLED = {
    "BACKGROUND",
    "COCO_SIGMAS",
    "IGNORED",
    "BinTargets",
    "BoxCoder",
    "Criterion",
    "DecodedLevels",
    "DecoderLayers",
    "LossModule",
    "Pairs",
    "Rule",
}
NAMES = sorted(fuzz.CALLS)


@pytest.mark.parametrize("name", NAMES)
def test_the_call_is_valid(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz.CALLS[name]()()


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_have_errors_of_our_own(name: str) -> None:
    findings = [str(found) for found in fuzz.run(12, seed=sum(map(ord, name)), names=[name]) if found is not None]
    assert findings == []


def test_everything_public_is_called() -> None:
    called = {name.split(".")[1].split("(")[0] for name in NAMES}
    public = {name for package in (ragged, matchers, losses) for name in package.__all__}
    assert public - called == NOT_CALLED


def test_an_error_of_torch_is_a_finding() -> None:
    def divide(count: int) -> int:
        return 1 // count

    finding = fuzz.judge(fuzz.Call(divide, (0,)), None)
    assert finding is not None and finding.startswith("ZeroDivisionError")
    assert fuzz.judge(fuzz.Call(ragged.pack, (3,)), None) is None
    assert fuzz.judge(fuzz.Call(ragged.pack, ()), None) is None
    assert fuzz.judge(fuzz.Call(abs, (3,)), [(2,)]) == "gave shapes [], not [(2,)]"
