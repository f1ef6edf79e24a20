"""Dynamic soft labels, of RTMDet."""

from __future__ import annotations

from reference import dense
from reliability import arguments
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import by_rule
from cases.planted import of_matcher, points
from cases.scenes import POINTS
from matchers import DynamicSoftLabel
from tests.mutation.planting import Mutant

PROVES = ("DynamicSoftLabel",)
CASES = {"dynamic_soft_label": (DynamicSoftLabel(), POINTS)}
COSTS = {"dynamic_soft_label": {"class", "iou", "centre"}}
reference = by_rule(dense.dynamic_soft_label, "topk", "soft_center_radius", "iou_weight")
CHOICES = {"DynamicSoftLabel": Choice("points", DynamicSoftLabel)}
CALLS = {
    "DynamicSoftLabel": matcher(DynamicSoftLabel, arguments.POINTS, topk=3, soft_center_radius=3.0, iou_weight=3.0)
}
# fmt: off
BAD_INPUTS = [
    ("no points for soft labels", lambda: DynamicSoftLabel()(arguments.predictions(), arguments.targets()), ValueError, "DynamicSoftLabel needs priors: grid points"),
    ("radius of text", lambda: DynamicSoftLabel(soft_center_radius="far"), TypeError, "soft_center_radius must be a number, got str"),
]
# fmt: on
OPERATIONS = {"dynamic soft label": of_matcher(DynamicSoftLabel, points)}
BUGS = [
    Mutant(
        "batch-global",
        "overlaps weigh more with a better one in any image",
        "matchers.dense.dynamic_soft_label",
        "found.add_(overlap_cost(overlap, self.iou_weight))",
        "found.add_(overlap_cost(overlap, self.iou_weight * float(overlap.amax())))",
        "dynamic soft label",
        "independence",
    )
]
