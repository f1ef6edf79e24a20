"""Readers of targets, each in the layout that it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import matchers
from ragged import RaggedBatch
from registry.entries import CLASSES, NO_SAMPLE, ON_THE_HOST, Elsewhere, Operation, boxes, corners, integers, labels


def read(source: matchers.Targets) -> tuple[Any, ...]:
    return source.boxes, source.labels


def one_by_one(own: RaggedBatch, names: RaggedBatch) -> list[dict[str, Tensor]]:
    return [{"boxes": box, "labels": label} for box, label in zip(own.split(), names.split(), strict=True)]


def with_label(own: RaggedBatch, names: RaggedBatch) -> Tensor:
    """(B, N, 5), label -1 as filler."""
    label = names.with_padded_set_to(-1).tensor.unsqueeze(-1).to(own.dtype)
    return torch.cat([label, own.with_padded_set_to(0).tensor], -1)


def flat_rows(own: Tensor, names: Tensor) -> Tensor:
    """(N, 6), all images have as many."""
    image = torch.arange(own.shape[0], device=own.device, dtype=own.dtype).view(-1, 1, 1).expand(*own.shape[:2], 1)
    return torch.cat([image, names.unsqueeze(-1).to(own.dtype), own], -1).flatten(0, 1)


def reader(function: Callable[..., Any], **options: Any) -> Operation:
    return Operation(
        lambda own, names: read(function(own, names)),
        lambda: (boxes(), labels(CLASSES)),
        reference=lambda own, names: (own, names),
        **options,
    )


PACKAGE = "matchers"
ENTRIES: dict[str, Operation | Elsewhere] = {
    "read_targets": reader(lambda own, names: matchers.read_targets(with_label(own, names), num_classes=CLASSES)),
    "targets_from_padded_tensor": reader(
        lambda own, names: matchers.targets_from_padded_tensor(with_label(own, names))
    ),
    "targets_from_padded": reader(
        lambda own, names: matchers.targets_from_padded(
            {
                "boxes": own.with_padded_set_to(0).tensor,
                "labels": names.with_padded_set_to(0).tensor,
                "mask": own.mask,
            }
        )
    ),
    "targets_from_flat": Operation(
        lambda own, names: read(
            matchers.targets_from_flat(
                flat_rows(own, names),
                batch_size=own.shape[0],
                box_format="xyxy",
                normalized=False,
                max_num_targets=own.shape[1],
            )
        ),
        lambda: (corners(3, 2), integers(CLASSES, 3, 2)),
        reference=lambda own, names: (own, names),
    ),
    "targets_from_ultralytics": Operation(
        lambda own, names: read(
            matchers.targets_from_ultralytics(
                dict(zip(("batch_idx", "cls", "bboxes"), flat_rows(own / 64, names).split((1, 1, 4), -1), strict=True)),
                batch_size=own.shape[0],
                max_num_targets=own.shape[1],
            )
        ),
        lambda: (corners(3, 2), integers(CLASSES, 3, 2)),
        reference=lambda own, names: (own / 64, names),
    ),
    "targets_from_coco": Elsewhere("tests/matchers/test_dataset_layouts.py", "reads dicts of numbers, no tensors"),
    "targets_from_dicts": reader(
        lambda own, names: matchers.targets_from_dicts(one_by_one(own, names)), without={**ON_THE_HOST, **NO_SAMPLE}
    ),
    "targets_from_lists": reader(
        lambda own, names: matchers.targets_from_lists(own.split(), names.split()),
        without={**ON_THE_HOST, **NO_SAMPLE},
    ),
}
