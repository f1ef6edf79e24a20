"""SimOTA, of YOLOX."""

from __future__ import annotations

import torch
from reference import dense
from reliability import arguments
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import by_rule
from cases.planted import of_matcher, points
from cases.scenes import POINTS
from matchers import SimOTA
from tests.mutation.planting import Mutant

PROVES = ("SimOTA",)
CASES = {"simota": (SimOTA(), POINTS)}
COSTS = {"simota": {"class", "iou", "outside"}}
reference = by_rule(dense.simota, "center_radius", "candidate_topk", "iou_weight", "cls_weight")
CHOICES = {"SimOTA": Choice("points", SimOTA)}
CALLS = {
    "SimOTA": matcher(SimOTA, arguments.POINTS, center_radius=2.5, candidate_topk=3, iou_weight=3.0, cls_weight=1.0)
}
# fmt: off
BAD_INPUTS = [
    ("boxes for points", lambda: SimOTA()(arguments.predictions(), arguments.targets(), torch.cat([arguments.POINTS[:, :2], arguments.POINTS[:, 2:] * 0], 1)), ValueError, "strides above 0"),
    ("number of candidates of floats", lambda: SimOTA(candidate_topk=2.5), TypeError, "candidate_topk must be an integer, got float"),
]
# fmt: on
OPERATIONS = {"simota": of_matcher(SimOTA, points)}
_DYNAMIC_K = "matchers.dense.dynamic_k"
BUGS = [
    Mutant(
        "batch-global",
        "overlaps of all targets added up",
        _DYNAMIC_K,
        "(highest.sum(-1, keepdim=True)",
        "(highest.sum().expand(len(pairs), 1)",
        "simota",
        "independence",
        ("matchers.dense.simota",),
    ),
    Mutant(
        "wrong broadcast",
        "predictions of image 0 are taken",
        _DYNAMIC_K,
        "slot = torch.add(prediction, pairs.sample.unsqueeze(-1), alpha=self.problem.num_predictions)",
        "slot = prediction + 0 * pairs.sample.unsqueeze(-1)",
        "simota",
        "order",
        ("matchers.dense.simota",),
    ),
]
