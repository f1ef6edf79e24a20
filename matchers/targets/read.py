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

from torch import Tensor

from matchers.targets.flat import targets_from_flat
from matchers.targets.lists import targets_from_dicts, targets_from_lists
from matchers.targets.padded import OPTIONAL, targets_from_padded, targets_from_padded_tensor
from matchers.targets.targets import Targets

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
    from matchers.targets import (
        coco,  # which needs the readers of this module
        ultralytics,
    )

    if isinstance(source, Mapping):
        if all(key in source for key in ("batch_idx", "cls", "bboxes")):
            return ultralytics.targets_from_ultralytics, ("batch_size", "canvas_size", "max_num_targets")
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
            return targets_from_lists, (*_FORMAT, *OPTIONAL)
    raise TypeError(
        "targets must be Targets, a list of dicts, a pair (list of boxes, list of labels), a padded dict, "
        f"or a tensor (N, 6) or (B, N, 5); got {type(source).__name__}"
    )
