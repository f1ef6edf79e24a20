"""The criterion of the second stage of Faster R-CNN."""

from __future__ import annotations

from typing import Any

import torch
from reference.roi_loss import ProposalImage, roi_loss
from torch import Tensor

from cases.common import CLASSES, WITHOUT_GRADIENT, criterion_of, given, whole
from losses import DeltaXYWHCoder, L1Loss, RoICriterion
from losses.testing import CriterionCase, near
from matchers import RandomSampler, Targets
from tests.mutation.planting import Mutant

PROVES = ("RoICriterion",)
COUNT = 20
CODER = DeltaXYWHCoder(stds=(0.1, 0.1, 0.2, 0.2))
EVERY_ONE = RandomSampler(num_samples=2 * COUNT, positive_fraction=1.0)
"""Leaves nothing to chance."""


def predictions(boxes: list[Tensor], seed: int) -> Any:
    """Of each proposal a box for each class, the background included."""
    generator = torch.Generator().manual_seed(seed + 2)
    proposals = near(boxes, COUNT, generator)
    shape = (len(boxes), COUNT)
    return {
        "class_logits": torch.randn(*shape, CLASSES + 1, generator=generator),
        "box_regression": torch.randn(*shape, 4 * (CLASSES + 1), generator=generator) * 3,
        "proposals": proposals,
    }


def make(**options: Any) -> RoICriterion:
    return RoICriterion(CLASSES + 1, **({"bg_class_position": "last", "sampler": EVERY_ONE} | options))


CASE = CriterionCase(make, predictions, constants=WITHOUT_GRADIENT)
CASES = {"roi": CASE}


def images_of(criterion: RoICriterion, predictions: Any, targets: Targets, assignment: Any) -> list[ProposalImage]:
    """Every image, without filler."""
    read = criterion.read(predictions)
    return [
        ProposalImage(
            logits=read.logits[i, :count].double(),
            deltas=read.deltas[i, :count].unflatten(-1, (-1, 4)).double(),
            proposals=read.proposals[i, :count].double(),
            assigned=assignment.target_index[i, :count].tolist(),
            gt=sample["boxes"].double(),
            labels=sample["labels"].tolist(),
            weights=sample["weights"].tolist() if "weights" in sample else [1.0] * len(sample["labels"]),
        )
        for i, (sample, count) in enumerate(zip(targets.to_dicts(), read.mask.sum(-1).tolist(), strict=True))
    ]


def reference(criterion: RoICriterion, predictions: Any, targets: Targets) -> dict[str, Tensor]:
    assignment = criterion.assign(predictions, targets)
    return roi_loss(images_of(criterion, predictions, targets, assignment), background=CLASSES)


TAKES = ("MaxIoU",)
DEFAULT = "MaxIoU"
CALLS = {
    "RoICriterion": whole(
        RoICriterion,
        CASE,
        num_classes=CLASSES + 1,
        bbox_coder=CODER,
        loss_bbox=L1Loss(),
        bg_class_position="last",
        sampler=EVERY_ONE,
    )
}
# fmt: off
BAD_INPUTS = [
    ("RoI with the background alone", lambda: RoICriterion(1), ValueError, "num_classes counts the background, so that it must be 2 at least, got 1"),
    ("RoI without a background", lambda: RoICriterion(3, bg_class_position="none"), ValueError, "bg_class_position must be one of 'first', 'last', got 'none'|bg_class_position must be 'first' or 'last', got 'none'"),
    ("RoI with a label of the background", lambda: make(bg_class_position="first")(given(CASE)[0], [{"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0])}] * 2), ValueError, "label 0 at position 0 of sample 0 is that of the background, the first of 6 classes"),
    ("RoI with boxes of other classes", lambda: criterion_of(CASE)(given(CASE)[0] | {"box_regression": torch.zeros(2, COUNT, 8)}, given(CASE)[1]), ValueError, r"boxes must have 4, 20 or 24 channels, .*got \(2, 20, 8\)"),
    ("RoI without proposals", lambda: criterion_of(CASE)({"class_logits": 1, "box_regression": 1}, given(CASE)[1]), KeyError, "must have 'proposals'"),
    ("proposals of a number", lambda: criterion_of(CASE).sample(3, given(CASE)[1]), TypeError, "proposals must be a RaggedBatch, a tensor .*got int"),
]
# fmt: on
BUGS = [
    Mutant(
        "batch-global",
        "divided by the samples of one image",
        "losses.criteria.two_stage.roi",
        '{"num_samples": assigned.num_counted()}',
        '{"num_samples": assigned.num_counted().amax().expand(rows.shape[0])}',
        "roi",
        "images alone",
    )
]
