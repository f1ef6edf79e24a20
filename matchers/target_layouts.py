"""Readers for the layouts in which datasets and existing systems keep their ground truth.

| layout | reader |
|---|---|
| list of dicts, one per image (torchvision, DETR) | ``targets_from_dicts`` |
| list of boxes and list of labels (YOLOX) | ``targets_from_lists`` |
| flat ``(N, 6)``: image index, label, box (SSD, Ultralytics) | ``targets_from_flat`` |
| padded dict with a mask (uotod) | ``targets_from_padded`` |
| padded ``(B, N, 5)``: label, box; label -1 is filler (YOLOv9) | ``targets_from_padded_tensor`` |

``read_targets`` (also ``Targets.of``) tells them apart. Images are named by their index in every message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.targets import Targets
from ragged import RaggedBatch, combine_data, get_compact_lists, unpack
from ragged.checks import (
    INTEGER_DTYPES,
    check_count,
    check_is_sequence,
    check_is_tensor,
    check_values,
    sample_name,
)

_OPTIONAL = ("weights", "ignore")


def read_targets(source: Any, *, num_classes: int | None = None, **layout: Any) -> Targets:
    """Read ground truth in any layout.

    Args:
        source: ``Targets``; a list of dicts; a pair of lists ``(boxes, labels)``; a flat tensor ``(N, 6)``, with
            ``batch_size=``; a padded dict; a padded tensor ``(B, N, 5)``.
        num_classes: If given, labels are checked against it.
        layout: Arguments of the reader: ``box_format``, ``normalized``, ``canvas_size`` and others.

    Raises:
        TypeError: The layout is not recognised.
        ValueError: As the reader and ``Targets``.

    >>> read_targets(([torch.rand(0, 4)], [torch.zeros(0, dtype=torch.int64)])).num_targets
    tensor([0])
    """
    targets = _read(source, layout)
    if num_classes is not None:
        targets.check_labels(num_classes)
    return targets


def _read(source: Any, layout: dict[str, Any]) -> Targets:
    if isinstance(source, Targets):
        if layout:
            raise TypeError(f"targets that are read already know their layout, got {', '.join(layout)}")
        return source
    if isinstance(source, Mapping):
        return targets_from_padded(source, **layout)
    if isinstance(source, Tensor):
        return (targets_from_flat if source.dim() == 2 else targets_from_padded_tensor)(source, **layout)
    if isinstance(source, Sequence):
        if all(isinstance(item, Mapping) for item in source):
            return targets_from_dicts(source, **layout)
        if len(source) == 2 and all(isinstance(item, Sequence) for item in source):
            return targets_from_lists(*source, **layout)
    raise TypeError(
        "targets must be Targets, a list of dicts, a pair (list of boxes, list of labels), a padded dict, "
        f"or a tensor (N, 6) or (B, N, 5); got {type(source).__name__}"
    )


def targets_from_dicts(samples: Sequence[Mapping[str, Any]], **format_of_boxes: Any) -> Targets:
    """Read one dict per image, as torchvision and DETR have them.

    Args:
        samples: Dicts with ``"boxes"`` (n, 4) and ``"labels"`` (n,); optionally ``"weights"`` (n,) and ``"ignore"`` or
            ``"iscrowd"`` (n,), in all of them or in none. Other keys are left alone.
        format_of_boxes: ``box_format`` (default ``"xyxy"``), ``normalized`` (default False), ``canvas_size``.

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
    names = {"boxes": "boxes", "labels": "labels", "weights": "weights", "ignore": "ignore", "iscrowd": "ignore"}
    columns: dict[str, list[Any]] = {}
    for key, field in names.items():
        present = [key in sample for sample in samples]
        if any(present) or key in ("boxes", "labels"):
            if not all(present):
                index = present.index(False)
                raise ValueError(f"the targets of sample {index} have no {key!r}, but {list(samples[index])}")
            flags = [sample[key] for sample in samples]
            if field in columns:  # both flags are given
                flags = [_either(one, other) for one, other in zip(columns[field], flags, strict=True)]
            columns[field] = flags
    return targets_from_lists(columns.pop("boxes"), columns.pop("labels"), **columns, **format_of_boxes)


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
    given = {
        name: [_as_tensor(item, name) for item in column] for name, column in columns.items() if column is not None
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
        dtype = {"labels": torch.int64, "ignore": torch.bool}.get(name)
        column = column if dtype is None else [item.to(dtype) for item in column]
        combined[name] = combine_data(column, other_with_same_sample_sizes=combined["boxes"])
    return Targets(**combined, **format_of_boxes)


def targets_from_flat(
    rows: Tensor,
    *,
    batch_size: int,
    box_format: str = "cxcywh",
    normalized: bool = True,
    canvas_size: Any = None,
    max_num_targets: int | None = None,
) -> Targets:
    """Read rows ``(image index, label, box)``, as SSD and Ultralytics have them, in any order of images.

    Args:
        rows: ``(N, 6)``, floating. The order of an image's rows is kept.
        batch_size: Number of images; one without rows has no targets.
        box_format: Format of the last four columns.
        normalized: Whether they are fractions of the image.
        canvas_size: As in ``Targets``.
        max_num_targets: G. Without it the largest count is read, which synchronises on an accelerator.

    Raises:
        ValueError: An image index or a label is no whole number, or an index is not below ``batch_size``.

    >>> targets_from_flat(torch.tensor([[1.0, 7.0, 0.5, 0.5, 0.2, 0.2]]), batch_size=2).num_targets
    tensor([0, 1])
    """
    check_is_tensor(rows, "targets")
    check_count(batch_size, "batch_size")
    if rows.dim() != 2 or rows.shape[-1] != 6:
        raise ValueError(f"flat targets must have shape (N, 6): image index, label, box; got {tuple(rows.shape)}")
    if not rows.is_floating_point():
        raise TypeError(f"flat targets must be floating, got {rows.dtype}")
    image, label = rows[:, 0], rows[:, 1]
    check_values(
        (image >= 0) & (image < batch_size) & (image == image.floor()),
        lambda at: f"row {at[0]} names image {image[at].item():g}, expected a whole number from 0 to {batch_size - 1}",
        summary="flat targets: an image index is out of range",
    )
    check_values(
        label == label.floor(),
        lambda at: f"row {at[0]}, of sample {int(image[at])}, has the label {label[at].item():g}: not a whole number",
        summary="flat targets: a label is not a whole number",
    )
    order = image.argsort(stable=True)
    # No bincount: it has a data-dependent shape as far as torch knows.
    sizes = torch.zeros(batch_size, dtype=torch.int64, device=rows.device)
    sizes = sizes.index_add(0, image.long(), torch.ones_like(image, dtype=torch.int64))
    table = unpack(rows[order, 1:], sizes, max_size=max_num_targets)
    labels = table.create_with_sample_sizes_like_self(table.with_padded_set_to(0).tensor[..., 0].long())
    return Targets(_boxes_of(table), labels, None, None, box_format, normalized, canvas_size)


def targets_from_padded(padded: Mapping[str, Any], **format_of_boxes: Any) -> Targets:
    """Read padded tensors with a mask, as uotod has them; ragged batches are taken as they are.

    Args:
        padded: ``"boxes"`` ``(*batch, G, 4)``, ``"labels"`` ``(*batch, G)``, integers or one-hot ``(*batch, G, C)``,
            ``"mask"`` ``(*batch, G)``, and optionally ``"weights"`` and ``"ignore"``. Valid entries may stand anywhere
            in the mask. Without a mask all targets are valid.
        format_of_boxes: ``box_format`` (default ``"xyxy"``), ``normalized`` (default False), ``canvas_size``.

    >>> mask = torch.tensor([[False, True]])
    >>> padded = {"boxes": torch.zeros(1, 2, 4), "labels": torch.tensor([[5, 6]]), "mask": mask}
    >>> targets_from_padded(padded).labels.split()
    [tensor([6])]
    """
    if not isinstance(padded, Mapping):
        raise TypeError(f"padded targets must be a dict, got {type(padded).__name__}")
    missing = [key for key in ("boxes", "labels") if padded.get(key) is None]
    if missing:
        raise ValueError(f"padded targets need {missing[0]!r}, got {list(padded)}")
    fields = {key: padded[key] for key in ("boxes", "labels", *_OPTIONAL) if padded.get(key) is not None}
    if all(isinstance(value, RaggedBatch) for value in fields.values()):
        return Targets(**fields, **format_of_boxes)
    for key, value in fields.items():
        check_is_tensor(value, key)
    labels, boxes = fields["labels"], fields["boxes"]
    if labels.dim() == boxes.dim() and labels.shape[:-1] == boxes.shape[:-1]:
        labels = fields["labels"] = _from_one_hot(labels, padded.get("mask"))
    for key, value in fields.items():
        if value.shape[: labels.dim()] != labels.shape:
            raise ValueError(
                f"padded {key} must begin with the shape {tuple(labels.shape)} of labels, got {tuple(value.shape)}"
            )
    mask = padded.get("mask")
    mask = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != labels.shape:
        got = f"{tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must be a boolean tensor {tuple(labels.shape)}, got {got}")
    compact = get_compact_lists(mask, list(fields.values()), max_size=mask.shape[-1])
    return Targets(**dict(zip(fields, compact, strict=True)), **format_of_boxes)


