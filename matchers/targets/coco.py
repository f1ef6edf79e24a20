"""The reader for annotations as COCO's files have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.layouts import reads
from matchers.targets.lists import targets_from_lists
from matchers.targets.targets import Targets
from matchers.targets.values import as_tensor, checked_names
from ragged.values.checks import check_is_sequence, check_whole, is_sequence


def _has_annotations(source: Any) -> bool:
    if not is_sequence(source) or not source:
        return False
    if any(isinstance(item, Mapping) for item in source):
        return any(isinstance(item, Mapping) and "annotations" in item for item in source)
    return all(isinstance(item, Sequence) and all(isinstance(each, Mapping) for each in item) for item in source)


@reads(_has_annotations, "label_of", "canvas_size", "fields")
def targets_from_coco(
    images: Sequence[Any],
    *,
    label_of: Mapping[int, int] | None = None,
    canvas_size: Any = None,
    fields: Sequence[str] = (),
) -> Targets:
    """Read annotations as a COCO file has them: ``"bbox"``, xywh in pixels, ``"category_id"`` and ``"iscrowd"``.

    Args:
        images: Of each image a list of annotations, or a dict with such a list as ``"annotations"``. Crowds, and
            annotations with a true ``"ignore"``, are ignored targets. ``"area"``, ``"segmentation"`` and other keys of
            COCO are ignored.
        label_of: The label, from 0, of each category id. Without it ids are labels; those of COCO itself are 1 to 90,
            with gaps.
        canvas_size: As in ``Targets``.
        fields: Other keys of annotations to keep, such as ``("keypoints", "area")``: each a number, or a list of the
            same length in all annotations.

    Raises:
        KeyError: An unknown key, such as ``"caption"``, or ``"keypoints"`` if it is no field.
        TypeError: ``images`` or an annotation has the wrong type, or a box is not a list of numbers.
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
    names = checked_names(fields)
    boxes, labels, ignore = [], [], []
    own: dict[str, list[Tensor]] = {name: [] for name in names}
    for index, image in enumerate(images):
        annotations = _annotations(image, index, names)
        boxes.append(_boxes([each["bbox"] for each in annotations], index))
        labels.append(torch.tensor(_labels(annotations, label_of, index), dtype=torch.int64))
        ignore.append(torch.tensor([_is_ignored(each, index) for each in annotations], dtype=torch.bool))
        for name, column in own.items():
            column.append(_field([each[name] for each in annotations], name, index))
    return targets_from_lists(boxes, labels, ignore=ignore, fields=own, box_format="xywh", canvas_size=canvas_size)


def _field(values: list[Any], name: str, index: int) -> Tensor:
    try:
        return as_tensor(values, name, index)
    except TypeError as error:
        raise TypeError(f"{error}; annotations must all have as many numbers") from None


def _annotations(image: Any, index: int, fields: Sequence[str]) -> list[Mapping[str, Any]]:
    if isinstance(image, Mapping):
        known_keys.COCO_IMAGE.check(image, f"sample {index}")
    annotations: Any = image.get("annotations") if isinstance(image, Mapping) else image
    check_is_sequence(annotations, f"the annotations of sample {index}", "dicts")
    for each in annotations:
        if not isinstance(each, Mapping):
            raise TypeError(f"each annotation of sample {index} must be a dict, got {type(each).__name__}")
        known_keys.COCO_ANNOTATION.and_read(*fields).check(each, f"an annotation of sample {index}")
        for key in ("bbox", "category_id", *fields):
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
        if is_sequence(category):
            raise TypeError(
                f"each category_id of sample {index} must be an integer, got {category}; several labels of an object "
                'are read from dicts with boxes and multi-hot "labels" (n, C)'
            )
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
