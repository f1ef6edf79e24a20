"""What a matcher's reference gives: for each image, weights of each target, and the background; all in plain floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from reference.dense import Answer, Picture
from torch import Tensor

from matchers import Assignment, Plan, Targets

ImagePlan = tuple[list[list[float]], list[float]]
"""Weights of each target, and the background, of the predictions of an image."""


def of_index(target: list[int], num_targets: int) -> ImagePlan:
    """The plan of an assignment: the target of each prediction, -1 for none, -2 for those that do not count."""
    weights = [[float(found == g) for found in target] for g in range(num_targets)]
    return weights, [float(found == -1) for found in target]


def pictures(predictions: dict[str, Tensor], targets: Targets, priors: Tensor) -> list[Picture]:
    """Every image, as the references of rules take it."""
    return [
        Picture(
            priors=priors.tolist(),
            gt=sample["boxes"].tolist(),
            labels=sample["labels"].tolist(),
            ignore=[False] * len(sample["labels"]),
            logits=predictions["pred_logits"][i].tolist(),
            boxes=predictions["pred_boxes"][i].tolist(),
        )
        for i, sample in enumerate(targets.to_dicts())
    ]


def by_rule(rule: Callable[..., Answer], *names: str) -> Callable[..., list[ImagePlan]]:
    """The reference of a dense matcher: a function of ``reference.dense``, with these parameters of the matcher."""

    def reference(matcher: Any, predictions: Any, targets: Targets, priors: Tensor) -> list[ImagePlan]:
        options = {name: getattr(matcher, name) for name in names}
        images = pictures(predictions, targets, priors)
        return [of_index(rule(image, **options).target, len(image.gt)) for image in images]

    return reference


def tables(matcher: Any, predictions: Any, targets: Targets) -> list[list[list[float]]]:
    """Of each image, the costs of each target: those that the matcher says it has, added up."""
    costs = sum(each.double() for each in matcher.costs(predictions, targets).values())
    assert isinstance(costs, Tensor)
    return [rows[:size].tolist() for rows, size in zip(costs, targets.num_targets.tolist(), strict=True)]


def by_cost(solve: Callable[[Any, list[list[float]], int], ImagePlan]) -> Callable[..., list[ImagePlan]]:
    """The reference of a matcher by cost: a function of the matcher, the costs of an image, and P."""

    def reference(matcher: Any, predictions: Any, targets: Targets, priors: Tensor | None = None) -> list[ImagePlan]:
        count = predictions["pred_boxes"].shape[-2]
        return [solve(matcher, rows, count) for rows in tables(matcher, predictions, targets)]

    return reference


def planned(result: Plan | Assignment) -> list[ImagePlan]:
    """What a matcher gave, in the form of a reference."""
    plan = result.plan() if isinstance(result, Assignment) else result
    weights = [rows.mT.tolist() for rows in _cut(plan.weights)]
    return list(zip(weights, plan.background.tolist(), strict=True))


def _cut(weights: Any) -> list[Tensor]:
    sizes = weights.sample_sizes.tolist()
    return [rows[:, :size] for rows, size in zip(weights.tensor, sizes, strict=True)]


def assert_same_plans(found: list[ImagePlan], expected: list[ImagePlan], tolerance: float) -> None:
    """Up to a part of the prediction's total, which is 1."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(
                torch.tensor(mine).flatten().double(),
                torch.tensor(theirs).flatten().double(),
                rtol=tolerance,
                atol=tolerance,
            )
