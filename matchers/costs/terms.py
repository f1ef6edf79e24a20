"""Cost terms for matchers: named functions of the pairs.

A term takes ``Pairs`` and gives costs ``(R, P)``. Weighted sums are ordinary arithmetic:

    >>> def cost(pairs):
    ...     return 2 * focal_cost(pairs.logits_of_labels()) + 5 * (1 - giou(pairs.gt, pairs.predicted))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from matchers.costs.checks import check_module
from matchers.costs.classes import focal_cost
from matchers.costs.multi_hot import cost_of_labels, probability_of_labels
from matchers.geometry.overlaps import giou
from matchers.geometry.places import center_size_l1
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import Problem
from ragged.values.checks import check_flag, check_is_callable, check_not_negative, check_one_of, check_share
from ragged.values.precision import wide

PairCost = Callable[[Pairs], Tensor]

_BLOCK_BYTES = 1 << 24


def detr_costs(
    *,
    classes: str = "focal",
    class_weight: float = 2.0,
    l1_weight: float = 5.0,
    giou_weight: float = 2.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
    mean_over_labels: bool = False,
) -> dict[str, PairCost]:
    """The cost terms of DETR and its successors; a term of weight 0 is left out.

    Args:
        classes: ``"focal"`` as in Deformable DETR, or ``"softmax"`` as in DETR (whose ``class_weight`` is 1).
        class_weight: Weight of the class cost.
        l1_weight: Weight of the L1 distance of cxcywh boxes.
        giou_weight: Weight of ``1 - GIoU``.
        alpha, gamma: Parameters of ``focal_cost``.
        mean_over_labels: Of targets with multi-hot labels, whether the class cost is the mean over the labels, as in
            MDETR and Grounding DINO for the tokens of a phrase, and not the sum. See ``focal_class_cost``.

    >>> list(detr_costs(giou_weight=0))
    ['class', 'l1']
    """
    for name, value in (("class_weight", class_weight), ("l1_weight", l1_weight), ("giou_weight", giou_weight)):
        check_not_negative(value, name)
    check_share(alpha, "alpha")
    check_not_negative(gamma, "gamma")
    check_one_of(classes, ("focal", "softmax"), "classes")
    check_flag(mean_over_labels, "mean_over_labels")

    # Not closures: a matcher can be pickled and copied.
    if classes == "softmax":
        class_cost = partial(_softmax_cost, weight=class_weight, mean=mean_over_labels)
    else:
        class_cost = partial(_focal_cost, weight=class_weight, alpha=alpha, gamma=gamma, mean=mean_over_labels)
    terms = {
        "class": (class_weight, class_cost),
        "l1": (l1_weight, partial(_l1_cost, weight=l1_weight)),
        "giou": (giou_weight, partial(_giou_cost, weight=giou_weight)),
    }
    return {name: term for name, (weight, term) in terms.items() if weight}


def module_costs(
    cls_match_module: nn.Module | None, loc_match_module: nn.Module | None, *, is_anchor_based: bool = False
) -> dict[str, PairCost]:
    """Cost terms from loss modules.

    Args:
        cls_match_module: Takes logits (n, C) and labels (n,), or targets (n, C), floating, where labels are multi-hot;
            None for no class cost. If the module has a method ``pair_cost(pairs)``, it computes all costs (R, P) at
            once; so does ``torch.nn.CrossEntropyLoss``.
        loc_match_module: Takes boxes and target boxes (n, 4), xyxy; None for no box cost. Its result is (n,), or is
            summed over the last dimension. A module that has a method ``of_coordinates(boxes, targets)`` is asked for
            the costs of all pairs, (R, P), of ``Coordinates`` that broadcast.
        is_anchor_based: Whether the priors are compared with the targets in place of the predicted boxes.

    Raises:
        ValueError: A module reduces its result, or both are None.
    """
    check_flag(is_anchor_based, "is_anchor_based")
    modules = {"class": cls_match_module, "box": loc_match_module}
    for name, module in modules.items():
        if module is not None:
            check_is_callable(module, f"the {name} cost module", "a module or a function")
            check_module(module, f"the {name} cost module")
        if module is not None and getattr(module, "reduction", "none") != "none":
            raise ValueError(f"the {name} cost module must have reduction='none', got {module.reduction!r}")
    terms: dict[str, PairCost] = {}
    if cls_match_module is not None:
        terms["class"] = _class_cost(cls_match_module)
    if loc_match_module is not None:
        terms["box"] = partial(_box_cost, loc_match_module, is_anchor_based)
    if not terms:
        raise ValueError("a cost needs a class module or a box module, got neither")
    return terms


def total_cost(terms: Mapping[str, PairCost], pairs: Pairs) -> Tensor:
    """Sum of all terms, (R, P), not finite where one of them is not."""
    total: Tensor | None = None
    for name, term in terms.items():
        cost = _checked(name, _computed(name, term, pairs), pairs)
        # Not in place: a term may give a tensor that is not its own.
        total = cost if total is None else total + cost
    assert total is not None
    return total


def padded_costs(terms: Mapping[str, PairCost], problem: Problem) -> dict[str, Tensor]:
    """Every term as ``(*batch, G, P)``; rows of filler and of ignored targets mean nothing."""
    pairs = Pairs.of(problem, padded=True)
    shape = (problem.num_samples, problem.max_num_targets, problem.num_predictions)
    return {
        name: problem.unmerged(_checked(name, _computed(name, term, pairs), pairs).reshape(shape).clone())
        for name, term in terms.items()
    }


def _computed(name: str, term: PairCost, pairs: Pairs) -> Any:
    """The result of a cost; its ``IndexError`` explains how rows are counted."""
    shape = pairs.problem.batch_shape
    if len(shape) < 2 or torch.compiler.is_compiling():
        return term(pairs)
    try:
        return term(pairs)
    except IndexError as error:
        raise IndexError(
            f"the cost {name!r}: {error}. pairs.sample counts the {pairs.problem.num_samples} images of all batch "
            f"dimensions {shape}, those of layers first: in a tensor of {shape[-1]} images the place is "
            f"pairs.sample % {shape[-1]}; or hand the tensor in as a field of targets or predictions"
        ) from error


def _checked(name: str, cost: Any, pairs: Pairs) -> Tensor:
    shape = (len(pairs), pairs.problem.num_predictions)
    if not isinstance(cost, Tensor) or cost.shape != shape:
        got = tuple(cost.shape) if isinstance(cost, Tensor) else type(cost).__name__
        raise ValueError(f"the cost {name!r} must be a tensor (targets, predictions) = {shape}, got {got}")
    return cost


def _softmax_cost(pairs: Pairs, *, weight: float, mean: bool) -> Tensor:
    return probability_of_labels(pairs, mean=mean).mul_(-weight)


def _focal_cost(pairs: Pairs, *, weight: float, alpha: float, gamma: float, mean: bool) -> Tensor:
    return cost_of_labels(pairs, partial(focal_cost, alpha=alpha, gamma=gamma), mean=mean).mul_(weight)


def _l1_cost(pairs: Pairs, *, weight: float) -> Tensor:
    return center_size_l1(pairs.gt, pairs.predicted).mul_(weight)


def _giou_cost(pairs: Pairs, *, weight: float) -> Tensor:
    return torch.rsub(giou(pairs.gt, pairs.predicted), weight, alpha=weight)  # weight - weight * GIoU


def _class_cost(module: nn.Module) -> PairCost:
    """The class cost that a module is, or that torch's cross entropy and functions of rows and labels make."""
    own = getattr(module, "pair_cost", None)
    if own is not None:
        return own
    if type(module) is nn.CrossEntropyLoss and not module.label_smoothing:
        return partial(_cross_entropy_cost, module)
    return partial(_cost_of_rows, module)


