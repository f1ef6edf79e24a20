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
from matchers.targets.values import as_tensor, checked_names, flags_of
from ragged.ops.combine import combine_columns
from ragged.values.checks import STORED_INTEGER_DTYPES, check_is_sequence, is_sequence


def _has_dicts(source: Any) -> bool:
    return is_sequence(source) and (not source or any(isinstance(item, Mapping) for item in source))


@reads(_has_dicts, *OF_BOXES, "fields", general=True)
def targets_from_dicts(
    samples: Sequence[Mapping[str, Any]], *, fields: Sequence[str] = (), **format_of_boxes: Any
) -> Targets:
    """Read one dict per image, as torchvision, DETR and transformers have them.

    Args:
        samples: Dicts with ``"boxes"`` (n, 4) and ``"labels"`` or ``"class_labels"``, integers (n,) or multi-hot
            (n, C), bool or floating, with the same C in every dict; optionally ``"weights"`` (n,) and ``"ignore"``
            or ``"iscrowd"`` (n,), True or 1 and False or 0, in all of them or in none. What is said of images, such as
            ``"image_id"`` and ``"orig_size"``, is left alone.
        fields: Other keys to keep, such as ``("keypoints", "track_id")``: each (n, …), of any dtype. With fields, boxes
            and labels may be left out.
        format_of_boxes: ``box_format`` (default ``"xyxy"``), ``normalized`` (default False), ``canvas_size``.
            torchvision's ``BoundingBoxes`` carry them; leave them out then.

    Raises:
        KeyError: A dict has a key that nobody reads, such as ``"weight"``, or ``"keypoints"`` if it is no field.
        TypeError, ValueError: As ``Targets``; something is missing, or is of the wrong kind. The message names the
            sample.

    >>> target = {"boxes": torch.tensor([[0.5, 0.5, 0.2, 0.1]]), "labels": torch.tensor([3])}
    >>> targets_from_dicts([target], box_format="cxcywh", normalized=True).labels.tensor
    tensor([[3]])
    """
    check_is_sequence(samples, "targets", "dicts, one for each image")
    if not samples:
        raise ValueError("targets need at least one image, got an empty list")
    fields = checked_names(fields)
    known = known_keys.TARGETS.and_read(*fields)
    for index, sample in enumerate(samples):
        if not isinstance(sample, Mapping):
            raise TypeError(f"the targets of sample {index} must be a dict, got {type(sample).__name__}")
        known.check(sample, f"the targets of sample {index}")
    samples = [
        known_keys.by_own_names(sample, known_keys.SAME_OF_TARGETS, f"the targets of sample {index}", fields)
        for index, sample in enumerate(samples)
    ]
    names = {"boxes": "boxes", "labels": "labels", "weights": "weights", "ignore": "ignore", "iscrowd": "ignore"}
    needed = fields or ("boxes", "labels")
    columns: dict[str, Any] = {"boxes": None, "labels": None}
    for key, field in (names | {name: name for name in fields}).items():
        present = [sample.get(key) is not None for sample in samples]
        if any(present) or key in needed:
            if not all(present):
                index = present.index(False)
                raise ValueError(
                    f"the targets of sample {index} have no {key!r}, but {list(samples[index])}; every sample needs it"
                )
            values = [sample[key] for sample in samples]
            if columns.get(field) is not None:  # both flags are given
                pairs = zip(columns[field], values, strict=True)
                values = [_either(one, other, index) for index, (one, other) in enumerate(pairs)]
            columns[field] = values
    own = {name: columns.pop(name) for name in fields}
    return targets_from_lists(**columns, fields=own, **format_of_boxes)


def _is_pair(source: Any) -> bool:
    return is_sequence(source) and len(source) == 2 and all(isinstance(item, Sequence) for item in source)


