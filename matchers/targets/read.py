"""Readers for the layouts in which datasets and existing systems keep their ground truth.

| layout | reader |
|---|---|
| list of dicts, one per image (torchvision, DETR) | ``targets_from_dicts`` |
| list of boxes and list of labels (YOLOX) | ``targets_from_lists`` |
| flat ``(N, 6)``: image index, label, box (SSD, Ultralytics) | ``targets_from_flat`` |
| padded dict with a mask (uotod) | ``targets_from_padded`` |
| padded ``(B, N, 5)``: label, box; label -1 is filler (YOLOv9) | ``targets_from_padded_tensor`` |
| list of lists of annotations (COCO) | ``targets_from_coco`` |
| dict with ``batch_idx``, ``cls`` and ``bboxes`` (Ultralytics) | ``targets_from_ultralytics`` |

``read_targets`` (also ``Targets.of``) tells them apart. Images are named by their index in every message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.described_boxes import read_description
from matchers.targets.flat import targets_from_flat
from matchers.targets.targets import Targets
from matchers.targets.values import as_tensor, exact_integers, flags_of
from ragged import RaggedBatch, combine_data, get_compact_lists
from ragged.values.checks import (
    STORED_INTEGER_DTYPES,
    check_is_sequence,
    check_is_tensor,
    check_values,
    sample_name,
)

_OPTIONAL = ("weights", "ignore")
_FORMAT = ("box_format", "normalized", "canvas_size")


def read_targets(source: Any, *, num_classes: int | None = None, **layout: Any) -> Targets:
    """Read ground truth in any layout.

    Args:
        source: ``Targets``; a list of dicts; a pair of lists ``(boxes, labels)``; a flat tensor ``(N, 6)``, with
            ``batch_size=``; a padded dict; a padded tensor ``(B, N, 5)``; lists of COCO annotations; a batch of
            Ultralytics.
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
    reader, options = _reader_of(source)
    unknown = [name for name in layout if name not in options]
    if unknown:
        raise TypeError(f"{reader.__name__} has no option {unknown[0]!r}, but {', '.join(options)}")
    if reader is targets_from_lists:
        return targets_from_lists(*source, **layout)
    if reader is targets_from_flat and "batch_size" not in layout:
        raise TypeError("flat targets (N, 6) do not say how many images there are: give batch_size=")
    return reader(source, **layout)


def _reader_of(source: Any) -> tuple[Callable[..., Targets], tuple[str, ...]]:
    """The reader of a layout, and its options."""
    from matchers.targets import coco  # which needs the readers of this module

    if isinstance(source, Mapping):
        if all(key in source for key in ("batch_idx", "cls", "bboxes")):
            return coco.targets_from_ultralytics, ("batch_size", "canvas_size", "max_num_targets")
        return targets_from_padded, _FORMAT
    if isinstance(source, Tensor):
        if source.dim() == 2:
            return targets_from_flat, (*_FORMAT, "batch_size", "max_num_targets")
        return targets_from_padded_tensor, _FORMAT
    if isinstance(source, Sequence) and not isinstance(source, str):
        if any(isinstance(item, Mapping) for item in source):
            if any(isinstance(item, Mapping) and "annotations" in item for item in source):
                return coco.targets_from_coco, ("label_of", "canvas_size")
            return targets_from_dicts, _FORMAT
        if not source:
            return targets_from_dicts, _FORMAT
        if all(isinstance(item, Sequence) and all(isinstance(each, Mapping) for each in item) for item in source):
            return coco.targets_from_coco, ("label_of", "canvas_size")
        if len(source) == 2 and all(isinstance(item, Sequence) for item in source):
            return targets_from_lists, (*_FORMAT, *_OPTIONAL)
    raise TypeError(
        "targets must be Targets, a list of dicts, a pair (list of boxes, list of labels), a padded dict, "
        f"or a tensor (N, 6) or (B, N, 5); got {type(source).__name__}"
    )


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


