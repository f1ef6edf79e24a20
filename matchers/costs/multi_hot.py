"""Costs of targets with several labels: sums of what each class costs, weighted by the labels.

A target has labels y from 0 to 1, one for each class: which classes it is of, or which tokens of a caption name it. Its
cost is ``sum_c y_c cost_c``, a product of matrices (G, C) and (C, P): nothing of shape P×G×C is ever made. With one
label of 1 that is the cost of this class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from matchers.costs.checks import check_values_of, checked_multi_hot
from matchers.costs.per_image import cost_of_images
from matchers.pairs.pairs import Pairs
from ragged.interop.operands import takes_batches_of_pairs
from ragged.values.checks import check_flag
from ragged.values.precision import wide
from ragged.values.readable import known_finite


def have_several(labels: Tensor, logits: Tensor) -> bool:
    """Whether labels beside logits ``(*batch, P, C)`` are multi-hot ``(*batch, G, C)``, and not one for each target."""
    if not isinstance(labels, Tensor) or not isinstance(logits, Tensor) or labels.dim() < logits.dim():
        return False
    return labels.dtype == torch.bool or labels.is_floating_point()


@takes_batches_of_pairs(rows={"labels": None}, columns={"values": 1})
@torch.no_grad()
def sum_over_labels(values: Tensor, labels: Tensor, *, mean: bool = False) -> Tensor:
    """Sums of values ``(…, P, C)`` over the labels ``(…, G, C)`` of each target: ``(…, G, P)``.

    ``sum_c y_c v_c``, or ``sum_c y_c v_c / sum_c y_c``. Values of unlabelled classes are not read: they can be
    infinite or NaN, as for filler tokens. A non-finite value of a labelled class gives NaN.

    Args:
        values: ``(*batch, P, C)``, floating: the cost of each class, for example.
        labels: ``(*batch, G, C)``, bool or floating from 0 to 1.
        mean: Whether to divide by the sum of the labels, as MDETR does for the tokens of a phrase. Both are 0 for a
            target without labels.

    Raises:
        TypeError, ValueError: Shapes or dtypes do not fit, or a label is not from 0 to 1.

    >>> values = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, torch.nan]])
    >>> sum_over_labels(values, torch.tensor([[True, True, False]]))
    tensor([[3., 3.]])
    """
    check_values_of(values, "values", "(*batch, P, C)", at_least=2)
    check_flag(mean, "mean")
    return weighted_sum(wide(values), checked_multi_hot(labels, values), mean=mean)


def weighted_sum(values: Tensor, labels: Tensor, *, mean: bool) -> Tensor:
    """``sum_over_labels`` of arguments that were checked."""
    weights = labels.to(values.dtype)
    if mean:
        total = weights.sum(-1, keepdim=True)
        weights = weights / total.masked_fill(total == 0, 1)
    if known_finite(values):
        return _product(weights, values)
    unknown = ~values.isfinite()
    sums = _product(weights, values.masked_fill(unknown, 0))
    return sums.masked_fill(_product(weights, unknown.to(weights.dtype)) > 0, torch.nan)


def _product(weights: Tensor, values: Tensor) -> Tensor:
    """(…, G, P) of (…, G, C) and (…, P, C), in their own precision under autocast too."""
    device = values.device.type
    if not torch.amp.is_autocast_available(device):
        return weights @ values.mT
    with torch.autocast(device, enabled=False):
        return weights @ values.mT


def cost_of_labels(pairs: Pairs, cost: Callable[[Tensor], Tensor], *, mean: bool = False) -> Tensor:
    """Costs (R, P) of a function of logits: of that of the target's class, or summed over its labels.

    Args:
        pairs: Targets and predictions.
        cost: Of logits of any shape, float32 at least; NaN if a logit is infinite.
        mean: See ``sum_over_labels``; with one label for each target that changes nothing.
    """
    if pairs.labels_of_classes() is None:
        return cost(pairs.logits_of_labels())
    return cost_of_images(partial(_of_logits, cost, mean), pairs)


def probability_of_labels(pairs: Pairs, *, mean: bool = False) -> Tensor:
    """Softmax probability (R, P) of the target's class, or of all its labels together."""
    if pairs.labels_of_classes() is None:
        return pairs.log_probabilities_of_labels().exp_()
    return cost_of_images(partial(_of_softmax, mean), pairs)


def _of_logits(cost: Callable[[Tensor], Tensor], mean: bool, pairs: Pairs, row: Tensor, images: Tensor) -> Tensor:
    logits, labels = _of_images(pairs, row, images)
    return weighted_sum(cost(logits if known_finite(logits) else logits + (logits - logits)), labels, mean=mean)


def _of_softmax(mean: bool, pairs: Pairs, row: Tensor, images: Tensor) -> Tensor:
    logits, labels = _of_images(pairs, row, images)
    shares = logits.softmax(-1)
    return weighted_sum(shares if known_finite(logits) else shares + (logits - logits), labels, mean=mean)


def _of_images(pairs: Pairs, row: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, P, C) of images, and labels (n, G, C) of rows."""
    labels = pairs.labels_of_classes()
    assert labels is not None
    return wide(pairs.problem.need_logits("this matcher").index_select(0, images)), labels[row]