@reads(_is_pair, *OF_BOXES, "weights", "ignore", "fields", in_parts=True, general=True)
def targets_from_lists(
    boxes: Sequence[Any] | None,
    labels: Sequence[Any] | None,
    *,
    weights: Sequence[Any] | None = None,
    ignore: Sequence[Any] | None = None,
    fields: Mapping[str, Sequence[Any]] | None = None,
    **format_of_boxes: Any,
) -> Targets:
    """Read a list of boxes (n, 4) and a list of labels, and optional lists of weights, ignore flags and fields.

    Labels are integers (n,), or multi-hot (n, C), bool or floating.

    With ``fields``, lists of tensors (n, …) by name, boxes and labels may be None.

    >>> targets_from_lists([torch.rand(0, 4)], [torch.zeros(0, dtype=torch.int64)]).boxes.shape
    torch.Size([1, 0, 4])
    """
    fields = {} if fields is None else fields
    columns = {"boxes": boxes, "labels": labels, "weights": weights, "ignore": ignore, **fields}
    for name, column in columns.items():
        if column is not None or (name in ("boxes", "labels") and not fields):
            check_is_sequence(column, name, "tensors, one for each image")
    if boxes is not None:
        columns["boxes"], format_of_boxes = read_description(boxes, format_of_boxes)
    given = {
        name: [as_tensor(item, name, index) for index, item in enumerate(column)]
        for name, column in columns.items()
        if column is not None
    }
    if boxes is not None:
        # An empty array need not know that the others are in another precision.
        dtype = next((box.dtype for box in given["boxes"] if box.numel()), None)
        given["boxes"] = [box.to(dtype) if dtype and not box.numel() else box for box in given["boxes"]]
        _check_boxes(given["boxes"])
    first, of_any_shape = next(iter(given)), set(fields)
    if any(_is_multi_hot(item) for item in given.get("labels", ())):
        of_any_shape.add("labels")
        _check_multi_hot(given["labels"])
    counts = [
        item.numel() // 4 if first == "boxes" else _count(item, first, at) for at, item in enumerate(given[first])
    ]
    converted: dict[str, list[Tensor]] = {}
    for name, column in given.items():
        if len(column) != len(counts):
            raise ValueError(f"{first} are given for {len(counts)} images, {name} for {len(column)}")
        if name != "boxes":
            for index, (count, item) in enumerate(zip(counts, column, strict=True)):
                _check_sample(item, name, index, count, first, given[first][0].device, is_field=name in of_any_shape)
        converted[name] = _converted(name, column, counts, is_field=name in of_any_shape)
    combined: dict[str, Any] = dict(combine_columns(converted))
    own = {name: combined.pop(name) for name in fields}
    return Targets(**combined, fields=own, **format_of_boxes).knowing(counts)


def _converted(name: str, column: list[Tensor], counts: list[int], *, is_field: bool) -> list[Tensor]:
    if is_field:
        # An empty list says nothing of shape and dtype.
        like = max(zip(counts, column, strict=True), key=lambda pair: (pair[0] > 0, pair[1].dim()))[1]
        return [
            item if count else like.new_zeros(0, *like.shape[1:]) for item, count in zip(column, counts, strict=True)
        ]
    if name == "boxes":
        return [item.reshape(-1, 4) for item in column]
    if name == "labels":
        return [item.to(torch.int64) for item in column]
    if name == "ignore":
        return [flags_of(item, f"ignore of sample {index}") for index, item in enumerate(column)]
    return column


def _either(one: Any, other: Any, index: int) -> Tensor:
    flags = {"ignore": one, "iscrowd": other}
    ignore, crowd = (flags_of(as_tensor(value, name, index), name) for name, value in flags.items())
    return ignore | crowd


def _check_boxes(boxes: list[Tensor]) -> None:
    for index, item in enumerate(boxes):
        if item.numel() and (item.dim() != 2 or item.shape[-1] != 4):
            raise ValueError(f"boxes of sample {index} must have shape (n, 4), got {tuple(item.shape)}")
        if not item.is_floating_point():
            raise TypeError(f"boxes of sample {index} must have a floating dtype, got {item.dtype}; use .float()")
        if item.dtype != boxes[0].dtype or item.device != boxes[0].device:
            raise ValueError(
                f"boxes of sample {index} are {item.dtype} on {item.device}, "
                f"those of sample 0 are {boxes[0].dtype} on {boxes[0].device}"
            )


def _count(item: Tensor, name: str, index: int) -> int:
    if name == "boxes":
        return item.numel() // 4
    if not item.dim():
        raise ValueError(f"{name} of sample {index} must have shape (n, …), got a number")
    return item.shape[0]


def _check_sample(
    item: Tensor, name: str, index: int, count: int, first: str, device: torch.device, *, is_field: bool
) -> None:
    own = _count(item, name, index) if is_field else item.numel()
    if own != count or (count and not is_field and item.dim() != 1):
        wanted = f"({count}, …)" if is_field else f"({count},)"
        raise ValueError(f"sample {index} has {count} {first}, but {name} of shape {tuple(item.shape)}, not {wanted}")
    if item.device != device:
        raise ValueError(f"{name} of sample {index} are on {item.device}, {first} on {device}")
    if name == "labels" and not is_field and item.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(
            f"labels of sample {index} must be integers, got {item.dtype}; use .long(), or multi-hot labels (n, C)"
        )


def _is_multi_hot(item: Tensor) -> bool:
    return item.dim() == 2 and (item.dtype == torch.bool or item.is_floating_point())


def _check_multi_hot(labels: list[Tensor]) -> None:
    """Raise unless labels are (n, C) of one dtype and one number of classes; those of no target may be (0,)."""
    known, like = next((at, item) for at, item in enumerate(labels) if _is_multi_hot(item))
    for index, item in enumerate(labels):
        if item.numel() == 0 and item.dim() == 1:
            continue
        if not _is_multi_hot(item) or (item.dtype, item.shape[1]) != (like.dtype, like.shape[1]):
            raise ValueError(
                f"labels of sample {known} are multi-hot {tuple(like.shape)}, {like.dtype}, those of sample {index} "
                f"are {tuple(item.shape)}, {item.dtype}; all need one dtype and as many classes: pad positive maps of "
                "captions with False to the longest"
            )