def targets_from_padded(padded: Mapping[str, Any], **format_of_boxes: Any) -> Targets:
    """Read padded tensors with a mask, as uotod has them; ragged batches are taken as they are.

    Args:
        padded: ``"boxes"`` ``(*batch, G, 4)``, ``"labels"`` ``(*batch, G)``, integers or one-hot ``(*batch, G, C)``,
            ``"mask"`` ``(*batch, G)``, and optionally ``"weights"`` and ``"ignore"`` or ``"iscrowd"``. Valid entries
            may stand anywhere in the mask. Without a mask all targets are valid.
        format_of_boxes: ``box_format`` (default ``"xyxy"``), ``normalized`` (default False), ``canvas_size``.

    >>> mask = torch.tensor([[False, True]])
    >>> padded = {"boxes": torch.zeros(1, 2, 4), "labels": torch.tensor([[5, 6]]), "mask": mask}
    >>> targets_from_padded(padded).labels.split()
    [tensor([6])]
    """
    if not isinstance(padded, Mapping):
        raise TypeError(f"padded targets must be a dict, got {type(padded).__name__}")
    known_keys.PADDED_TARGETS.check(padded, "the dict of padded targets")
    missing = [key for key in ("boxes", "labels") if padded.get(key) is None]
    if missing:
        raise ValueError(f"padded targets need {missing[0]!r}, got {list(padded)}")
    fields = {key: padded[key] for key in ("boxes", "labels", *_OPTIONAL) if padded.get(key) is not None}
    fields = _with_flags(fields, padded)
    if all(isinstance(value, RaggedBatch) for value in fields.values()):
        if padded.get("mask") is not None:
            raise ValueError("ragged batches know which entries are targets: leave 'mask' out")
        return Targets(**fields, **format_of_boxes)
    for key, value in fields.items():
        check_is_tensor(value, f"padded {key}")
    labels, boxes = fields["labels"], fields["boxes"]
    if labels.dtype in STORED_INTEGER_DTYPES:
        labels = fields["labels"] = labels.to(torch.int64)
    if labels.dim() == boxes.dim() and labels.shape[:-1] == boxes.shape[:-1]:
        labels = fields["labels"] = _from_one_hot(labels, padded.get("mask"))
    for key, value in fields.items():
        if value.shape[: labels.dim()] != labels.shape:
            raise ValueError(
                f"padded {key} must begin with the shape {tuple(labels.shape)} of labels, got {tuple(value.shape)}"
            )
    _check_is_batch(labels)
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
        {"boxes": padded[..., 1:], "labels": exact_integers(label, "label"), "mask": label >= 0},
        **format_of_boxes,
    )


def _either(one: Any, other: Any, index: int) -> Tensor:
    flags = {"ignore": one, "iscrowd": other}
    ignore, crowd = (flags_of(as_tensor(value, name, index), name) for name, value in flags.items())
    return ignore | crowd


def _with_flags(fields: dict[str, Any], padded: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with one flag as booleans, of which a dataset may have two; those of filler may be anything."""
    mask: Any = padded.get("mask")
    found: Any = None
    for name in ("ignore", "iscrowd"):
        flags = padded.get(name)
        if flags is None:
            continue
        own: Any
        if isinstance(flags, RaggedBatch):
            own = flags.create_with_sample_sizes_like_self(flags_of(flags.with_padded_set_to(0).tensor, name))
        else:
            check_is_tensor(flags, f"padded {name}")
            known = isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == flags.shape
            own = flags_of(flags, f"padded {name}", counts=mask if known else None)
        found = own if found is None else found | own
    return fields if found is None else {**fields, "ignore": found}


def _check_is_batch(labels: Tensor) -> None:
    if labels.dim() < 2:
        raise ValueError(
            f"padded targets need a batch dimension, got labels of shape {tuple(labels.shape)}; "
            "the targets of one image are a list of one dict: [targets]"
        )


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
