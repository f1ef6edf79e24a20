"""Costs of whole images that users write, as costs of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from matchers.costs.per_image import cost_of_images
from matchers.costs.terms import PairCost
from matchers.pairs.pairs import Pairs
from ragged.values.checks import check_is_callable

BatchedCost = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


def batched_cost(function: BatchedCost) -> PairCost:
    """A matcher's cost from a function of whole images: ``f(gt, predicted) -> (n, G, P)``.

    ``gt`` holds the targets of n images by name: ``"boxes"`` (n, G, 4), xyxy, ``"labels"`` (n, G), and the fields of
    the targets, (n, G, …). ``predicted`` holds ``"boxes"`` (n, P, 4), xyxy, ``"logits"`` (n, P, C), ``"objectness"``
    and the fields of the predictions. Each holds only the parts that exist. Floating values are float32, or float64 if
    one of the predictions is. Batched functions such as ``torch.cdist``, and all costs of this package, are used as
    they are.

    Images are computed in groups with about as many targets, so that a crowded one pads few others. Filler repeats the
    last target of the image, so a cost must depend only on its own pair.

    Args:
        function: Called as ``function(gt, predicted)``; returns costs (n, G, P).

    Raises:
        TypeError: ``function`` is not callable.
        ValueError: In a call: it gives another shape.

    >>> def distance(gt, predicted):
    ...     return torch.cdist(gt["corners"], predicted["corners"])
    >>> corners = torch.eye(5).repeat(2, 1, 1)
    >>> targets = Targets.of([{"corners": corners[0, [3, 1]]}, {"corners": corners[1, [2]]}], fields=("corners",))
    >>> Hungarian(batched_cost(distance))(Predictions(fields={"corners": corners}), targets).target_index
    tensor([[-1,  1, -1,  0, -1],
            [-1, -1,  0, -1, -1]])
    """
    check_is_callable(function, "the cost")
    return partial(cost_of_images, partial(_of_images, function))  # not closures: a matcher can be pickled


def _of_images(function: BatchedCost, pairs: Pairs, row: Tensor, images: Tensor) -> Tensor:
    """Costs (n, G, P) of rows (n, G) of images (n,)."""
    problem, predicted = pairs.problem, pairs.problem.predicted_parts
    sample, target = pairs.sample[row], pairs.target[row]
    has_double = any(value.dtype == torch.float64 for value in predicted.values())
    dtype = torch.float64 if has_double else torch.float32
    cost = function(
        {name: _as(value[sample, target], dtype) for name, value in problem.gt_parts.items()},
        {name: _as(value.index_select(0, images), dtype) for name, value in predicted.items()},
    )
    shape = (*row.shape, problem.num_predictions)
    if not isinstance(cost, Tensor) or tuple(cost.shape) != shape:
        got = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(f"a batched cost must be a tensor (images, targets, predictions) = {shape}, got {got}")
    return cost


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
