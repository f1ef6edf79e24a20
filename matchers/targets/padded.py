"""Readers for padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.layouts import OF_BOXES, reads
from matchers.targets.targets import Targets
from matchers.targets.values import checked_names, exact_integers, flags_of
from ragged import RaggedBatch, get_compact_lists
from ragged.values.checks import STORED_INTEGER_DTYPES, check_flag, check_is_tensor, check_values, sample_name

_OPTIONAL = ("weights", "ignore")


@reads(lambda source: isinstance(source, Mapping), *OF_BOXES, "fields", "multi_hot", general=True)
def targets_from_padded(
    padded: Mapping[str, Any], *, fields: Sequence[str] = (), multi_hot: bool = False, **format_of_boxes: Any
) -> Targets:
    """Read padded tensors with a mask, as in uotod; or ragged batches.

    Args:
        padded: ``"boxes"`` ``(*batch, G, 4)``, ``"labels"`` or ``"class_labels"`` ``(*batch, G)``, integers or one-hot
            ``(*batch, G, C)``, ``"mask"`` ``(*batch, G)``, and optionally ``"weights"`` and ``"ignore"`` or
            ``"iscrowd"``. Valid entries can be anywhere. Without a mask all targets are valid.
        fields: Other keys to keep, such as ``("keypoints", "track_id")``: each ``(*batch, G, …)``, of any dtype. With
            fields, boxes and labels may be left out.
        multi_hot: Whether labels ``(*batch, G, C)``, bool or floating, are multi-hot, not one-hot.
        format_of_boxes: ``box_format`` (default ``"xyxy"``), ``normalized`` (default False), ``canvas_size``.

    >>> mask = torch.tensor([[False, True]])
    >>> padded = {"boxes": torch.zeros(1, 2, 4), "labels": torch.tensor([[5, 6]]), "mask": mask}
    >>> targets_from_padded(padded).labels.split()
    [tensor([6])]
    """
    if not isinstance(padded, Mapping):
        raise TypeError(f"padded targets must be a dict, got {type(padded).__name__}")
    own = checked_names(fields)
    known_keys.PADDED_TARGETS.and_read(*own).check(padded, "the dict of padded targets")
    padded = known_keys.by_own_names(padded, known_keys.SAME_OF_TARGETS, "padded targets", own)
    missing = [key for key in own or ("boxes", "labels") if padded.get(key) is None]
    if missing:
        raise ValueError(f"padded targets need {missing[0]!r}, got {list(padded)}")
    parts = {key: padded[key] for key in ("boxes", "labels", *_OPTIONAL, *own) if padded.get(key) is not None}
    parts = _with_flags(parts, padded)
    if all(isinstance(value, RaggedBatch) for value in parts.values()):
        if padded.get("mask") is not None:
            raise ValueError("ragged batches know which entries are targets: leave 'mask' out")
        return _targets_of(parts, own, format_of_boxes)
    for key, value in parts.items():
        check_is_tensor(value, f"padded {key}")
    mask = padded.get("mask")
    check_flag(multi_hot, "multi_hot")
    shape, name = _shape_of_targets(parts, mask, bool(multi_hot))
    for key, value in parts.items():
        if tuple(value.shape[: len(shape)]) != shape:
            raise ValueError(f"padded {key} must begin with the shape {shape} of {name}, got {tuple(value.shape)}")
    _check_is_batch(shape, name)
    mask = torch.ones(shape, dtype=torch.bool, device=next(iter(parts.values())).device) if mask is None else mask
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != shape:
        got = f"{tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must be a boolean tensor {shape}, got {got}")
    compact = get_compact_lists(mask, list(parts.values()), max_size=mask.shape[-1])
    return _targets_of(dict(zip(parts, compact, strict=True)), own, format_of_boxes)


def _targets_of(parts: dict[str, Any], fields: Sequence[str], format_of_boxes: dict[str, Any]) -> Targets:
    own = {name: parts.pop(name) for name in fields}
    return Targets(**parts, fields=own, **format_of_boxes)


def _shape_of_targets(parts: dict[str, Any], mask: Any, multi_hot: bool) -> tuple[tuple[int, ...], str]:
    """``(*batch, G)``, and which part says so. Labels are brought into int64, and out of one-hot form."""
    if "labels" not in parts:
        name, dims = ("boxes", -1) if "boxes" in parts else next((key, None) for key in parts)
        if isinstance(mask, Tensor):
            return tuple(mask.shape), "the mask"
        return tuple(parts[name].shape[:dims] if dims else parts[name].shape[:2]), name
    labels, boxes = parts["labels"], parts.get("boxes")
    if multi_hot:
        return tuple(labels.shape[:-1]), "multi-hot labels without their classes"
    if labels.dtype in STORED_INTEGER_DTYPES:
        labels = parts["labels"] = labels.to(torch.int64)
    if boxes is not None and labels.dim() == boxes.dim() and labels.shape[:-1] == boxes.shape[:-1]:
        labels = parts["labels"] = _from_one_hot(labels, mask)
    return tuple(labels.shape), "labels"


@reads(lambda source: isinstance(source, Tensor) and source.dim() != 2, *OF_BOXES)
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


def _check_is_batch(shape: tuple[int, ...], name: str) -> None:
    if len(shape) < 2:
        raise ValueError(
            f"padded targets need a batch dimension, got {name} of shape {shape}; "
            "the targets of one image are a list of one dict: [targets]"
        )


def _from_one_hot(labels: Tensor, mask: Any) -> Tensor:
    if labels.shape[-1] == 1:
        return labels.squeeze(-1)
    rows = labels.float()
    ok = ((rows == 1).sum(-1) == 1) & ((rows == 0).sum(-1) == rows.shape[-1] - 1)
    check_values(
        ok if not isinstance(mask, Tensor) or mask.shape != ok.shape else ok | ~mask.bool(),
        lambda at: (
            f"one-hot labels must have a single 1; not so at position {at[-1]} of {sample_name(at[:-1])}; "
            "if targets are of several classes, give multi_hot=True"
        ),
        summary="one-hot labels must have a single 1",
    )
    return rows.argmax(-1)
