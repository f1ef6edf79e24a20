"""The functions of ``matchers``: boxes, costs, readers of targets, and assignments without a cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from reference import boxes as box_loops
from reference import costs as cost_loops
from reference.denoising import hidden_queries
from reference.given import by_key
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

import losses
import matchers
from matchers.costs.terms import padded_costs
from ragged import RaggedBatch
from registry.entries import (
    CLASSES,
    PREDICTIONS,
    Elsewhere,
    Operation,
    boxes,
    corners,
    data,
    labels,
    normal,
    per_row,
    scores,
    uniform,
    wrapped,
)
from registry.of_assignments import assignment
from registry.of_matcher_objects import targets

PRIORS = "tests/matchers/test_priors.py"
MADE_OF_SIZES = "makes numbers from sizes of images and maps, and takes no tensor of a sample"


def of_boxes(function: Callable[..., Any]) -> Operation:
    return Operation(function, lambda: (boxes(),), reference=function)


def conversion(name: str, source: str, to: str) -> Operation:
    return Operation(
        getattr(matchers, name),
        lambda: (boxes(),),
        reference=lambda sample: matchers.convert(sample, source, to),
    )


def measure(name: str, **options: Any) -> Operation:
    """Of two boxes; values by the loop, gradients by finite differences."""
    loop = per_row(getattr(box_loops, name))
    return Operation(getattr(matchers, name), lambda: (boxes(), boxes(1)), reference=loop, is_loop=True, **options)


def pairs_of(cost: Callable[..., Any]) -> Callable[..., Any]:
    """A cost of predictions and targets, called with the targets' ragged values first; result (G, P), ragged."""
    return lambda of_targets, of_predictions, *more: cost(of_predictions, of_targets, *more)


def class_cost(name: str, loop: Callable[..., float], *more: Callable[[], Any]) -> Operation:
    def table(own: Tensor, logits: Tensor, *rest: Tensor) -> Tensor:
        return cost_loops.class_table(loop, logits, own, *rest)

    return Operation(
        pairs_of(getattr(matchers, name)),
        lambda: (labels(CLASSES), normal(3, PREDICTIONS, CLASSES), *(make() for make in more)),
        reference=table,
    )


def box_cost(name: str, loop: Callable[..., float]) -> Operation:
    cost = getattr(matchers, name)
    return Operation(
        pairs_of(lambda found, gt: cost(gt, found)),
        lambda: (boxes(), corners(3, PREDICTIONS, seed=3)),
        reference=lambda gt, found: box_loops.table(loop, gt, found),
    )


def detr_costs(terms: Any) -> Operation:
    def costs(own: matchers.Targets, logits: Tensor, found: Tensor) -> dict[str, RaggedBatch]:
        problem = matchers.Problem.of(matchers.Predictions(logits, found), own)
        known = own.matchable.unsqueeze(-1)
        parts = padded_costs(terms, problem)
        return {
            name: own.boxes.create_with_sample_sizes_like_self(cost.masked_fill(~known, 0))
            for name, cost in parts.items()
        }

    return Operation(costs, lambda: (targets(), normal(3, PREDICTIONS, CLASSES), corners(3, PREDICTIONS, seed=3)))


def whole_images(gt: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
    cost = matchers.focal_class_cost(predicted["logits"], gt["labels"])
    return cost + torch.cdist(gt["boxes"], predicted["boxes"], p=1)


def solved(cost: Tensor) -> Tensor:
    index = torch.full((cost.shape[1],), -1)
    target, prediction = linear_sum_assignment(cost.detach().double().numpy())
    index[torch.as_tensor(prediction)] = torch.as_tensor(target)
    return index


def denoised(own: matchers.Targets, positive: RaggedBatch) -> Tensor:
    meta = {"dn_num_group": 2, "dn_num_split": [12, 5], "dn_positive_idx": positive}
    return matchers.denoising_assignment(meta, own).target_index


def positive_queries() -> RaggedBatch:
    order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(k)) for k in range(3)])
    return wrapped(order, (8, 0, 2))


