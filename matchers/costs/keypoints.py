"""Costs of keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from matchers.costs.terms import PairCost
from matchers.geometry.keypoints import (
    COCO_SIGMAS,
    Distances,
    check_sigmas,
    of_every_pair,
    pairwise_oks,
)
from matchers.pairs.pairs import Pairs
from ragged.interop.operands import takes_batches_of_pairs
from ragged.values.checks import check_not_negative
from ragged.values.once import once


@takes_batches_of_pairs(rows={"gt_keypoints": 2, "area": 0}, columns={"keypoints": 2})
@torch.no_grad()
def oks_cost(gt_keypoints: Tensor, area: Tensor, keypoints: Tensor, *, sigmas: Sequence[float] = COCO_SIGMAS) -> Tensor:
    """``1 - OKS`` of targets ``(…, G, K, 3)`` with an area ``(…, G)`` and predictions ``(…, P, K, 2)``: ``(…, G, P)``.

    Args:
        gt_keypoints, area, keypoints, sigmas: See ``pairwise_oks``.

    >>> gt = torch.tensor([[[0.0, 0.0, 2.0], [4.0, 0.0, 1.0]]])
    >>> oks_cost(gt, torch.tensor([8.0]), torch.tensor([[[0.0, 0.0], [4.0, 1.0]]]), sigmas=(0.125, 0.125))
    tensor([[0.3161]])
    """
    return 1 - pairwise_oks(gt_keypoints, area, keypoints, sigmas=sigmas)


@takes_batches_of_pairs(rows={"gt_keypoints": 2}, columns={"keypoints": 2})
@torch.no_grad()
def keypoint_l1_cost(gt_keypoints: Tensor, keypoints: Tensor) -> Tensor:
    """The mean of ``|dx| + |dy|`` over the visible keypoints of targets ``(…, G, K, 3)``: ``(…, G, P)``.

    Args:
        gt_keypoints: x, y and visibility.
        keypoints: Those of predictions, ``(…, P, K, 2)``, in the same unit.

    >>> keypoint_l1_cost(torch.tensor([[[0.0, 0.0, 2.0], [9.0, 9.0, 0.0]]]), torch.ones(2, 2, 2))
    tensor([[2., 2.]])
    """
    found, gt = of_every_pair(keypoints, gt_keypoints)
    distances = Distances.of(found, gt)
    return distances.over_visible(distances.l1())


def keypoint_costs(
    *,
    oks_weight: float = 4.0,
    l1_weight: float = 10.0,
    sigmas: Sequence[float] = COCO_SIGMAS,
    keypoints: str = "keypoints",
    area: str = "area",
) -> dict[str, PairCost]:
    """The cost terms of keypoints, for a matcher by cost; a term of weight 0 is left out.

    Both terms read fields of targets and predictions. ``{**detr_costs(), **keypoint_costs()}`` compares classes and
    boxes as well.

    Args:
        oks_weight: Weight of ``1 - OKS``.
        l1_weight: Weight of the mean L1 distance of the visible keypoints, in the unit of the keypoints.
        sigmas: See ``oks``.
        keypoints: The name of the field with keypoints, ``(G, K, 3)`` of targets and ``(P, K, 2)`` of predictions.
        area: The name of the field of targets with their area, ``(G,)``, in the squared unit of the keypoints.

    The defaults are the weights of DETRPose's losses, for keypoints in fractions of the image.

    >>> person = {"keypoints": torch.rand(1, 17, 3), "area": torch.tensor([0.2])}
    >>> targets = Targets.of([person], fields=("keypoints", "area"))
    >>> predictions = Predictions(fields={"keypoints": torch.rand(1, 4, 17, 2)})
    >>> Hungarian(keypoint_costs())(predictions, targets).num_positives
    tensor([1])
    """
    for name, value in (("oks_weight", oks_weight), ("l1_weight", l1_weight)):
        check_not_negative(value, name)
    check_sigmas(sigmas)
    for name, field in (("keypoints", keypoints), ("area", area)):
        if not isinstance(field, str):
            raise TypeError(f"{name} must be the name of a field, got {type(field).__name__}")
    # Not closures: a matcher can be pickled and copied.
    own = tuple(sigmas) if sigmas is not COCO_SIGMAS else sigmas
    terms = {
        "oks": (oks_weight, partial(_oks_cost, weight=oks_weight, sigmas=own, names=(keypoints, area))),
        "keypoints": (l1_weight, partial(_l1_cost, weight=l1_weight, name=keypoints)),
    }
    return {name: term for name, (weight, term) in terms.items() if weight}


def _oks_cost(pairs: Pairs, *, weight: float, sigmas: Sequence[float], names: tuple[str, str]) -> Tensor:
    area, distances = pairs.gt_field(names[1]).unsqueeze(1), _distances(pairs, names[0])
    return distances.over_visible(distances.exponents(area, sigmas).exp_()).sub_(1).mul_(-weight)


def _l1_cost(pairs: Pairs, *, weight: float, name: str) -> Tensor:
    distances = _distances(pairs, name)
    return distances.over_visible(distances.l1()).mul_(weight)


def _distances(pairs: Pairs, name: str) -> Distances:
    """(R, P, K), for both terms."""

    def make() -> Distances:
        return Distances.of(pairs.predicted_field(name), pairs.gt_field(name).unsqueeze(1))

    return once(pairs.computed, f"distances of {name}", make)
