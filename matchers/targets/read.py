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

from typing import Any

from matchers.targets.targets import Targets


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
    return Targets.of(source, num_classes=num_classes, **layout)
