"""Readers for padded tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.layouts import OF_BOXES, reads
from matchers.targets.targets import Targets
from matchers.targets.values import exact_integers, flags_of
from ragged import RaggedBatch, get_compact_lists
from ragged.values.checks import STORED_INTEGER_DTYPES, check_is_tensor, check_values, sample_name

_OPTIONAL = ("weights", "ignore")


@reads(lambda source: isinstance(source, Mapping), *OF_BOXES, general=True)
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
