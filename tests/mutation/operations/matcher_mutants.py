"""Bugs in operations of ``matchers``."""

from __future__ import annotations

from tests.mutation.operations.matcher_cases import (
    BOXES,
    GATHER,
    KEYPOINTS,
    PER_TARGET,
    STACK,
)
from tests.mutation.planting import Mutant

MUTANTS = [
    Mutant(
        "batch-global",
        "visible keypoints of all objects",
        KEYPOINTS,
        "ones.sum(-1, keepdim=True).clamp(min=1)",
        "ones.sum().clamp(min=1)",
        "oks",
        "independence",
    ),
    Mutant(
        "wrong gradient",
        "half of that of a distance in x",
        KEYPOINTS,
        "(self.x * self.x).add_",
        "(self.x * self.x.detach()).add_",
        "oks",
        "gradients",
    ),
    Mutant(
        "too little room",
        "pairs of the layer that has fewest",
        STACK,
        "max(each.max_pairs for each in assignments)",
        "min(each.max_pairs for each in assignments)",
        "stacked pairs",
        "padding",
    ),
    Mutant(
        "mask dropped",
        "background gets a target's value",
        GATHER,
        ".masked_fill(target_index.view(aligned) < 0, fill)",
        "",
        "gather",
        "filler",
    ),
    Mutant(
        "index not masked",
        "background counts for target 0",
        PER_TARGET,
        "torch.where(target_index >= 0, target_index, max_num_targets)",
        "target_index.clamp(min=0)",
        "counts",
        "relation",
    ),
    Mutant(
        "wrong gradient", "trade-off always detached", BOXES, "if detach_trade_off:", "if True:", "ciou", "gradients"
    ),
    Mutant(
        "argument order",
        "area of the second box",
        BOXES,
        "return _ratio(product(_shared(a, b).clamp(min=0)), a.area)",
        "return _ratio(product(_shared(a, b).clamp(min=0)), b.area)",
        "iof",
        "relation",
    ),
    Mutant(
        "value",
        "two gaps make an overlap",
        BOXES,
        "intersection = product(shared.clamp(min=0))",
        "intersection = product(shared)",
        "iou",
        "relation",
    ),
]
