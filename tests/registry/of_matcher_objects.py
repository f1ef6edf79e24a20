"""What the containers of ``matchers`` compute: targets, predictions, problems, pairs, assignments and plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from registry.entries import (
    SYNCHRONISES,
    SIZES,
    Elsewhere,
    Operation,
    boxes,
    corners,
    data,
    integers,
    labels,
    normal,
    uniform,
    wrapped,
)
from torch import Tensor

import matchers
from matchers import Assignment, Pairs, Plan, Predictions, Problem, Targets
from ragged import RaggedBatch

CLASSES, PREDICTIONS = 4, 6


def targets() -> Targets:
    """With everything that targets may have; the third of the first sample is ignored."""
    ignore = torch.zeros(3, 5, dtype=torch.bool)
    ignore[0, 2] = True
    return Targets(boxes(), labels(CLASSES), data(seed=4), wrapped(ignore), canvas_size=uniform(3, 2) * 20)


def assignment(seed: int = 0) -> Assignment:
    """Of six predictions to the targets of samples with ``SIZES``, some background, some ignored."""
    drawn = integers(100, 3, PREDICTIONS, seed=seed)
    counts = torch.tensor(SIZES)
    target = torch.where(counts.unsqueeze(-1) > 0, drawn % counts.clamp(min=1).unsqueeze(-1), -1)
    index = torch.where(drawn % 7 == 0, -2, torch.where(drawn % 3 == 0, -1, target))
    quality = uniform(3, PREDICTIONS, seed=seed)
    return Assignment.from_index(index, num_targets=counts, quality=quality, max_num_targets=5)


def assigned(values: RaggedBatch, index: Tensor) -> Assignment:
    """To the targets that have these values; what is no target is background."""
    index = torch.where(index < values.sample_sizes.unsqueeze(-1), index, -1)
    return Assignment.from_index(index, num_targets=values.sample_sizes, max_num_targets=values.max_sample_size)


def columns(own: Targets) -> tuple[Any, ...]:
    return own.boxes, own.labels, own.weights, own.ignore


def plan() -> Plan:
    weights = wrapped(uniform(3, PREDICTIONS, 5), axis=1)
    return Plan(weights, uniform(3, PREDICTIONS, seed=1), torch.zeros(3, dtype=torch.int64))


def fields(found: Assignment) -> tuple[Tensor, ...]:
    return found.target_index, found.quality, found.num_targets, found.num_invalid


def of_targets(function: Callable[[Targets], Any], reference: Callable[[Targets], Any] | None = None, **options: Any):
    return Operation(function, lambda: (targets(),), reference=reference, **options)


def of_assignment(function: Callable[[Assignment], Any], reference: Any = None, **options: Any) -> Operation:
    return Operation(function, lambda: (assignment(),), reference=reference, **options)


def problem(own: Targets, logits: Tensor, found: Tensor, priors: Tensor | None = None) -> Problem:
    return Problem.of(Predictions(logits, found), own, priors)


def of_problem(function: Callable[[Problem, Targets], Any]) -> Operation:
    return Operation(
        lambda own, logits, found, priors: function(problem(own, logits, found, priors), own),
        lambda: (targets(), normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS), corners(3, PREDICTIONS, seed=2)),
    )


def of_pairs(function: Callable[[Pairs], Any]) -> Operation:
    """A function that gives rows (R, …), or a tuple of them, of all padded slots."""

    def slots(found: Problem, own: Targets) -> list[RaggedBatch]:
        pairs = found.pairs(padded=True)
        given = function(pairs)
        values = list(given) if isinstance(given, tuple) else [given]
        shape = (found.num_samples, found.max_num_targets)
        known = own.matchable

        def wrap(rows: Tensor) -> RaggedBatch:
            table = rows.expand(len(pairs), *rows.shape[1:]).reshape(*shape, *rows.shape[1:])
            return own.boxes.create_with_sample_sizes_like_self(
                table.masked_fill(~known.view(*shape, *(1,) * (table.dim() - 2)), 0)
            )

        return [wrap(rows) for rows in values]

    return of_problem(slots)


def label_logits(pairs: Pairs) -> Tensor:
    return torch.cat([block.logits_of_labels() for block in pairs.blocks()])


def runs(found: Problem, own: Targets) -> Tensor:
    start, count = found.pairs(padded=True).runs()
    return count + (start - start[0] - torch.arange(len(start), device=start.device) * found.max_num_targets)


def ordered_pairs(index: Assignment) -> tuple[Tensor, Tensor]:
    found = sorted((target, k) for k, target in enumerate(index.target_index.tolist()) if target >= 0)
    gt, pred = torch.tensor(found, dtype=torch.int64).reshape(-1, 2).unbind(-1)
    return gt, pred


def pair_batches() -> tuple[RaggedBatch, RaggedBatch]:
    return assignment().pairs()


def from_pairs(gt: RaggedBatch, pred: RaggedBatch) -> Tensor:
    counts = torch.full(gt.batch_shape, 4, device=gt.device)
    found = Assignment.from_pairs(gt, pred, num_predictions=PREDICTIONS, num_targets=counts, max_num_targets=4)
    return found.target_index


def heaviest(given: Plan) -> Tensor:
    weights, background = given.weights, given.background
    index = [
        int(row.argmax()) if len(row) and row.max() > least else -1
        for row, least in zip(weights, background, strict=True)
    ]
    return torch.tensor(index)


def same_index(given: Assignment) -> Tensor:
    return given.target_index


OF_TARGETS = {
    "Targets": of_targets(
        lambda t: columns(Targets(t.boxes, t.labels, t.weights, t.ignore, canvas_size=t.canvas_size)), columns
    ),
    "Targets.boxes_as": of_targets(
        lambda t: t.boxes.create_with_sample_sizes_like_self(t.boxes_as("cxcywh", normalized=True)),
        lambda t: matchers.convert(t.boxes, "xyxy", "cxcywh") / t.canvas_size.flip(-1).repeat(2),
    ),
    "Targets.matchable": of_targets(
        lambda t: t.boxes.create_with_sample_sizes_like_self(t.matchable), lambda t: ~t.ignore
    ),
    "Targets.ignored": of_targets(lambda t: t.boxes.create_with_sample_sizes_like_self(t.ignored), lambda t: t.ignore),
    "Targets.num_targets": of_targets(lambda t: t.num_targets, lambda t: len(t.labels)),
    "Targets.check_labels": of_targets(lambda t: (t.check_labels(CLASSES), t.labels)[1], lambda t: t.labels),
    "Targets.to": of_targets(lambda t: columns(t.to(t.device)), columns),
    "Targets.to_dicts": of_targets(
        lambda t: torch.stack([each["boxes"].sum(0) for each in t.to_dicts()]),
        lambda t: t.boxes.sum(0),
        without=SYNCHRONISES,
    ),
    "Targets.of": of_targets(
        lambda t: columns(
            Targets.of({"boxes": t.boxes, "labels": t.labels, "weights": t.weights, "ignore": t.ignore})
        ),
        columns,
    ),
}

OF_PREDICTIONS = {
    "Predictions": Operation(
        lambda logits, found, sure: Predictions(logits, found, sure.unsqueeze(-1)).to(logits.dtype),
        lambda: (normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS), normal(3, PREDICTIONS, seed=1)),
        reference=Predictions,
    ),
    "Predictions.of": Operation(
        lambda logits, found: Predictions.of({"pred_logits": logits, "pred_boxes": found}),
        lambda: (normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS)),
        reference=Predictions,
    ),
}

OF_PROBLEMS = {
    "Problem": of_problem(
        lambda p, own: (
            p.boxes,
            p.num_targets,
            own.boxes.create_with_sample_sizes_like_self(p.gt_boxes),
            own.boxes.create_with_sample_sizes_like_self(p.labels.masked_fill(~own.matchable, 0)),
            own.boxes.create_with_sample_sizes_like_self(p.matchable),
            own.boxes.create_with_sample_sizes_like_self(p.ignored),
        )
    ),
    "Problem.predicted": of_problem(lambda p, own: p.predicted.movedim(0, -1)),
    "Problem.prior_boxes": of_problem(lambda p, own: p.prior_boxes.movedim(0, -1)),
    "Problem.log_normalizer": of_problem(lambda p, own: p.log_normalizer),
    "Problem.is_empty": of_problem(lambda p, own: p.is_empty),
    "Problem.assignment": of_problem(
        lambda p, own: fields(p.assignment(torch.where(p.is_empty, -1, torch.zeros_like(p.predictions.logits[..., 0].long()))))
    ),
    "Pairs": of_pairs(lambda pairs: (pairs.labels, pairs.target, pairs.valid)),
    "Pairs.gt": of_pairs(lambda pairs: tuple(pairs.gt)),
    "Pairs.predicted": of_pairs(lambda pairs: tuple(pairs.predicted)),
    "Pairs.priors": of_pairs(lambda pairs: tuple(pairs.priors)),
    "Pairs.logits_of_labels": of_pairs(lambda pairs: pairs.logits_of_labels()),
    "Pairs.log_probabilities_of_labels": of_pairs(lambda pairs: pairs.log_probabilities_of_labels()),
    "Pairs.counts": of_pairs(lambda pairs: pairs.counts(pairs.gt.x1 > 2)),
    "Pairs.of_sample": of_pairs(lambda pairs: pairs.of_sample(pairs.problem.log_normalizer)),
    "Pairs.blocks": of_pairs(label_logits),
    "Pairs.runs": Operation(
        lambda own, logits, found: runs(problem(own, logits, found), own) * 0,
        lambda: (targets(), normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS)),
    ),
}

OF_ASSIGNMENTS = {
    "Assignment": of_assignment(
        lambda a: fields(
            Assignment.from_index(
                a.target_index, num_targets=a.num_targets, quality=a.quality.detach(), max_num_targets=5
            )
        )
    ),
    "Assignment.from_index": of_assignment(
        lambda a: Assignment.from_index(a.target_index, num_targets=a.num_targets, max_num_targets=5).quality,
        lambda a: (a.target_index >= 0).float(),
    ),
    "Assignment.from_index[reading]": of_assignment(
        lambda a: Assignment.from_index(a.target_index, num_targets=a.num_targets).target_index,
        same_index,
        without=SYNCHRONISES,
    ),
    "Assignment.from_pairs": Operation(from_pairs, pair_batches),
    "Assignment.stack": of_assignment(lambda a: Assignment.stack([a, a]).target_index.movedim(0, -1)),
    "Assignment.unstack": of_assignment(
        lambda a: [part.target_index for part in Assignment.stack([a, a]).unstack()],
        lambda a: [a.target_index, a.target_index],
    ),
    "Assignment.is_positive": of_assignment(lambda a: a.is_positive, lambda a: a.target_index >= 0),
    "Assignment.is_background": of_assignment(lambda a: a.is_background, lambda a: a.target_index == -1),
    "Assignment.is_ignored": of_assignment(lambda a: a.is_ignored, lambda a: a.target_index == -2),
    "Assignment.num_positives": of_assignment(lambda a: a.num_positives, lambda a: (a.target_index >= 0).sum()),
    "Assignment.predictions_per_target": of_assignment(
        lambda a: a.predictions_per_target(),
        lambda a: torch.stack([(a.target_index == t).sum() for t in range(a.num_targets)] or [torch.tensor(0)])[
            : int(a.num_targets)
        ],
    ),
    "Assignment.gather": Operation(
        lambda values, index: assigned(values, index).gather(values),
        lambda: (data(2), integers(7, 3, PREDICTIONS, low=-2)),
        reference=lambda values, index: torch.stack(
            [values[t] if 0 <= t < len(values) else values.sum(0) * 0 for t in index.tolist()]
        ),
    ),
    "Assignment.pairs": of_assignment(lambda a: a.pairs(), ordered_pairs),
    "Assignment.plan": of_assignment(
        lambda a: (a.plan().weights, a.plan().background),
        lambda a: (
            (a.target_index.unsqueeze(-1) == torch.arange(int(a.num_targets))).float(),
            (a.target_index == -1).float(),
        ),
    ),
    "Assignment.to": of_assignment(lambda a: a.to(a.quality.device).target_index, same_index),
    "Assignment.describe": Elsewhere("tests/matchers/test_assignment.py", "writes text for people"),
    "Assignment.explain": Elsewhere("tests/matchers/test_assignment.py", "writes text for people"),
    "Plan": Operation(
        lambda p: Plan(p.weights * 2, p.background, p.num_invalid).weights,
        lambda: (plan(),),
        reference=lambda p: p.weights * 2,
    ),
    "Plan.num_targets": Operation(lambda p: p.num_targets, lambda: (plan(),), reference=lambda p: p.weights.shape[-1]),
    "Plan.assignment": Operation(
        lambda p: p.assignment().target_index, lambda: (plan(),), reference=heaviest
    ),
    "Plan.assignment[threshold]": Operation(
        lambda p: fields(p.assignment(threshold=0.6)), lambda: (plan(),)
    ),
    "Plan.to": Operation(lambda p: p.to(p.background.device).weights, lambda: (plan(),), reference=lambda p: p.weights),
}

OF_MATCHER_OBJECTS = {**OF_TARGETS, **OF_PREDICTIONS, **OF_PROBLEMS, **OF_ASSIGNMENTS}
