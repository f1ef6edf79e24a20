"""Assignments and plans in words. Reads values, so it waits for an accelerator."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from matchers.assignments.checks import check_costs, checked_position
from matchers.assignments.parts import AssignmentParts, PlanParts
from ragged.values.checks import check_has_values, check_number, sample_name


def describe(assignment: AssignmentParts) -> str:
    """One line per image."""
    return "\n".join(_line(assignment, at) for at in _positions(assignment.num_targets))


def explain_assignment(assignment: AssignmentParts, sample: tuple[int, ...], costs: Mapping[str, Tensor]) -> str:
    """The predictions of each target of one image, with their costs ``(*batch, G, P)``."""
    sample = checked_position(sample, assignment.num_targets)
    index = assignment.target_index
    check_has_values(index, "an explanation")
    check_costs(costs, (*index.shape[:-1], assignment.max_num_targets, index.shape[-1]))
    lines = [_line(assignment, sample)]
    places, quality = index[sample].tolist(), assignment.quality[sample].tolist()
    for target in range(int(assignment.num_targets[sample])):
        own = [prediction for prediction, found in enumerate(places) if found == target]
        lines.append(f"  target {target}: " + ("none" if not own else ""))
        lines[-1] += "; ".join(
            f"prediction {prediction} (quality {quality[prediction]:.3g}"
            + "".join(f", {name} {term[(*sample, target, prediction)]:.4g}" for name, term in costs.items())
            + ")"
            for prediction in own
        )
    return "\n".join(lines)


def explain_plan(plan: PlanParts, sample: tuple[int, ...], smallest_weight: float) -> str:
    """The predictions of each target of one image, heaviest first."""
    sample = checked_position(sample, plan.num_targets)
    check_number(smallest_weight, "smallest_weight", low=None)
    count = int(plan.num_targets[sample])
    weights = plan.weights.tensor[sample][:, :count]
    lines = [f"{sample_name(sample)}: {count} targets, background {plan.background[sample].sum():.4g}"]
    for target, column in enumerate(weights.unbind(-1)):
        order = column.argsort(descending=True, stable=True).tolist()
        heavy = [prediction for prediction in order if column[prediction] >= smallest_weight]
        parts = [f"prediction {prediction} ({column[prediction]:.3g})" for prediction in heavy]
        lines.append(f"  target {target}: total {column.sum():.4g}; " + (", ".join(parts) or "none"))
    return "\n".join(lines)


def _positions(sizes: Tensor) -> list[tuple[int, ...]]:
    return [tuple(at) for at in torch.ones_like(sizes).nonzero().tolist()]


def _line(assignment: AssignmentParts, at: tuple[int, ...]) -> str:
    index, count = assignment.target_index[at], int(assignment.num_targets[at])
    positive = index[index >= 0]
    without = count - positive.unique().numel()
    text = (
        f"{sample_name(at)}: {_counted(count, 'target')}, {positive.numel()} positive, "
        f"{int(assignment.is_background[at].sum())} background, {int(assignment.is_ignored[at].sum())} ignored; "
        f"{_counted(without, 'target')} without a prediction"
    )
    invalid = int(assignment.num_invalid[at])
    return text + (f"; {_counted(invalid, 'cost')} not finite" if invalid else "")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
