"""What assignments and plans compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from matchers import Assignment, Plan, RandomSampler, sample_assignment
from ragged import RaggedBatch
from registry.entries import (
    PREDICTIONS,
    SIZES,
    SYNCHRONISES,
    Elsewhere,
    Operation,
    data,
    integers,
    uniform,
    wrapped,
)

DRAWS = {"randomness": "draws from the generator of torch unless it is given one, as its docstring says"}


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


def plan() -> Plan:
    weights = wrapped(uniform(3, PREDICTIONS, 5), axis=1)
    return Plan(weights, uniform(3, PREDICTIONS, seed=1), torch.zeros(3, dtype=torch.int64))


def fields(found: Assignment) -> tuple[Tensor, ...]:
    return found.target_index, found.quality, found.num_targets, found.num_invalid


def of_assignment(function: Callable[[Assignment], Any], reference: Any = None, **options: Any) -> Operation:
    return Operation(function, lambda: (assignment(),), reference=reference, **options)


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


def ragged_parts() -> tuple[Assignment, Assignment, Tensor, Tensor]:
    return assignment(), assignment(1), torch.tensor([4, 0, 6]), torch.tensor([2, 0, 1])


def joined(first: Assignment, second: Assignment, count: Tensor, other: Tensor) -> tuple[RaggedBatch, RaggedBatch]:
    found = Assignment.cat([first, second], sizes=[count, other])
    sizes = count + other
    return tuple(RaggedBatch(part, sample_sizes=sizes) for part in (found.target_index, found.quality))  # type: ignore[return-value]


def joined_sample(first: Assignment, second: Assignment, count: Tensor, other: Tensor) -> tuple[Tensor, ...]:
    parts = ((first.target_index, second.target_index), (first.quality, second.quality))
    return tuple(torch.cat([one[: int(count)], two[: int(other)]]) for one, two in parts)


def runs_of_predictions(given: Assignment, _: Assignment, count: Tensor, other: Tensor) -> list[RaggedBatch]:
    sizes = [count.clamp(max=4), other]
    parts = given.split([*sizes, 0])
    return [RaggedBatch(part.target_index, sample_sizes=size) for part, size in zip(parts[:2], sizes, strict=True)]


def runs_of_sample(given: Assignment, _: Assignment, count: Tensor, other: Tensor) -> list[Tensor]:
    first = min(int(count), 4)
    return [given.target_index[:first], given.target_index[first : first + int(other)]]


def heaviest(given: Plan) -> Tensor:
    weights, background = given.weights, given.background
    index = [
        int(row.argmax()) if len(row) and row.max() > least else -1
        for row, least in zip(weights, background, strict=True)
    ]
    return torch.tensor(index)


def same_index(given: Assignment) -> Tensor:
    return given.target_index


PACKAGE = "matchers"
ENTRIES: dict[str, Operation | Elsewhere] = {
    "Assignment": of_assignment(
        lambda a: fields(
            Assignment.from_index(
                a.target_index, num_targets=a.num_targets, quality=a.quality.detach(), max_num_targets=5
            )
        )
    ),
    # Where more are asked for than there are, nothing is left to chance; tests/matchers/test_sampling.py draws.
    "sample_assignment": of_assignment(
        lambda a: sample_assignment(a, 2 * PREDICTIONS, 1.0).target_index, same_index, without=DRAWS
    ),
    "RandomSampler": of_assignment(
        lambda a: RandomSampler(num_samples=2 * PREDICTIONS, positive_fraction=1.0)(a).target_index,
        same_index,
        without=DRAWS,
    ),
    "Assignment.from_index": of_assignment(
        lambda a: Assignment.from_index(a.target_index, num_targets=a.num_targets, max_num_targets=5).quality,
        lambda a: (a.target_index >= 0).float(),
    ),
    "Assignment.from_index[per target]": of_assignment(
        lambda a: Assignment.from_index(
            torch.where(a.quality > 0.6, a.target_index, -1),
            num_targets=a.num_targets,
            max_num_targets=5,
            per_target=PREDICTIONS - 1,
        ).pairs(),
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
    "Assignment.cat": Operation(
        lambda first, second: fields(Assignment.cat([first, second])),
        lambda: (assignment(), assignment(1)),
        reference=lambda first, second: (
            torch.cat([first.target_index, second.target_index]),
            torch.cat([first.quality, second.quality]),
            first.num_targets,
            first.num_invalid + second.num_invalid,
        ),
    ),
    "Assignment.cat[ragged]": Operation(joined, ragged_parts, reference=joined_sample),
    "Assignment.split": of_assignment(
        lambda a: [part.target_index for part in a.split([2, 0, PREDICTIONS - 2])],
        lambda a: [a.target_index[:2], a.target_index[:0], a.target_index[2:]],
    ),
    "Assignment.split[ragged]": Operation(runs_of_predictions, ragged_parts, reference=runs_of_sample),
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
    "Plan.assignment": Operation(lambda p: p.assignment().target_index, lambda: (plan(),), reference=heaviest),
    "Plan.assignment[threshold]": Operation(lambda p: fields(p.assignment(threshold=0.6)), lambda: (plan(),)),
    "Plan.to": Operation(lambda p: p.to(p.background.device).weights, lambda: (plan(),), reference=lambda p: p.weights),
}
