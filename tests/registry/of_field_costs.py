"""The functions of ``matchers`` for keypoints and boxes in 3D."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from reference import boxes3d as box_loops
from reference import keypoints as loops
from torch import Tensor

import matchers
from matchers.costs.terms import padded_costs
from ragged import RaggedBatch
from registry.entries import PREDICTIONS, SIZES, SLOTS, Elsewhere, Operation, data, normal, per_row, uniform, wrapped

SIGMAS = (0.3, 0.4, 0.5)
WEIGHTS = (2.0, 0.0, 1.0, 0.2)
K, D = len(SIGMAS), len(WEIGHTS)


def gt() -> RaggedBatch:
    """Keypoints, some of them not visible."""
    return wrapped(torch.cat([uniform(len(SIZES), SLOTS, K, 2, seed=1), normal(len(SIZES), SLOTS, K, 1)], -1))


def found() -> Tensor:
    return uniform(len(SIZES), PREDICTIONS, K, 2, seed=2)


def pairs(loop: Any, *rows: Tensor) -> Tensor:
    """A loop over pairs of a target and a prediction, of one sample."""
    *own, predicted = (each.tolist() for each in rows)
    table = [[loop(other, *values) for other in predicted] for values in zip(*own, strict=True)]
    return torch.tensor(table, dtype=torch.float64).reshape(-1, PREDICTIONS)


def of_pairs(function: Any, loop: Any, *more: Any) -> Operation:
    arguments = (gt, *more, found)
    return Operation(
        function, lambda: tuple(make() for make in arguments), reference=partial(pairs, loop), is_loop=True
    )


def keypoint_costs(keypoints: RaggedBatch, area: RaggedBatch, predicted: Tensor) -> dict[str, RaggedBatch]:
    own = matchers.Targets(fields={"keypoints": keypoints, "area": area})
    problem = matchers.Problem.of(matchers.Predictions(fields={"keypoints": predicted}), own)
    terms = padded_costs(matchers.keypoint_costs(oks_weight=1.0, l1_weight=2.0, sigmas=SIGMAS), problem)
    known = own.matchable.unsqueeze(-1)
    return {
        name: keypoints.create_with_sample_sizes_like_self(cost.masked_fill(~known, 0)) for name, cost in terms.items()
    }


def both_costs(keypoints: Tensor, area: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    return {
        "oks": pairs(lambda p, g, a: 1 - loops.oks(p, g, a, SIGMAS), keypoints, area, predicted).float(),
        "keypoints": 2 * pairs(loops.l1, keypoints, predicted).float(),
    }


PACKAGE = "matchers"
ENTRIES: dict[str, Operation | Elsewhere] = {
    "oks": Operation(
        partial(matchers.oks, sigmas=SIGMAS),
        lambda: (data(K, 2), gt(), data(seed=3)),
        reference=per_row(lambda p, g, a: loops.oks(p, g, a, SIGMAS)),
        is_loop=True,
    ),
    "pairwise_oks": of_pairs(
        partial(matchers.pairwise_oks, sigmas=SIGMAS), lambda p, g, a: loops.oks(p, g, a, SIGMAS), data
    ),
    "oks_cost": of_pairs(
        partial(matchers.oks_cost, sigmas=SIGMAS), lambda p, g, a: 1 - loops.oks(p, g, a, SIGMAS), data
    ),
    "keypoint_l1_cost": of_pairs(matchers.keypoint_l1_cost, loops.l1),
    "keypoint_costs": Operation(keypoint_costs, lambda: (gt(), data(), found()), reference=both_costs),
    "box3d_l1_cost": Operation(
        partial(matchers.box3d_l1_cost, code_weights=WEIGHTS),
        lambda: (data(D), uniform(len(SIZES), PREDICTIONS, D, seed=2)),
        reference=partial(pairs, lambda p, g: box_loops.l1(p, g, WEIGHTS)),
        is_loop=True,
    ),
    "COCO_SIGMAS": Elsewhere("tests/matchers/test_keypoints.py", "is a constant"),
}