def targets_from_padded_tensor(padded: Tensor, **format_of_boxes: Any) -> Targets:
    """Read ``(*batch, N, 5)``: label and box, where a negative label marks filler, as YOLOv9 has them.

    >>> targets_from_padded_tensor(torch.tensor([[[2.0, 0, 0, 4, 4], [-1, 0, 0, 0, 0]]])).num_targets
    tensor([1])
    """
    check_is_tensor(padded, "targets")
    if padded.dim() < 3 or padded.shape[-1] != 5 or not padded.is_floating_point():
        raise ValueError(
            f"padded targets must be a floating tensor (*batch, N, 5): label, box; got {tuple(padded.shape)}, "
            f"{padded.dtype}"
        )
    label = padded[..., 0]
    check_values(
        (label == label.floor()) & label.isfinite(),
        lambda at: (
            f"the label at position {at[-1]} of {sample_name(at[:-1])} is {label[at].item():g}: not a whole number"
        ),
        summary="padded targets: a label is not a whole number",
    )
    return targets_from_padded(
        {"boxes": padded[..., 1:], "labels": label.long(), "mask": label >= 0},
        **format_of_boxes,
    )


def _either(one: Any, other: Any) -> Tensor:
    return _as_tensor(one, "ignore").bool() | _as_tensor(other, "iscrowd").bool()


