"""The steps of a criterion between a matcher and the terms: what it gave, and what that refers to."""

from __future__ import annotations

from typing import Any

from losses.core.assigned import AssignedTargets
from matchers.assignments.assignment import Assignment, Plan
from matchers.targets.targets import Targets


def checked_assignment(found: Any, matcher: Any, who: str) -> Assignment:
    """What a matcher gave; a ``TypeError`` that names it if that is no ``Assignment``."""
    if isinstance(found, Assignment):
        return found
    name = getattr(matcher, "__name__", type(matcher).__name__)
    advice = "a soft plan is for DetectionLoss; plan.assignment() makes a hard one" if isinstance(found, Plan) else ""
    raise TypeError(
        f"{who} needs a matcher that gives an Assignment, but {name} gave {type(found).__name__}"
        + (f": {advice}" if advice else "")
    )


def look_up(targets: Any, assignment: Assignment | None, **options: Any) -> AssignedTargets:
    """What the second step of a criterion was given: targets with their assignment, or ``AssignedTargets`` alone.

    Args:
        targets: As above.
        assignment: Of these targets.
        options: Of ``AssignedTargets.of``.

    Raises:
        ValueError: There is an assignment too many, or none.
    """
    if isinstance(targets, AssignedTargets):
        if assignment is not None:
            raise ValueError("targets that are assigned already need no assignment, but one is given")
        return targets
    if assignment is None:
        raise ValueError("loss needs the assignment of these targets, as assign gives it, or AssignedTargets")
    return AssignedTargets.of(targets, assignment, **options)


def check_one_label(targets: Targets | AssignedTargets, who: str) -> None:
    """Raise ``ValueError``, saying who asks, if labels are multi-hot."""
    several = targets.is_multi_hot if isinstance(targets, Targets) else targets.multi_hot is not None
    if several:
        raise ValueError(
            f"{who} learns one class of each target, but labels are multi-hot, (*batch, G, C): give one label of each, "
            "(*batch, G), or use DetrCriterion, a dense criterion with a sigmoid for each class, or DetectionLoss"
        )
