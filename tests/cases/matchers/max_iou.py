"""Assignment by thresholds of the overlap."""

from __future__ import annotations

import torch
from reference import dense
from reliability.arguments import POINTS, PRIORS, matcher, predictions, targets
from reliability.call import method

from cases.finding import Choice
from cases.plans import by_rule
from cases.planted import anchors, of_matcher
from cases.scenes import ANCHORS
from matchers import MaxIoU
from tests.mutation.planting import Mutant

PROVES = ("MaxIoU",)
CASES = {"max_iou": (MaxIoU(), ANCHORS)}
reference = by_rule(
    dense.max_iou,
    "pos_iou_thr",
    "neg_iou_thr",
    "min_pos_iou",
    "match_low_quality",
    "gt_max_assign_all",
    "keep_best_target",
    "ignore_iof",
)
CHOICES = {"MaxIoU": Choice("anchors", MaxIoU)}
CALLS = {
    "MaxIoU": matcher(
        MaxIoU,
        PRIORS,
        pos_iou_thr=0.5,
        neg_iou_thr=0.4,
        min_pos_iou=0.1,
        match_low_quality=True,
        gt_max_assign_all=True,
        keep_best_target=True,
        ignore_iof=0.5,
    ),
    "MaxIoU(range)": matcher(MaxIoU, PRIORS, neg_iou_thr=(0.1, 0.4)),
    "MaxIoU.costs": lambda: method(MaxIoU, {}, "costs", predictions(), targets(), PRIORS),
}
# fmt: off
BAD_INPUTS = [
    ("points for priors", lambda: MaxIoU()(predictions(), targets(), torch.cat([POINTS[:, :2] + 99, POINTS[:, 2:]], 1)), ValueError, "priors must be xyxy boxes, .*are these grid points"),
    ("other number of priors", lambda: MaxIoU()(predictions(), targets(), PRIORS[:3]), ValueError, r"priors must have shape \(16, 4\) .*got \(3, 4\)"),
    ("thresholds out of order", lambda: MaxIoU(neg_iou_thr=0.9), ValueError, "thresholds must be in order, .*got neg_iou_thr=0.9, pos_iou_thr=0.5"),
]
# fmt: on
OPERATIONS = {"max iou": of_matcher(MaxIoU, anchors, pos_iou_thr=0.15, neg_iou_thr=0.15)}
BUGS = [
    Mutant(
        "wrong broadcast",
        "overlaps written to image 0",
        "matchers.pairs.pairs",
        "reduce_rows_(into, self.sample, values, reduce)",
        "reduce_rows_(into, 0 * self.sample, values, reduce)",
        "max iou",
        "order",
        ("matchers.dense.rule", "matchers.dense.max_iou"),
    )
]
