"""Rules as one operation of a compiled graph, on CPU.

There the host can look at values, and leaves out most pairs: that is several times faster than a graph of static
shapes, however well it is compiled. On other devices rules are traced like anything else, unless they have to keep to
``max_pairwise_bytes``: a graph computes all pairs at once, the operation computes them block by block.

The operation gets the handle of a rule, which is made of its class and its parameters. Equal rules have one handle, in
every process: a graph that was compiled elsewhere finds the rule that it was compiled for, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol

import torch
from torch import Tensor

from matchers.pairs.predictions import Predictions
from matchers.pairs.problem import Problem

is_used = True
"""Whether graphs on CPU have rules as operations."""

Choice = tuple[Tensor, Tensor, Tensor | None]
"""Target index (N, P), int64; quality (N, P); and number of invalid costs (N,), int64, or None for 0."""


class Decides(Protocol):
    """The parts of a rule that the operation needs."""

    max_pairwise_bytes: Any

    def decide(self, problem: Problem, level_sizes: Sequence[int] | None) -> Choice:
        """Which target each prediction gets."""
        ...


_RULES: dict[str, Decides] = {}


def handle_of(rule: Decides) -> str | None:
    """The handle of a rule, under which graphs find it from now on. None if graphs have to trace the rule.

    They do so where class and parameters do not say all: the class is no dataclass, or has the name of another one that
    is known; a parameter is not a number, a word, None, or a tuple or list of them; there is more than parameters.
    """
    cls, content = type(rule), vars(rule)
    if "__dataclass_fields__" not in vars(cls):
        return None
    names = [each.name for each in fields(rule)]  # type: ignore[arg-type]
    if content.keys() != set(names) or not all(map(_says_all, content.values())):
        return None
    parameters = ", ".join(f"{name}={content[name]!r}" for name in names)
    handle = f"{cls.__module__}.{cls.__qualname__}({parameters})"
    return handle if type(_RULES.setdefault(handle, rule)) is cls else None


def _says_all(value: Any) -> bool:
    """Whether equal texts of such a value mean equal values, in every process."""
    if type(value) in (tuple, list):
        return all(map(_says_all, value))
    return value is None or type(value) in (bool, int, float, str)


def can_be_used(problem: Problem) -> bool:
    """Whether a graph is being traced of which a rule with a handle is an operation; it knows of no fields."""
    if problem.gt_boxes is None or problem.labels is None or problem.fields or problem.predictions.fields:
        return False
    is_bounded = problem.device.type == "cpu" or problem.max_pairwise_bytes is not None
    return is_used and torch.compiler.is_compiling() and is_bounded


def decide(handle: str, problem: Problem, level_sizes: Sequence[int] | None) -> Choice:
    """The match of the rule with this handle, as one operation."""
    return assign_by_rule(
        handle,
        problem.predictions.logits,
        problem.predictions.objectness,
        problem.boxes,
        problem.priors,
        problem.gt_boxes,
        problem.labels,
        problem.matchable,
        problem.ignored,
        problem.num_targets,
        problem.num_predictions,
        None if level_sizes is None else list(level_sizes),
    )


@torch.library.custom_op("ragged_batch::assign_by_rule", mutates_args=())
def assign_by_rule(
    handle: str,
    logits: Tensor | None,
    objectness: Tensor | None,
    boxes: Tensor | None,
    priors: Tensor | None,
    gt_boxes: Tensor,
    labels: Tensor,
    matchable: Tensor,
    ignored: Tensor | None,
    num_targets: Tensor,
    num_predictions: int,
    level_sizes: Sequence[int] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The operation itself: the handle of a rule, and the fields of a problem.

    Returns:
        Target index (N, P), quality (N, P), and number of invalid costs (N,), of an ``Assignment``.

    Raises:
        RuntimeError: No rule of this process has this handle.
    """
    rule = _RULES.get(handle)
    if rule is None:
        raise RuntimeError(
            f"a compiled graph needs a rule that this process has not made yet; make {handle} before you run the graph"
        )
    shape = gt_boxes.new_zeros(len(gt_boxes), num_predictions, 4) if boxes is None else boxes
    problem = Problem(
        predictions=Predictions(logits, shape, objectness),
        boxes=boxes,
        priors=priors,
        gt_boxes=gt_boxes,
        labels=labels,
        matchable=matchable,
        ignored=ignored,
        num_targets=num_targets,
        batch_shape=tuple(gt_boxes.shape[:1]),
        max_pairwise_bytes=rule.max_pairwise_bytes,
    )
    target_index, quality, num_invalid = rule.decide(problem, level_sizes)
    num_invalid = torch.zeros_like(num_targets) if num_invalid is None else num_invalid.clone()
    return target_index.clone(), quality.to(torch.float32, copy=True), num_invalid


@assign_by_rule.register_fake
def _(
    handle: str,
    logits: Tensor | None,
    objectness: Tensor | None,
    boxes: Tensor | None,
    priors: Tensor | None,
    gt_boxes: Tensor,
    labels: Tensor,
    matchable: Tensor,
    ignored: Tensor | None,
    num_targets: Tensor,
    num_predictions: int,
    level_sizes: Sequence[int] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    index = num_targets.new_empty(gt_boxes.shape[0], num_predictions)  # a length would be fixed in the graph
    return index, torch.empty_like(index, dtype=torch.float32), torch.empty_like(num_targets)
