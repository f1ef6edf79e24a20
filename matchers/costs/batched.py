"""Costs of whole images, as costs of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from matchers.costs.terms import PairCost
from matchers.pairs.groups import grouped
from matchers.pairs.pairs import Pairs
from ragged.values.checks import check_is_callable

BatchedCost = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]

# So many pairs of filler take less than another group of images does.
_FILLER = 1 << 15


def batched_cost(function: BatchedCost) -> PairCost:
    """A cost for a matcher, of a function of whole images: ``f(gt, predicted) -> (n, G, P)``.

    ``gt`` holds the targets of n images by name: ``"boxes"`` (n, G, 4), xyxy, ``"labels"`` (n, G), and the fields of
    the targets, (n, G, …). ``predicted`` holds ``"boxes"`` (n, P, 4), xyxy, ``"logits"`` (n, P, C), ``"objectness"``
    and the fields of the predictions. Both have what there is. Batched functions such as ``torch.cdist``, and all costs
    of this package, are used as they are.

    Images are computed in groups with about as many targets, so that a crowded one pads few others. What stands in a
    slot of filler is the last target of the image again: a cost must depend on its own pair alone.

    Args:
        function: Gives a number for each target and prediction.

    Raises:
        TypeError: It is no function.
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
    return partial(_cost_of_pairs, function)  # not a closure: a matcher can be pickled


def _cost_of_pairs(function: BatchedCost, pairs: Pairs) -> Tensor:
    return (_packed if pairs.packed else _static)(function, pairs)


def _packed(function: BatchedCost, pairs: Pairs) -> Tensor:
    count, found = pairs.problem.num_predictions, None
    first, size = pairs.runs()
    sizes, order = size.sort(descending=True, stable=True)
    known = [each for each in sizes.tolist() if each]
    for group in grouped(known, max(sum(known) // 3, _FILLER // max(count, 1))):
        images = order[group.first : group.first + group.images]
        within = torch.minimum(torch.arange(group.most), (size[images] - 1).unsqueeze(-1))
        row = first[images].unsqueeze(-1) + within
        cost = _of_images(function, pairs, row, images)
        found = cost.new_empty(len(pairs), count) if found is None else found
        found[row.flatten()] = cost.flatten(0, 1)
    return torch.zeros(0, count, device=pairs.sample.device) if found is None else found


def _static(function: BatchedCost, pairs: Pairs) -> Tensor:
    every = torch.arange(pairs.problem.num_samples, device=pairs.sample.device)
    rows = torch.arange(len(pairs), device=every.device).split([group.rows for group in pairs.groups])
    costs = [
        _of_images(function, pairs, row.view(group.images, group.most), every[pairs.images_of(group)]).flatten(0, 1)
        for group, row in zip(pairs.groups, rows, strict=True)
    ]
    return costs[0] if len(costs) == 1 else torch.cat(costs)


def _of_images(function: BatchedCost, pairs: Pairs, row: Tensor, images: Tensor) -> Tensor:
    """Costs (n, G, P) of rows (n, G) of images (n,)."""
    problem, own = pairs.problem, pairs.problem.predictions
    gt = {"boxes": problem.gt_boxes, "labels": problem.labels, **problem.fields}
    predicted = {"boxes": problem.boxes, "logits": own.logits, "objectness": own.objectness, **own.fields}
    sample, target = pairs.sample[row], pairs.target[row]
    cost = function(
        {name: value[sample, target] for name, value in gt.items() if value is not None},
        {name: value.index_select(0, images) for name, value in predicted.items() if value is not None},
    )
    shape = (*row.shape, problem.num_predictions)
    if not isinstance(cost, Tensor) or tuple(cost.shape) != shape:
        got = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(f"a batched cost must be a tensor (images, targets, predictions) = {shape}, got {got}")
    return cost
