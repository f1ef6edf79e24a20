"""Readers for the layouts of COCO's annotation files and of Ultralytics' data loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.flat import targets_from_rows
from matchers.targets.read import targets_from_lists
from matchers.targets.targets import Targets
from ragged.values.checks import check_count, check_is_sequence, check_is_tensor, check_same_device, check_whole


def targets_from_coco(
    images: Sequence[Any], *, label_of: Mapping[int, int] | None = None, canvas_size: Any = None
) -> Targets:
    """Read annotations as a COCO file has them: ``"bbox"``, xywh in pixels, ``"category_id"`` and ``"iscrowd"``.

    Args:
        images: Of each image a list of annotations, or a dict with such a list as ``"annotations"``. Crowds, and
            annotations with a true ``"ignore"``, are ignored targets. ``"area"``, ``"segmentation"`` and what is said
            of the image are left alone.
        label_of: The label, from 0, of each category id. Without it ids are labels; those of COCO itself are 1 to 90,
            with gaps.
        canvas_size: As in ``Targets``.

    Raises:
        KeyError: There is a key that nobody reads, such as ``"keypoints"``.
        TypeError: Something is no list or dict, or a box is no list of numbers.
        ValueError: An annotation lacks a box or a category, or its category has no label. The message names the sample.

    >>> annotations = [{"bbox": [4.0, 2.0, 8.0, 6.0], "category_id": 18, "iscrowd": 0}]
    >>> targets = targets_from_coco([annotations, []], label_of={1: 0, 18: 1})
    >>> targets.boxes_as("xyxy")[0], targets.labels.split()
    (tensor([[ 4.,  2., 12.,  8.]]), [tensor([1]), tensor([], dtype=torch.int64)])
    """
    check_is_sequence(images, "images", "lists of annotations")
    if not images:
        raise ValueError("targets need at least one image, got an empty list")
    if label_of is not None and not isinstance(label_of, Mapping):
        raise TypeError(f"label_of must be a dict from category ids to labels, got {type(label_of).__name__}")
    boxes, labels, ignore = [], [], []
    for index, image in enumerate(images):
        annotations = _annotations(image, index)
        boxes.append(_boxes([each["bbox"] for each in annotations], index))
        labels.append(torch.tensor(_labels(annotations, label_of, index), dtype=torch.int64))
        ignore.append(torch.tensor([_is_ignored(each, index) for each in annotations], dtype=torch.bool))
    return targets_from_lists(boxes, labels, ignore=ignore, box_format="xywh", canvas_size=canvas_size)


def targets_from_ultralytics(
    batch: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    canvas_size: Any = None,
    max_num_targets: int | None = None,
) -> Targets:
    """Read a batch as Ultralytics' loaders give it: all boxes in one tensor, cxcywh in fractions of the image.

    Args:
        batch: ``"batch_idx"`` (N,), the image of each target; ``"cls"`` (N,) or (N, 1); ``"bboxes"`` (N, 4); and
            ``"img"`` (B, …, H, W), which says how many images there are, and their size. What is said of files and
            shapes is left alone.
        batch_size: Number of images; needed where there is no ``"img"``.
        canvas_size: As in ``Targets``; that of ``"img"`` if not given.
        max_num_targets: G. Without it the largest count is read, which synchronises on an accelerator.

    Raises:
        KeyError: There is a key that nobody reads, such as ``"masks"``.
        TypeError: Something is no tensor.
        ValueError: Shapes do not fit each other, or nothing says how many images there are.

    >>> batch = {"img": torch.zeros(2, 3, 64, 96), "batch_idx": torch.tensor([1.0]), "cls": torch.tensor([[7.0]]),
    ...          "bboxes": torch.tensor([[0.5, 0.5, 0.25, 0.5]])}
    >>> targets = targets_from_ultralytics(batch)
    >>> targets.num_targets, targets.boxes_as("xyxy", normalized=False)[1]
    (tensor([0, 1]), tensor([[36., 16., 60., 48.]]))
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch of Ultralytics must be a dict, got {type(batch).__name__}")
    known_keys.ULTRALYTICS_TARGETS.check(batch, "the batch of Ultralytics")
    columns = [_column(batch, key) for key in ("batch_idx", "cls", "bboxes")]
    image, label, boxes = columns
    if boxes.dim() != 2 or boxes.shape[-1] != 4 or any(each.shape != (boxes.shape[0], 1) for each in (image, label)):
        raise ValueError(
            "batch_idx, cls and bboxes must have shapes (N,), (N, 1) and (N, 4), "
            f"got {', '.join(str(tuple(batch[key].shape)) for key in ('batch_idx', 'cls', 'bboxes'))}"
        )
    images = batch.get("img")
    if images is not None:
        check_is_tensor(images, "img")
        if images.dim() < 3:
            raise ValueError(f"img must have shape (B, …, H, W), got {tuple(images.shape)}")
        if batch_size is not None and batch_size != images.shape[0]:
            raise ValueError(f"batch_size is {batch_size}, but img is of {images.shape[0]} images")
        batch_size = images.shape[0]
        canvas_size = tuple(images.shape[-2:]) if canvas_size is None else canvas_size
    if batch_size is None:
        raise ValueError("a batch without 'img' does not say how many images there are: give batch_size=")
    for name, each in (("batch_idx", image), ("cls", label)):
        check_same_device(each.device, boxes.device, name=name, reference="bboxes")
    check_count(batch_size, "batch_size")
    if not boxes.is_floating_point():
        raise TypeError(f"bboxes must be floating, got {boxes.dtype}")
    return targets_from_rows(
        *(image.squeeze(-1), label.squeeze(-1), boxes),
        batch_size=batch_size,
        max_num_targets=max_num_targets,
        box_format="cxcywh",
        normalized=True,
        canvas_size=canvas_size,
    )