def _cross_entropy_cost(module: nn.CrossEntropyLoss, pairs: Pairs) -> Tensor:
    cost = -pairs.log_probabilities_of_labels()
    if module.weight is not None:
        cost *= module.weight[pairs.need_labels()].unsqueeze(-1)
    return cost.masked_fill_((pairs.need_labels() == module.ignore_index).unsqueeze(-1), 0)


def _cost_of_rows(module: nn.Module, pairs: Pairs) -> Tensor:
    """The cost of a module that takes one label for each row of logits: they are repeated, a few targets at a time."""
    logits = wide(pairs.problem.need_logits("the class cost module"))
    count, classes = logits.shape[1:]

    def block(labels: Tensor, sample: Tensor) -> Tensor:
        repeated = labels.repeat_interleave(count, 0, output_size=len(labels) * count)
        return _per_pair(module(logits[sample].reshape(-1, classes), repeated), len(labels), count)

    several = pairs.labels_of_classes()
    every = pairs.need_labels() if several is None else several.to(logits.dtype)

    size = max(1, _BLOCK_BYTES // (4 * max(count * classes, 1)))
    return torch.cat(
        [block(*part) for part in zip(every.split(size), pairs.sample.split(size), strict=True)]
        or [logits.new_zeros(0, count)]
    )


def _box_cost(module: nn.Module, is_anchor_based: bool, pairs: Pairs) -> Tensor:
    boxes = pairs.priors if is_anchor_based else pairs.predicted
    own = getattr(module, "of_coordinates", None)
    if own is not None:
        cost: Tensor = own(boxes, pairs.gt)
        return cost
    shape = (len(pairs), pairs.problem.num_predictions)
    mine, theirs = (
        # All but the area. Not by a slice: the compiler of torch 2.8 has none of named tuples.
        torch.stack([part.expand(shape) for part in (each.x1, each.y1, each.x2, each.y2)], -1).reshape(-1, 4)
        for each in (boxes, pairs.gt)
    )
    return _per_pair(module(mine, theirs), *shape)


def _per_pair(cost: Tensor, rows: int, count: int) -> Tensor:
    cost = cost.sum(-1) if cost.dim() > 1 else cost
    return wide(cost).reshape(rows, count)
