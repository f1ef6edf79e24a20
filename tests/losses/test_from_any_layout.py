"""From ground truth on a device, in any layout, to gradients: nothing waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION
from effort import mostly_thorough
from torch import Tensor
from torch.func import functional_call
from torch.utils import _pytree as pytree

from losses.testing import CriterionCase
from matchers import Targets
from matchers.testing import CANVAS
from ragged.testing import HostSyncError, assert_no_host_sync

SIZES = [3, 0, 1]
ROWS: dict[str, Any] = {"batch_size": len(SIZES), "max_num_targets": 4}


def lists(targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
    dicts = targets.to_dicts()
    return [each["boxes"] for each in dicts], [each["labels"] for each in dicts]


def dicts_with_flags(targets: Targets) -> list[dict[str, Tensor]]:
    return [
        {**each, "weights": torch.ones(len(each["labels"])), "iscrowd": torch.zeros_like(each["labels"])}
        for each in targets.to_dicts()
    ]


def rows(targets: Targets) -> Tensor:
    """(N, 6): image, label, box."""
    index = torch.arange(len(SIZES)).repeat_interleave(targets.num_targets)
    boxes, labels = (torch.cat(parts) for parts in lists(targets))
    return torch.cat([index.unsqueeze(-1), labels.unsqueeze(-1), boxes], -1)


def padded(targets: Targets) -> dict[str, Tensor]:
    return {"boxes": targets.boxes.tensor, "labels": targets.labels.tensor, "mask": targets.mask}


def padded_tensor(targets: Targets) -> Tensor:
    """(B, N, 5): label, box."""
    label = targets.labels.with_padded_set_to(-1).tensor.unsqueeze(-1)
    return torch.cat([label, targets.boxes.with_padded_set_to(0).tensor], -1)


def ultralytics(targets: Targets) -> dict[str, Tensor]:
    boxes = targets.boxes.create_with_sample_sizes_like_self(targets.boxes_as("cxcywh", normalized=True))
    own = rows(Targets(boxes, targets.labels, box_format="cxcywh", normalized=True))
    return dict(zip(("batch_idx", "cls", "bboxes"), own.split((1, 1, 4), -1), strict=True))


# What is made of targets, and how it is read; all but the last say their format and unit beside it.
LAYOUTS: dict[str, tuple[Callable[[Targets], Any], dict[str, Any]]] = {
    "dicts": (dicts_with_flags, {}),
    "lists": (lists, {}),
    "padded": (padded, {}),
    "padded tensor": (padded_tensor, {}),
    "flat": (rows, ROWS),
    "Ultralytics": (ultralytics, ROWS),
}
# COCO's annotations are numbers of the host: see tests/matchers/test_targets_on_device.py.
OF_BOXES = [
    name for name, case in EVERY_CRITERION.items() if case.make_targets is None and not case.targets(SIZES).is_multi_hot
]
USUAL = [(name, "dicts") for name in OF_BOXES] + [("yolox", layout) for layout in LAYOUTS if layout != "dicts"]
ALL = [(name, layout) for name in OF_BOXES for layout in LAYOUTS]


def prove(case: CriterionCase, predictions: Any, source: Any, **layout: Any) -> None:
    criterion = case.make()
    state = {**dict(criterion.named_parameters()), **dict(criterion.named_buffers())}

    def step(state: dict[str, Tensor], predictions: Any, source: Any) -> list[Any]:
        targets = Targets.of(source, canvas_size=(CANVAS, CANVAS), **layout)
        return pytree.tree_leaves(functional_call(criterion, state, (predictions, targets)))

    assert_no_host_sync(step, state, case.cast(predictions, torch.float32), source)


@pytest.mark.parametrize(("name", "layout"), mostly_thorough(ALL, usual=USUAL))
def test_nothing_waits(name: str, layout: str) -> None:
    case = EVERY_CRITERION[name]
    targets = case.targets(SIZES)
    make, options = LAYOUTS[layout]
    if layout != "Ultralytics":
        options = options | {"box_format": case.box_format, "normalized": case.normalized}
    prove(case, case.predictions(SIZES), make(targets), **options)


def test_nothing_waits_for_lists_of_denoising_queries() -> None:
    case = EVERY_CRITERION["dfine"]
    targets, predictions = case.targets(SIZES), case.predictions(SIZES)
    meta = predictions["dn_meta"]
    half = meta["dn_num_split"][0] // meta["dn_num_group"]  # positives and negatives of a group
    positive = [
        (torch.arange(meta["dn_num_group"]).unsqueeze(-1) * half + torch.arange(size)).flatten() for size in SIZES
    ]
    listed = predictions | {"dn_meta": meta | {"dn_positive_idx": positive}}
    prove(case, listed, targets.to_dicts(), box_format=case.box_format, normalized=case.normalized)


def test_a_size_that_is_not_given_has_to_be_read() -> None:
    case = EVERY_CRITERION["yolox"]
    with pytest.raises(HostSyncError):
        prove(case, case.predictions(SIZES), rows(case.targets(SIZES)), batch_size=len(SIZES), box_format="xyxy")
