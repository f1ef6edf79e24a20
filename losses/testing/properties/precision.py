"""Dtypes, synchronisation and graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from losses.core.terms import total
from losses.testing.case import CriterionCase, leaves_of
from losses.testing.properties.comparing import expect, expect_same
from losses.testing.roles import map_named
from matchers.testing.changes.moves import Move, canvas_of, moved_boxes, moved_targets
from matchers.testing.scene import CANVAS
from ragged.testing import PropertyViolation, assert_no_host_sync

HALVES = (torch.float16, torch.bfloat16)
_LARGE = Move(scale=16.0)


def half_precision(case: CriterionCase) -> None:
    """Half-precision predictions give what they give in float32; gradients have their dtype."""
    given, targets = case.scene()
    for dtype in HALVES:
        halved = case.cast(given, dtype)
        values, gradients = case.value_and_gradients(case.make(), halved, targets)
        expected = case.value_and_gradients(case.make(), case.cast(halved, torch.float32), targets)
        for name, value in values.items():
            expect(value.dtype == torch.float32, f"{name} of {dtype} predictions is {value.dtype}")
        expect_same((values, []), (expected[0], []), f"{dtype} predictions, then float32", rtol=1e-4)
        for gradient in gradients:
            expect(gradient is None or gradient.dtype == dtype, f"a gradient of {dtype} predictions is not {dtype}")
        floats = [None if gradient is None else gradient.float() for gradient in gradients]
        expect_same(({}, floats), ({}, expected[1]), f"{dtype} predictions, then float32", rtol=2e-2, atol=1e-3)


def large_images(case: CriterionCase) -> None:
    """In images of 1024 pixels float16 gives what float32 gives of the same numbers: areas are beyond it."""
    given, targets = case.scene()
    canvas = canvas_of(targets, CANVAS)

    def larger(boxes: Tensor) -> Tensor:
        spread = canvas.view(len(canvas), *(1,) * (boxes.dim() - 3), 2)
        return moved_boxes(boxes, _LARGE, targets.box_format, targets.normalized, spread)

    half = case.cast(map_named(larger, case.boxes_keys, given), torch.float16)
    rounded = moved_targets(targets, _LARGE, canvas).to(torch.float16)
    found = case.losses(case.make(), half, rounded)
    expected = case.losses(case.make(), case.cast(half, torch.float32), rounded.to(torch.float32))
    claim = "images of 1024 pixels in torch.float16, then in torch.float32"
    expect_same((found, []), (expected, []), claim, 1e-3, 1e-3)


def autocast(case: CriterionCase) -> None:
    """Autocast changes nothing."""
    predictions, targets = case.scene()
    expected = case.outcome()
    for dtype in HALVES:
        with torch.autocast("cpu", dtype=dtype):
            found = case.value_and_gradients(case.make(), predictions, targets)
        expect_same(found, expected, f"autocast to {dtype}, then without")


def double_precision(case: CriterionCase) -> None:
    """Float64 predictions and targets are computed on in float64."""
    predictions, targets = case.scene()
    expected = case.outcome()
    double = case.cast(predictions, torch.float64)
    values, gradients = case.value_and_gradients(case.make(), double, targets.to(torch.float64))
    for name, value in values.items():
        expect(value.dtype == torch.float64, f"{name} of float64 predictions is {value.dtype}")
    found = {name: value.float() for name, value in values.items()}
    floats = [None if gradient is None else gradient.float() for gradient in gradients]
    expect_same((found, floats), expected, "float64, then float32", rtol=1e-3)


def synchronisation(case: CriterionCase) -> None:
    """Nothing waits for the device, forward or backward; buffers such as anchors are on it."""
    for options in case.options():
        if options.get("reduction") == "sum":
            continue  # the mean is this, and a division
        criterion = case.make(**options)

        def call(predictions: Any, targets: Any, buffers: dict[str, Tensor], criterion: Any = criterion) -> Any:
            result = torch.func.functional_call(criterion, buffers, (predictions, targets))
            return result if case.as_terms is None else case.as_terms(result)

        state = dict(criterion.named_parameters()) | dict(criterion.named_buffers())
        assert_no_host_sync(call, *case.scene(), state)


def compilation(case: CriterionCase) -> None:
    """One graph, with the values and gradients of eager execution."""
    torch._dynamo.reset()
    criterion = case.make()

    def call(predictions: Any, targets: Any) -> Any:
        result = criterion(predictions, targets)
        return result if case.as_terms is None else case.as_terms(result)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    given, targets = case.scene()
    predictions = case.cast(given, torch.float32)
    try:
        values = compiled(predictions, targets)
    except torch._dynamo.exc.TorchDynamoException as error:
        raise PropertyViolation(f"criterion: torch cannot compile it as one graph: {error}") from error
    gradients = torch.autograd.grad(total(values), leaves_of(predictions), allow_unused=True)
    found = {name: value.detach() for name, value in values.items()}
    expected = case.value_and_gradients(criterion, predictions, targets)
    expect_same((found, list(gradients)), expected, "compiled, then eager", rtol=1e-4)