def denoised_sample(own: matchers.Targets, positive: Tensor) -> Tensor:
    index = torch.full((12,), -1)
    for place, query in enumerate(positive.tolist()):
        index[query] = place % (len(positive) // 2)
    ignored = [k for k, target in enumerate(index.tolist()) if target >= 0 and own.ignore[target]]
    index[ignored] = -2
    return index


def target_ids() -> RaggedBatch:
    """Different ones in each sample, in no order."""
    return wrapped(torch.tensor([[4, 0, 6, -1, 2], [1, 1, 1, 1, 1], [3, 0, 0, 0, 0]]))


OF_BOXES = {
    "convert": of_boxes(lambda b: matchers.convert(b, "xyxy", "cxcywh")),
    "xyxy_to_cxcywh": conversion("xyxy_to_cxcywh", "xyxy", "cxcywh"),
    "cxcywh_to_xyxy": conversion("cxcywh_to_xyxy", "cxcywh", "xyxy"),
    "xyxy_to_xywh": conversion("xyxy_to_xywh", "xyxy", "xywh"),
    "xywh_to_xyxy": conversion("xywh_to_xyxy", "xywh", "xyxy"),
    "xywh_to_cxcywh": conversion("xywh_to_cxcywh", "xywh", "cxcywh"),
    "cxcywh_to_xywh": conversion("cxcywh_to_xywh", "cxcywh", "xywh"),
    "area": of_boxes(lambda b: matchers.area(b)),
    "normalize": Operation(
        matchers.normalize,
        lambda: (boxes(), uniform(3, 2) * 20),
        reference=lambda b, size: b / size.flip(-1).repeat(2),
    ),
    "denormalize": Operation(
        matchers.denormalize,
        lambda: (boxes(), uniform(3, 2) * 20),
        reference=lambda b, size: b * size.flip(-1).repeat(2),
    ),
    "iou": measure("iou"),
    "iof": measure("iof"),
    "giou": measure("giou"),
    "diou": measure("diou"),
    "ciou": measure("ciou", without={"gradients": "its trade-off is a constant for the gradient, as in the paper"}),
    "ciou[trade-off]": Operation(lambda a, b: matchers.ciou(a, b, detach_trade_off=False), lambda: (boxes(), boxes(1))),
    "pairwise": Operation(lambda a, b: matchers.pairwise(matchers.iou, a, b), lambda: (boxes(), corners(3, 2, seed=3))),
}

OF_COSTS = {
    "gather_labels": Operation(
        pairs_of(matchers.gather_labels),
        lambda: (labels(CLASSES), normal(3, PREDICTIONS, CLASSES)),
        reference=lambda own, values: values[:, own].T,
    ),
    "focal_cost": Operation(matchers.focal_cost, lambda: (scores(),), reference=lambda x: focal(x.detach())),
    "alignment": Operation(
        matchers.alignment, lambda: (scores(), data()), reference=lambda x, iou: (x.sigmoid() * iou**6).detach()
    ),
    "softmax_class_cost": class_cost("softmax_class_cost", cost_loops.softmax),
    "focal_class_cost": class_cost("focal_class_cost", cost_loops.focal),
    "binary_class_cost": class_cost("binary_class_cost", cost_loops.binary),
    "binary_class_cost[objectness]": Operation(
        pairs_of(matchers.binary_class_cost),
        lambda: (labels(CLASSES), normal(3, PREDICTIONS, CLASSES), normal(3, PREDICTIONS, seed=5)),
    ),
    "softlabel_class_cost": class_cost("softlabel_class_cost", cost_loops.softlabel, lambda: data(PREDICTIONS)),
    "alignment_metric": class_cost("alignment_metric", cost_loops.alignment, lambda: data(PREDICTIONS)),
    "l1_cost": box_cost("l1_cost", cost_loops.l1),
    "iou_cost": box_cost("iou_cost", lambda a, b: 1 - box_loops.iou(a, b)),
    "giou_cost": box_cost("giou_cost", lambda a, b: 1 - box_loops.giou(a, b)),
    "points_in_boxes": Operation(
        pairs_of(matchers.points_in_boxes),
        lambda: (boxes(), uniform(3, PREDICTIONS, 2) * 5),
        reference=lambda b, p: ((p > b[:, None, :2]) & (p < b[:, None, 2:])).all(-1),
    ),
    "points_near_centers": Operation(
        pairs_of(matchers.points_near_centers),
        lambda: (boxes(), uniform(3, PREDICTIONS, 2) * 5, uniform(3, PREDICTIONS, seed=1) * 2),
        reference=lambda b, p, r: ((p - (b[:, None, :2] + b[:, None, 2:]) / 2).abs() < r.unsqueeze(-1)).all(-1),
    ),
    "batched_cost": detr_costs({"cost": matchers.batched_cost(whole_images)}),
    "detr_costs": detr_costs(matchers.detr_costs()),
    "detr_costs[softmax]": detr_costs(matchers.detr_costs(classes="softmax")),
    "module_costs": detr_costs(matchers.module_costs(losses.NegativeProbLoss(), losses.GIoULoss())),
    "module_costs[repeated]": detr_costs(matchers.module_costs(losses.FocalLoss(), nn.L1Loss(reduction="none"))),
}

OF_ASSIGNING = {
    "batched_linear_sum_assignment": Operation(
        lambda cost: matchers.batched_linear_sum_assignment(cost),
        lambda: (data(PREDICTIONS),),
        reference=solved,
    ),
    "batched_linear_sum_assignment[forbidden]": Operation(
        lambda cost, never: matchers.batched_linear_sum_assignment(
            cost.tensor, cost.sample_sizes, forbidden=never.with_padded_set_to(False).tensor
        ),
        lambda: (data(PREDICTIONS), wrapped(uniform(3, 5, PREDICTIONS, seed=9) > 0.8)),
    ),
    "denoising_indices": Operation(
        lambda count: matchers.denoising_indices(count, 2, 3).target_index,
        lambda: (torch.tensor([3, 0, 1]),),
        reference=lambda count: torch.tensor([k if k < count else -1 for k in range(6)] * 2),
    ),
    "denoising_indices[without negatives]": Operation(
        lambda count: matchers.denoising_indices(count, 2, 3, negatives=False).target_index,
        lambda: (torch.tensor([3, 0, 1]),),
        reference=lambda count: torch.tensor([k if k < count else -1 for k in range(3)] * 2),
    ),
    "denoising_attention_mask": Operation(
        lambda count: matchers.denoising_attention_mask(2, 3, 4, num_targets=count),
        lambda: (torch.tensor([3, 0, 1]),),
        reference=lambda count: torch.tensor(hidden_queries(2, 3, 4, True, int(count))),
    ),
    "denoising_assignment": Operation(denoised, lambda: (targets(), positive_queries()), reference=denoised_sample),
    "match_by_key": Operation(
        lambda own, queries: queries.create_with_sample_sizes_like_self(
            matchers.match_by_key(own, queries).target_index
        ),
        lambda: (target_ids(), labels(7, seed=1, low=-2)),
        reference=lambda own, queries: torch.tensor(by_key(own.tolist(), queries.tolist()), dtype=torch.int64),
    ),
    "union_of_matches": Operation(
        lambda *layers: matchers.union_of_matches(layers), lambda: tuple(assignment(seed) for seed in range(3))
    ),
}

NO_OPERATIONS = {
    **{
        name: Elsewhere(PRIORS, MADE_OF_SIZES)
        for name in ("anchors", "feature_sizes", "grid_points", "level_sizes", "ssd_default_boxes")
    },
    "Rule": Elsewhere("tests/matchers/test_opaque.py", "is what rules derive from, and chooses nothing itself"),
    **{name: Elsewhere("tests/matchers/test_plot.py", "draws a picture") for name in ("plot_cost", "plot_match")},
    **{name: Elsewhere("tests/matchers/test_denoising.py", "is a constant") for name in ("BACKGROUND", "IGNORED")},
}


def focal(x: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    p = x.sigmoid()
    return -alpha * (1 - p) ** gamma * p.log() + (1 - alpha) * p**gamma * (1 - p).log()


PACKAGE = "matchers"
ENTRIES: dict[str, Operation | Elsewhere] = {
    **OF_BOXES,
    **OF_COSTS,
    **OF_ASSIGNING,
    **NO_OPERATIONS,
}
