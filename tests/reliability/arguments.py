"""Valid arguments, small and always the same: what calls of public functions are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from reliability.call import Call, made
from torch import Tensor

import matchers
from matchers import Assignment, Plan, Targets
from ragged import RaggedBatch

SIZES = [2, 0, 1]
POINTS = matchers.grid_points((16, 16), [4])
PRIORS = torch.cat([POINTS[:, :2] - 4, POINTS[:, :2] + 4], 1)
COUNT = len(POINTS)


def boxes(*shape: int) -> Tensor:
    corner = torch.linspace(0, 7, shape[0] * (shape[1] if len(shape) > 1 else 1)).reshape(*shape, 1)
    return torch.cat([corner, corner + 1, corner + 5, corner + 8], -1)


def gt() -> RaggedBatch:
    return RaggedBatch(boxes(3, 2), sample_sizes=SIZES)


def labels() -> RaggedBatch:
    return RaggedBatch(torch.tensor([[1, 2], [0, 0], [0, 0]]), sample_sizes=SIZES)


def flags() -> RaggedBatch:
    return RaggedBatch(torch.tensor([[True, False], [False, False], [False, False]]), sample_sizes=SIZES)


def of_targets(**options: Any) -> dict[str, Any]:
    return {"boxes": gt(), "labels": labels(), **options}


def targets() -> Targets:
    return Targets(gt(), labels(), canvas_size=torch.tensor([16.0, 16.0]))


def logits() -> Tensor:
    return torch.linspace(-2, 2, 3 * COUNT * 4).reshape(3, COUNT, 4)


def predictions() -> dict[str, Tensor]:
    return {"pred_logits": logits(), "pred_boxes": boxes(3, COUNT)}


def images() -> list[dict[str, Tensor]]:
    return [{"boxes": boxes(size) if size else torch.zeros(0, 4), "labels": torch.arange(size)} for size in SIZES]


def columns() -> tuple[list[Tensor], list[Tensor]]:
    return [image["boxes"] for image in images()], [image["labels"] for image in images()]


def padded() -> dict[str, Tensor]:
    return {"boxes": boxes(3, 2), "labels": labels().tensor, "mask": labels().mask, "weights": torch.ones(3, 2)}


def assignment() -> Assignment:
    return Assignment.from_index(torch.tensor([[1, -1, 0], [-1, -1, -1], [-2, 0, -1]]), num_targets=torch.tensor(SIZES))


def plan() -> Plan:
    return assignment().plan()


def pair_sizes() -> tuple[RaggedBatch, RaggedBatch]:
    return assignment().pairs()


def meta() -> dict[str, Any]:
    return {
        "dn_num_group": 1,
        "dn_num_split": [4, 5],
        "dn_positive_idx": [torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64), torch.tensor([0])],
    }


def flat() -> Tensor:
    return torch.tensor([[0, 1, 0.5, 0.5, 0.2, 0.2], [2, 2, 0.5, 0.5, 0.4, 0.2]])


def table() -> Tensor:
    return torch.tensor([[[2.0, 0, 0, 4, 4], [-1, 0, 0, 0, 0]]])


def overlap() -> Tensor:
    return matchers.pairwise(matchers.iou, gt().tensor, boxes(3, COUNT))


def posed() -> Tensor:
    """Keypoints (3, 2, K, 3) of targets; not all are visible."""
    return torch.linspace(0, 8, 3 * 2 * 3 * 3).reshape(3, 2, 3, 3) - torch.tensor([0.0, 0.0, 2.0])


def keypoints(*shape: int) -> Tensor:
    """Predicted ones (…, K, 2)."""
    return torch.linspace(0, 7, torch.Size(shape).numel() * 6).reshape(*shape, 3, 2)


def matcher(kind: Any, priors: Tensor | None = None, **init: Any) -> Callable[[], Call]:
    return lambda: made(kind, init, predictions(), targets(), priors)
