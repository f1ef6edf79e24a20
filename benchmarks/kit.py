"""How long the kit takes to prove something: operations, matchers and criteria, without compilation."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.contest import Options
from losses import DetectionLoss, DetrCriterion, GIoULoss
from matchers import BalancedSinkhorn, Hungarian, MaxIoU, SimOTA, grid_points
from ragged import RaggedBatch, average_over_targets, max_over_targets, softmax_over_targets, sum_over_targets

DESCRIPTION = """Seconds, and those of processor time: ``check_op`` on 100 examples of hypothesis, ``check_matcher`` and
``check_criterion`` on their scenes, all without ``"compilation"``. Torch's compiler is imported before.
"""
EXAMPLES = 100
OPERATIONS: dict[str, Callable[..., Any]] = {
    "sum_over_targets": sum_over_targets,
    "average_over_targets": average_over_targets,
    "max_over_targets": max_over_targets,
    "softmax_over_targets": softmax_over_targets,
    "arithmetic": lambda batch: batch * 2 + 1,
}
WEIGHTS = {"loss_vfl": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def section(options: Options) -> str:
    """The text of the section; of some cases only, if they are named."""
    checks = {**_operations(), **_matchers(), **_criteria()}
    checks["operation: sum_over_targets"]()  # imports
    lines = ["| checked | size | seconds | of processor time |", "|---" * 4 + "|"]
    for name, check in checks.items():
        if options.names and name not in options.names:
            continue
        start, busy = time.perf_counter(), time.process_time()
        check()
        size = f"{EXAMPLES} examples" if name.startswith("operation") else "its scenes"
        took = f"{time.perf_counter() - start:.1f} | {time.process_time() - busy:.1f}"
        lines.append(f"| {name} | {size} | {took} |")
    return f"{DESCRIPTION}\n" + "\n".join(lines)


def _operations() -> dict[str, Callable[[], Any]]:
    # The extra "testing" brings hypothesis; no other part needs it.
    from hypothesis import given, settings

    from ragged.testing import check_op, ragged_batches

    def check(op: Callable[..., Any]) -> Callable[[], Any]:
        @settings(max_examples=EXAMPLES, database=None, derandomize=True)
        @given(ragged_batches(ragged_axis=0))
        def examples(batch: RaggedBatch) -> None:
            check_op(op, batch, without=["compilation"])

        return examples

    return {f"operation: {name}": check(op) for name, op in OPERATIONS.items()}


def _matchers() -> dict[str, Callable[[], Any]]:
    from matchers.testing import check_matcher

    points = grid_points((64, 64), [8])
    anchors = torch.cat([points[:, :2] - 12, points[:, :2] + 12], 1)
    cases: dict[str, tuple[Any, Any]] = {
        "Hungarian": (Hungarian(), None),
        "BalancedSinkhorn": (BalancedSinkhorn(), None),
        "SimOTA": (SimOTA(), points),
        "MaxIoU": (MaxIoU(pos_iou_thr=0.5, neg_iou_thr=0.4), anchors),
    }
    return {f"matcher: {name}": partial(check_matcher, *case, without=["compilation"]) for name, case in cases.items()}


def _criteria() -> dict[str, Callable[[], Any]]:
    from losses.testing import check_criterion, queries

    detr = DetrCriterion(WEIGHTS, num_classes=5)
    form: dict[str, Any] = {"box_format": "cxcywh", "normalized": True, "without": ["compilation"]}
    classes = torch.nn.CrossEntropyLoss(reduction="none")
    loss = DetectionLoss(classes, GIoULoss(), Hungarian(loc_match_module=GIoULoss()), "last")
    one: dict[str, Any] = {"as_terms": lambda value: {"loss": value}, "without": ["compilation"]}
    return {
        "criterion: DetrCriterion": lambda: check_criterion(detr, **form),
        "criterion: DetectionLoss": lambda: check_criterion(loss, partial(queries, num_classes=6), **one),
    }