def _from_one_hot(labels: Tensor, mask: Any) -> Tensor:
    if labels.shape[-1] == 1:
        return labels.squeeze(-1)
    rows = labels.float()
    ok = ((rows == 1).sum(-1) == 1) & ((rows == 0).sum(-1) == rows.shape[-1] - 1)
    check_values(
        ok if not isinstance(mask, Tensor) or mask.shape != ok.shape else ok | ~mask.bool(),
        lambda at: f"one-hot labels must have a single 1; not so at position {at[-1]} of {sample_name(at[:-1])}",
        summary="one-hot labels must have a single 1",
    )
    return rows.argmax(-1)


def _boxes_of(table: RaggedBatch) -> RaggedBatch:
    return table.create_with_sample_sizes_like_self(table.tensor[..., 1:])


def _as_tensor(item: Any, name: str) -> Tensor:
    try:
        tensor = torch.as_tensor(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} of a sample must be a tensor, an array or a list of numbers: {error}") from None
    if tensor.numel() == 0 and not isinstance(item, Tensor):  # an empty list has no number to tell its dtype by
        tensor = tensor.to(torch.int64 if name == "labels" else torch.float32)
    return tensor


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
    if item.dim() > 1 or item.numel() != count:
        raise ValueError(f"sample {index} has {count} boxes, but {name} of shape {tuple(item.shape)}")
    if item.device != first.device:
        raise ValueError(f"{name} of sample {index} are on {item.device}, boxes on {first.device}")
    if name == "labels" and item.dtype not in INTEGER_DTYPES:
        raise TypeError(f"labels of sample {index} must be integers, got {item.dtype}")
