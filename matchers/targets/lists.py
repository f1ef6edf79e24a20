"""Readers for one dict or one pair of tensors per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.described_boxes import read_description
from matchers.targets.layouts import OF_BOXES, reads
from matchers.targets.targets import Targets
from matchers.targets.values import as_tensor, flags_of
from ragged import combine_data
from ragged.values.checks import STORED_INTEGER_DTYPES, check_is_sequence, is_sequence


def _has_dicts(source: Any) -> bool:
    return is_sequence(source) and (not source or any(isinstance(item, Mapping) for item in source))


@reads(_has_dicts, *OF_BOXES, general=True)
def targets_from_dicts(samples: Sequence[Mapping[str, Any]], **format_of_boxes: Any) -> Targets:
    """Read one dict per image, as torchvision and DETR have them.

    Args:
        samples: Dicts with ``"boxes"`` (n, 4) and ``"labels"`` (n,); optionally ``"weights"`` (n,) and ``"ignore"`` or
            ``"iscrowd"`` (n,), True or 1 and False or 0, in all of them or in none. What is said of images, such as
            ``"image_id"`` and ``"orig_size"``, is left alone.
        format_of_boxes: ``box_format`` (default ``"xyxy"``), ``normalized`` (default False), ``canvas_size``. Boxes
            that have a ``format`` and a ``canvas_size`` themselves, as torchvision's, say so without it.

    Raises:
        KeyError: A dict has a key that nobody reads, such as ``"keypoints"`` or ``"weight"``.
        TypeError, ValueError: As ``Targets``; something is missing, or is of the wrong kind. The message names the
            sample.

    >>> target = {"boxes": torch.tensor([[0.5, 0.5, 0.2, 0.1]]), "labels": torch.tensor([3])}
    >>> targets_from_dicts([target], box_format="cxcywh", normalized=True).labels.tensor
    tensor([[3]])
    """
    check_is_sequence(samples, "targets", "dicts, one for each image")
    if not samples:
        raise ValueError("targets need at least one image, got an empty list")
    for index, sample in enumerate(samples):
        if not isinstance(sample, Mapping):
            raise TypeError(f"the targets of sample {index} must be a dict, got {type(sample).__name__}")
        known_keys.TARGETS.check(sample, f"the targets of sample {index}")
    names = {"boxes": "boxes", "labels": "labels", "weights": "weights", "ignore": "ignore", "iscrowd": "ignore"}
    columns: dict[str, list[Any]] = {}
    for key, field in names.items():
        present = [sample.get(key) is not None for sample in samples]
        if any(present) or key in ("boxes", "labels"):
            if not all(present):
                index = present.index(False)
                raise ValueError(
                    f"the targets of sample {index} have no {key!r}, but {list(samples[index])}; every sample needs it"
                )
            values = [sample[key] for sample in samples]
            if field in columns:  # both flags are given
                pairs = zip(columns[field], values, strict=True)
                values = [_either(one, other, index) for index, (one, other) in enumerate(pairs)]
            columns[field] = values
    return targets_from_lists(columns.pop("boxes"), columns.pop("labels"), **columns, **format_of_boxes)


def _is_pair(source: Any) -> bool:
    return is_sequence(source) and len(source) == 2 and all(isinstance(item, Sequence) for item in source)


@reads(_is_pair, *OF_BOXES, "weights", "ignore", in_parts=True, general=True)
def targets_from_lists(
    boxes: Sequence[Any],
    labels: Sequence[Any],
    *,
    weights: Sequence[Any] | None = None,
    ignore: Sequence[Any] | None = None,
    **format_of_boxes: Any,
) -> Targets:
    """Read a list of boxes (n, 4) and a list of labels (n,), and optional lists of weights and ignore flags.

    >>> targets_from_lists([torch.rand(0, 4)], [torch.zeros(0, dtype=torch.int64)]).boxes.shape
    torch.Size([1, 0, 4])
    """
    columns = {"boxes": boxes, "labels": labels, "weights": weights, "ignore": ignore}
    for name, column in columns.items():
        if column is not None or name in ("boxes", "labels"):
            check_is_sequence(column, name, "tensors, one for each image")
    columns["boxes"], format_of_boxes = read_description(boxes, format_of_boxes)
    given = {
        name: [as_tensor(item, name, index) for index, item in enumerate(column)]
        for name, column in columns.items()
        if column is not None
    }
    # An empty array need not know that the others are in another precision.
    dtype = next((box.dtype for box in given["boxes"] if box.numel()), None)
    given["boxes"] = [box.to(dtype) if dtype and not box.numel() else box for box in given["boxes"]]
    for name, column in given.items():
        if len(column) != len(boxes):
            raise ValueError(f"boxes are given for {len(boxes)} images, {name} for {len(column)}")
        for index, (box, item) in enumerate(zip(given["boxes"], column, strict=True)):
            _check_sample(box, item, name, index, given["boxes"][0])
    combined: dict[str, Any] = {"boxes": combine_data([box.reshape(-1, 4) for box in given.pop("boxes")])}
    for name, column in given.items():
        if name == "labels":
            column = [item.to(torch.int64) for item in column]
        elif name == "ignore":
            column = [flags_of(item, f"ignore of sample {index}") for index, item in enumerate(column)]
        combined[name] = combine_data(column, other_with_same_sample_sizes=combined["boxes"])
    return Targets(**combined, **format_of_boxes)


def _either(one: Any, other: Any, index: int) -> Tensor:
    flags = {"ignore": one, "iscrowd": other}
    ignore, crowd = (flags_of(as_tensor(value, name, index), name) for name, value in flags.items())
    return ignore | crowd


def _check_sample(boxes: Tensor, item: Tensor, name: str, index: int, first: Tensor) -> None:
    if name == "boxes":
        if item.numel() and (item.dim() != 2 or item.shape[-1] != 4):
            raise ValueError(f"boxes of sample {index} must have shape (n, 4), got {tuple(item.shape)}")
        if not item.is_floating_point():
            raise TypeError(f"boxes of sample {index} must have a floating dtype, got {item.dtype}; use .float()")
        if item.dtype != first.dtype or item.device != first.device:
            raise ValueError(
                f"boxes of sample {index} are {item.dtype} on {item.device}, "
                f"those of sample 0 are {first.dtype} on {first.device}"
            )
        return
    count = boxes.numel() // 4
    if item.numel() != count or (count and item.dim() != 1):
        raise ValueError(f"sample {index} has {count} boxes, but {name} of shape {tuple(item.shape)}, not ({count},)")
    if item.device != first.device:
        raise ValueError(f"{name} of sample {index} are on {item.device}, boxes on {first.device}")
    if name == "labels" and item.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(f"labels of sample {index} must be integers, got {item.dtype}; use .long()")