def _column(batch: Mapping[str, Any], key: str) -> Tensor:
    if key not in batch:
        raise ValueError(f"a batch of Ultralytics needs {key!r}, got {list(batch)}")
    value = batch[key]
    check_is_tensor(value, key)
    return value.unsqueeze(-1) if value.dim() == 1 else value


def _annotations(image: Any, index: int) -> list[Mapping[str, Any]]:
    if isinstance(image, Mapping):
        known_keys.COCO_IMAGE.check(image, f"sample {index}")
    annotations: Any = image.get("annotations") if isinstance(image, Mapping) else image
    check_is_sequence(annotations, f"the annotations of sample {index}", "dicts")
    for each in annotations:
        if not isinstance(each, Mapping):
            raise TypeError(f"each annotation of sample {index} must be a dict, got {type(each).__name__}")
        known_keys.COCO_ANNOTATION.check(each, f"an annotation of sample {index}")
        for key in ("bbox", "category_id"):
            if key not in each:
                raise ValueError(f"an annotation of sample {index} has no {key!r}, but {list(each)}")
    return list(annotations)


def _boxes(boxes: list[Any], index: int) -> Tensor:
    if not boxes:
        return torch.zeros(0, 4)
    try:
        read = torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), -1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"each bbox of sample {index} must be four numbers: {error}") from None
    if read.shape[-1] != 4:
        raise ValueError(f"each bbox of sample {index} must be four numbers, got {read.shape[-1]}")
    return read


def _labels(annotations: list[Mapping[str, Any]], label_of: Mapping[int, int] | None, index: int) -> list[int]:
    categories = [each["category_id"] for each in annotations]
    for category in categories:
        check_whole(category, f"each category_id of sample {index}")
        if label_of is not None and category not in label_of:
            raise ValueError(f"sample {index} has the category {category!r}, which has no label in label_of")
    labels = categories if label_of is None else [label_of[category] for category in categories]
    for label in labels:
        check_whole(label, "each label in label_of")
    return labels


def _is_ignored(annotation: Mapping[str, Any], index: int) -> bool:
    flags = [annotation.get(key, 0) for key in ("iscrowd", "ignore")]
    for flag in flags:
        if not isinstance(flag, (bool, np.bool_)):
            check_whole(flag, f"iscrowd and ignore of sample {index}")
        if flag not in (0, 1):
            raise ValueError(f"iscrowd and ignore of sample {index} must be 0 or 1, got {flag}")
    return any(map(bool, flags))
