"""A call reads its predictions once and its targets once, and what was read can be given in their place."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION, WITHOUT_LABELS
from cases.common import CLASSES

from losses import Criterion, DensePredictions, SSDCriterion
from matchers import Targets
from matchers.targets import layouts

CRITERIA = [name for name, case in EVERY_CRITERION.items() if isinstance(case.make(), Criterion)]
# The others compute on what they are given.
READING = [name for name in CRITERIA if type(EVERY_CRITERION[name].make()).read is not Criterion.read]
DENSE = [
    name
    for name in CRITERIA
    if isinstance(EVERY_CRITERION[name].make().read(EVERY_CRITERION[name].predictions([1])), DensePredictions)
    and name not in WITHOUT_LABELS
]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often targets are read from a raw layout, and predictions from what a head gives."""
    counted: Counter[str] = Counter()
    layout_of = layouts.layout_of

    def asked(source: Any) -> layouts.Layout:
        counted["targets"] += 1
        return layout_of(source)

    monkeypatch.setattr(layouts, "layout_of", asked)
    return counted


def counting(criterion: Criterion, calls: Counter[str]) -> Criterion:
    """Count how often something is read that was not read before."""
    for name in ("read", "read_targets"):
        method = getattr(criterion, name)

        def counted(given: Any, *others: Any, name: str = name, method: Any = method) -> Any:
            result = method(given, *others)
            calls[name] += result is not given
            return result

        setattr(criterion, name, counted)
    return criterion


@pytest.mark.parametrize("name", CRITERIA)
def test_a_call_reads_once(name: str, calls: Counter[str]) -> None:
    case = EVERY_CRITERION[name]
    predictions, targets = case.predictions([2, 0, 3]), case.targets([2, 0, 3]).to_dicts()
    layout = {"box_format": case.box_format, "normalized": case.normalized}
    criterion = counting(case.make(), calls)
    own = Targets.of(targets, **layout)
    given = [(predictions,), own]
    if isinstance(predictions, dict) and "main_preds" in predictions:
        given[0] = tuple(predictions.values())
    calls.clear()
    case.losses(criterion, predictions, targets if not layout["normalized"] else own)
    assert calls["targets"] == (not layout["normalized"])
    if name in READING:
        assert calls["read"] == 1 and calls["read_targets"] == calls["targets"], calls


@pytest.mark.parametrize("name", READING)
def test_each_step_reads_once_and_takes_what_was_read(name: str, calls: Counter[str]) -> None:
    case = EVERY_CRITERION[name]
    predictions, targets = case.predictions([2, 0, 3]), case.targets([2, 0, 3])
    criterion = case.make()
    assignment = criterion.assign(predictions, targets)
    read = criterion.read(predictions)
    torch.testing.assert_close(criterion.loss(read, targets, assignment), criterion(predictions, targets))
    counting(criterion, calls)
    for step in (criterion.assign, criterion.loss, criterion.counts):
        calls.clear()
        step(*(predictions, targets, assignment)[: 2 if step == criterion.assign else 3])
        assert calls["read"] == 1 and calls["read_targets"] <= 1, step


@pytest.mark.parametrize("name", DENSE)
def test_a_mask_of_classes_holds_for_every_dense_criterion(name: str) -> None:
    """As if the masked classes were predicted with no probability at all, and whatever is predicted."""
    case = EVERY_CRITERION[name]
    predictions, targets = case.predictions([2, 0, 3]), case.targets([2, 0, 3])
    criterion = case.make()
    read, assignment = criterion.read(predictions), criterion.assign(predictions, targets)
    mask = torch.rand(3, CLASSES, generator=torch.Generator().manual_seed(0)) < 0.5
    for image, labels in enumerate(targets.labels.split()):
        mask[image, labels] = True
    rows = ~mask.unsqueeze(1).expand_as(read.logits)
    absent = replace(read, logits=read.logits.masked_fill(rows, -1e4))
    expected = criterion.loss(absent, targets, assignment)["loss_cls"]
    for filler in (0.0, torch.nan):
        masked = replace(read, logits=read.logits.masked_fill(rows, filler).requires_grad_()).with_class_mask(mask)
        found = criterion.loss(masked, targets, assignment)["loss_cls"]
        torch.testing.assert_close(found, expected)
        (gradient,) = torch.autograd.grad(found, masked.logits)
        assert gradient.isfinite().all() and not gradient[rows].any()


def test_a_mask_of_classes_that_nobody_could_read() -> None:
    read = DensePredictions(torch.zeros(1, 4, 3), torch.zeros(1, 4, 4), torch.rand(4, 4))
    masked = read.with_class_mask(torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(
        ValueError, match="SSDCriterion has a softmax over all classes: give it the mask as valid_label_mask="
    ):
        SSDCriterion(3).read(masked)
    with pytest.raises(ValueError, match=r"valid_label_mask must have the shape of \(B, C\), \(1, 3\), got \(1, 4\)"):
        read.with_class_mask(torch.ones(1, 4))


@pytest.mark.parametrize("name", CRITERIA)
def test_a_step_that_is_overridden_is_part_of_a_call(name: str) -> None:
    case = EVERY_CRITERION[name]
    criterion, seen = case.make(), []
    for step in ("assign", "loss"):
        method = getattr(criterion, step)

        def overridden(*args: Any, step: str = step, method: Any = method, **options: Any) -> Any:
            seen.append(step)
            return method(*args, **options)

        setattr(criterion, step, overridden)
    case.losses(criterion, case.predictions([2, 0]), case.targets([2, 0]))
    assert seen == ["assign", "loss"]
