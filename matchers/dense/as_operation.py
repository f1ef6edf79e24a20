"""Rules as one operation of a compiled graph, on CPU.

There the host can look at values, and leaves out most pairs: that is several times faster than a graph of static
shapes, however well it is compiled. On other devices rules are traced like anything else.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.pairs.predictions import Predictions
from matchers.pairs.problem import Problem

is_used = True
"""Whether graphs on CPU have rules as operations."""

_RULES: dict[str, type[Rule]] = {}


class Rule(Protocol):
    """A frozen dataclass of numbers, words, and tuples of them, that says how predictions are assigned."""

    def _assign(self, problem: Problem, level_sizes: Sequence[int] | None) -> Assignment:
        """The assignment, of what a call was given."""
        ...

    def _per_target(self, level_sizes: Sequence[int] | None) -> int | None:
        """How many predictions a target has at most; None if that is not known."""
        ...


_R = TypeVar("_R", bound=type[Rule])


def rule(cls: _R) -> _R:
    """Let a class be known to graphs, by its name; numbers of numpy that it is given become those of Python."""
    check: Any = cls.__post_init__  # type: ignore[attr-defined]

    @wraps(check)
    def post_init(self: Any) -> None:
        for name in names:
            value = getattr(self, name)
            plain = _plain(value)
            if plain is not value:
                object.__setattr__(self, name, plain)
        check(self)

    names = [each.name for each in fields(cls)]  # type: ignore[arg-type]
    cls.__post_init__ = post_init  # type: ignore[attr-defined]
    _RULES[cls.__name__] = cls
    return cls


def _plain(value: Any) -> Any:
    """The parameter of a rule as its words and numbers of Python."""
    if isinstance(value, np.generic):
        return value.item()
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def assigned(matcher: Rule, problem: Problem, level_sizes: Sequence[int] | None = None) -> Assignment:
    """What the rule assigns; in a graph on CPU, by one operation."""
    in_graph = is_used and torch.compiler.is_compiling() and problem.device.type == "cpu"
    # A class derived from a rule is not known, and is traced.
    if not in_graph or _RULES.get(type(matcher).__name__) is not type(matcher):
        return matcher._assign(problem, level_sizes)
    index, quality, num_invalid = assign_by_rule(
        type(matcher).__name__ + str([getattr(matcher, name) for name in matcher.__dataclass_fields__]),  # type: ignore[attr-defined]
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
    return problem.assignment(
        index, quality=quality, num_invalid=num_invalid, per_target=matcher._per_target(level_sizes)
    )


@torch.library.custom_op("ragged_batch::assign_by_rule", mutates_args=())
def assign_by_rule(
    spec: str,
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
    """The operation itself: the fields of a problem, and a rule as its name and the list of its parameters.

    Returns:
        Target index (N, P), quality (N, P), and number of invalid costs (N,), of an ``Assignment``.
    """
    if boxes is None:  # for the shape
        boxes = gt_boxes.new_zeros(len(gt_boxes), num_predictions, 4)
    problem = Problem(
        predictions=Predictions(logits, boxes, objectness),
        boxes=boxes,
        priors=priors,
        gt_boxes=gt_boxes,
        labels=labels,
        matchable=matchable,
        ignored=ignored,
        num_targets=num_targets,
        batch_shape=tuple(gt_boxes.shape[:1]),
    )
    name, _, values = spec.partition("[")
    cls: Any = _RULES[name]
    parameters = zip((each.name for each in fields(cls)), ast.literal_eval(f"[{values}"), strict=True)
    matcher: Rule = cls(**dict(parameters))
    found = matcher._assign(problem, level_sizes)
    return found.target_index.clone(), found.quality.clone(), found.num_invalid.clone()


@assign_by_rule.register_fake
def _(
    spec: str,
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
