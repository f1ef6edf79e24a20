"""The Hungarian matcher."""

from __future__ import annotations

import numpy as np
from reliability.arguments import COUNT, PRIORS, boxes, logits, matcher, predictions, targets
from scipy.optimize import linear_sum_assignment
from torch import nn

from cases.finding import Choice
from cases.plans import ImagePlan, by_cost, of_index
from cases.planted import of_matcher, scenes
from matchers import Hungarian, detr_costs
from tests.mutation.planting import Mutant

PROVES = ("Hungarian",)
CASES = {"hungarian": (Hungarian(), None)}


def _solved(_: Hungarian, costs: list[list[float]], count: int) -> ImagePlan:
    target = [-1] * count
    for g, p in zip(*linear_sum_assignment(np.array(costs).reshape(len(costs), count)), strict=True):
        target[p] = int(g)
    return of_index(target, len(costs))


reference = by_cost(_solved)
CHOICES = {"Hungarian": Choice("by cost", lambda: Hungarian(detr_costs()))}
CALLS = {
    "Hungarian": matcher(Hungarian, background_cost=3.0, cost=detr_costs()),
    "Hungarian(modules)": matcher(
        Hungarian,
        PRIORS,
        cls_match_module=nn.CrossEntropyLoss(reduction="none"),
        loc_match_module=nn.L1Loss(reduction="none"),
        is_anchor_based=True,
        normalized=True,
    ),
}
# fmt: off
BAD_INPUTS = [
    ("matcher without targets", lambda: Hungarian()(predictions(), None), TypeError, "targets must be Targets, .*got NoneType"),
    ("matcher of tensors", lambda: Hungarian()(logits(), targets()), TypeError, "predictions must be Predictions, a dict or a list of dicts, got Tensor"),
    ("matcher on two devices", lambda: Hungarian()(predictions(), targets().to("meta")), ValueError, "targets must be on the device of predictions"),
    ("matcher of fewer images", lambda: Hungarian()({"pred_boxes": boxes(2, 5), "pred_logits": logits()[:2, :5]}, targets()), ValueError, r"batch shape \(2,\) of predictions must end with the batch shape \(3,\) of targets"),
    ("matcher without logits", lambda: Hungarian()({"pred_boxes": boxes(3, 5)}, targets()), ValueError, "needs class logits, got predictions without them"),
    ("labels without logits", lambda: Hungarian()({"pred_logits": logits()[..., :2], "pred_boxes": boxes(3, COUNT)}, targets()), ValueError, "label 2 at position 1 of sample 0 is out of range for 2 classes"),
    ("priors of no use", lambda: Hungarian(loc_match_module=nn.L1Loss(reduction="none"))(predictions(), targets(), PRIORS), ValueError, "for priors set is_anchor_based=True"),
    ("cost of text", lambda: Hungarian(cost="l1"), TypeError, "cost must be a function of pairs"),
    ("cost of a reduced module", lambda: Hungarian(loc_match_module=nn.L1Loss()), ValueError, "the box cost module must have reduction='none', got 'mean'"),
    ("cost of no module", lambda: Hungarian(cls_match_module=3), TypeError, "the class cost module must be a module or a function, got int"),
]
# fmt: on
OPERATIONS = {
    "hungarian": of_matcher(Hungarian, given=lambda: scenes(ignored=0.4), without=frozenset({"synchronisation"}))
}
BUGS = [
    Mutant(
        "wrong broadcast",
        "targets of image 0 for all",
        "matchers.by_cost.hungarian",
        "taken = target[(start.unsqueeze(-1) + row.clamp(min=0))",
        "taken = target[(0 * start.unsqueeze(-1) + row.clamp(min=0))",
        "hungarian",
        "order",
    )
]
