"""What the containers of ``matchers`` compute: targets, predictions, problems, pairs, assignments and plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import matchers
from matchers import Pairs, Predictions, Problem, Targets
from ragged import RaggedBatch
from registry.entries import (
    CLASSES,
    PREDICTIONS,
    SYNCHRONISES,
    Elsewhere,
    Operation,
    boxes,
    corners,
    data,
    labels,
    normal,
    scores,
    uniform,
    wrapped,
)
from registry.of_assignments import fields


def targets() -> Targets:
    """With everything that targets may have; the third of the first sample is ignored."""
    ignore = torch.zeros(3, 5, dtype=torch.bool)
    ignore[0, 2] = True
    return Targets(boxes(), labels(CLASSES), data(seed=4), wrapped(ignore), canvas_size=uniform(3, 2) * 20)


def columns(own: Targets) -> tuple[Any, ...]:
    return own.boxes, own.labels, own.weights, own.ignore


def of_targets(function: Callable[[Targets], Any], reference: Callable[[Targets], Any] | None = None, **options: Any):
    return Operation(function, lambda: (targets(),), reference=reference, **options)


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
        pairs = Pairs.of(found, padded=True)
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
    start, count = Pairs.of(found, padded=True).runs()
    return count + (start - start[0] - torch.arange(len(start), device=start.device) * found.max_num_targets)


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
    "Targets.is_multi_hot": Elsewhere(
        "tests/matchers/test_multi_hot.py", "says what the labels are, not what is in them"
    ),
    "Targets.padded_labels": of_targets(
        lambda t: t.labels.create_with_sample_sizes_like_self(t.padded_labels()),
        lambda t: t.labels.masked_fill(t.ignore, 0),
    ),
    "Targets.padded_labels[multi-hot]": Operation(
        lambda labels, ignore: labels.create_with_sample_sizes_like_self(
            Targets(labels=labels, ignore=ignore).padded_labels()
        ),
        lambda: (wrapped(uniform(3, 5, CLASSES) > 0.6), wrapped(uniform(3, 5, seed=3) > 0.6)),
        reference=lambda labels, ignore: labels & ~ignore.unsqueeze(-1),
    ),
    "Targets.to": of_targets(lambda t: columns(t.to(t.device)), columns),
    "Targets.to_dicts": of_targets(
        lambda t: torch.stack([each["boxes"].sum(0) for each in t.to_dicts()]),
        lambda t: t.boxes.sum(0),
        without={**SYNCHRONISES, "empty": "torch stacks no empty list"},
    ),
    "Targets.with_max_num_targets": of_targets(
        lambda t: columns(t.with_max_num_targets(7 + t.max_num_targets)), columns
    ),
    "Targets.of": of_targets(
        lambda t: columns(Targets.of({"boxes": t.boxes, "labels": t.labels, "weights": t.weights, "ignore": t.ignore})),
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

OF_RAGGED_PREDICTIONS = {
    "Predictions[ragged]": Operation(
        lambda logits, found: [
            logits.create_with_sample_sizes_like_self(part)
            for own in [Predictions(logits, found)]
            for part in (own.logits, own.boxes)
        ],
        lambda: (scores(CLASSES), boxes()),
        reference=lambda logits, found: [logits, found],
    ),
    "Predictions.mask": Operation(
        lambda logits: logits.create_with_sample_sizes_like_self(Predictions(logits).mask),
        lambda: (scores(CLASSES),),
        reference=lambda logits: torch.ones_like(logits[..., 0]).bool(),
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
        lambda p, own: fields(
            p.assignment(torch.where(p.is_empty, -1, torch.zeros_like(p.predictions.logits[..., 0].long())))
        )
    ),
    "Pairs": of_pairs(lambda pairs: (pairs.labels, pairs.target, pairs.valid)),
    "Pairs.gt": of_pairs(lambda pairs: (*pairs.gt.corners, pairs.gt.area)),
    "Pairs.predicted": of_pairs(lambda pairs: (*pairs.predicted.corners, pairs.predicted.area)),
    "Pairs.priors": of_pairs(lambda pairs: (*pairs.priors.corners, pairs.priors.area)),
    "Pairs.logits_of_labels": of_pairs(lambda pairs: pairs.logits_of_labels()),
    "Pairs.labels_of_classes": Elsewhere("tests/matchers/test_multi_hot.py", "is None for the usual labels"),
    "Pairs.log_probabilities_of_labels": of_pairs(lambda pairs: pairs.log_probabilities_of_labels()),
    "Pairs.counts": of_pairs(lambda pairs: pairs.counts(pairs.gt.x1 > 2)),
    "Pairs.of_sample": of_pairs(lambda pairs: pairs.of_sample(pairs.problem.log_normalizer)),
    "Pairs.blocks": of_pairs(label_logits),
    "Pairs.runs": Operation(
        lambda own, logits, found: runs(problem(own, logits, found), own) * 0,
        lambda: (targets(), normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS)),
        without={"empty": "reads a run that a batch without samples does not have"},
    ),
}

PACKAGE = "matchers"
ENTRIES: dict[str, Operation | Elsewhere] = {
    **OF_TARGETS,
    **OF_PREDICTIONS,
    **OF_RAGGED_PREDICTIONS,
    **OF_PROBLEMS,
}
