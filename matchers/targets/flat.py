"""The reader for targets of all images in one tensor, and what it shares with others of that kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from matchers.targets.layouts import OF_BOXES, reads
from matchers.targets.targets import Targets
from matchers.targets.values import exact_integers
from ragged import RaggedBatch, unpack
from ragged.values.checks import check_count, check_is_tensor, check_same_device, check_values


@reads(
    lambda source: isinstance(source, Tensor) and source.dim() == 2,
    *(*OF_BOXES, "batch_size", "max_num_targets", "fields"),
    needs={"batch_size": "flat targets (N, 6) do not say how many images there are: give batch_size="},
)
def targets_from_flat(
    rows: Tensor,
    *,
    batch_size: int,
    box_format: str = "cxcywh",
    normalized: bool = True,
    canvas_size: Any = None,
    max_num_targets: int | None = None,
    fields: Mapping[str, Tensor] | None = None,
) -> Targets:
    """Read rows ``(image index, label, box)``, as SSD and Ultralytics have them, in any order of images.

    Args:
        rows: ``(N, 6)``, floating. The order of an image's rows is kept.
        batch_size: Number of images; one without rows has no targets.
        box_format: Format of the last four columns.
        normalized: Whether they are fractions of the image.
        canvas_size: As in ``Targets``.
        max_num_targets: G. Without it the largest count is read, which synchronises on an accelerator.
        fields: Your own fields of each row, (N, …) by name.

    Raises:
        ValueError: An image index or a label is not an integer, or an index is not below ``batch_size``.

    >>> targets_from_flat(torch.tensor([[1.0, 7.0, 0.5, 0.5, 0.2, 0.2]]), batch_size=2).num_targets
    tensor([0, 1])
    """
    check_is_tensor(rows, "targets")
    check_count(batch_size, "batch_size")
    if rows.dim() != 2 or rows.shape[-1] != 6:
        raise ValueError(f"flat targets must have shape (N, 6): image index, label, box; got {tuple(rows.shape)}")
    if not rows.is_floating_point():
        raise TypeError(f"flat targets must be floating, got {rows.dtype}")
    return targets_from_rows(
        *(rows[:, 0], rows[:, 1], rows[:, 2:]),
        batch_size=batch_size,
        max_num_targets=max_num_targets,
        box_format=box_format,
        normalized=normalized,
        canvas_size=canvas_size,
        fields=fields,
    )


def targets_from_rows(
    image: Tensor,
    label: Tensor,
    boxes: Tensor,
    *,
    batch_size: int,
    max_num_targets: int | None,
    fields: Mapping[str, Tensor] | None = None,
    **format_of_boxes: Any,
) -> Targets:
    """Sort rows by image: indices of images and labels (N,), boxes (N, 4), fields (N, …), each of its own dtype."""
    fields = {} if fields is None else fields
    if not isinstance(fields, Mapping):
        raise TypeError(f"fields must be a dict of tensors, a row for each target, got {type(fields).__name__}")
    for name, value in fields.items():
        check_is_tensor(value, f"the field {name!r}")
        check_same_device(value.device, boxes.device, name=f"the field {name!r}", reference="the boxes")
        if value.dim() < 1 or value.shape[0] != boxes.shape[0]:
            raise ValueError(f"the field {name!r} must have {boxes.shape[0]} rows, got shape {tuple(value.shape)}")
    # Some integer dtypes cannot be compared.
    image, label = (each if each.is_floating_point() else each.to(torch.int64) for each in (image, label))
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
    image, label = exact_integers(image, "image index"), exact_integers(label, "label")
    order = image.argsort(stable=True)
    # No bincount: it has a data-dependent shape as far as torch knows.
    sizes = torch.zeros(batch_size, dtype=torch.int64, device=boxes.device)
    sizes = sizes.index_add(0, image, torch.ones_like(image))
    table = unpack(boxes[order], sizes, max_size=max_num_targets)

    def in_table(rows: Tensor) -> RaggedBatch:
        padded = unpack(rows[order], sizes, max_size=table.max_sample_size)
        return table.create_with_sample_sizes_like_self(padded.tensor)

    own = {name: in_table(value) for name, value in fields.items()}
    return Targets(table, in_table(label), fields=own, **format_of_boxes)
