"""The reader for batches of Ultralytics' data loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from matchers.targets import known_keys
from matchers.targets.flat import targets_from_rows
from matchers.targets.layouts import reads
from matchers.targets.targets import Targets
from matchers.targets.values import checked_names, fields_of
from ragged.values.checks import check_count, check_is_tensor, check_same_device


def _is_batch(source: Any) -> bool:
    return isinstance(source, Mapping) and all(key in source for key in ("batch_idx", "cls", "bboxes"))


@reads(_is_batch, "batch_size", "canvas_size", "max_num_targets", "fields")
def targets_from_ultralytics(
    batch: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    canvas_size: Any = None,
    max_num_targets: int | None = None,
    fields: Sequence[str] = (),
) -> Targets:
    """Read a batch as Ultralytics' loaders give it: all boxes in one tensor, cxcywh in fractions of the image.

    Args:
        batch: ``"batch_idx"`` (N,), the image of each target; ``"cls"`` (N,) or (N, 1); ``"bboxes"`` (N, 4); and
            ``"img"`` (B, …, H, W), which says how many images there are, and their size. What is said of files and
            shapes is left alone.
        batch_size: Number of images; needed where there is no ``"img"``.
        canvas_size: As in ``Targets``; that of ``"img"`` if not given.
        max_num_targets: G. Without it the largest count is read, which synchronises on an accelerator.
        fields: Other keys to keep, such as ``("keypoints",)``: each (N, …), a row for each target.

    Raises:
        KeyError: There is a key that nobody reads, such as ``"masks"``.
        TypeError: A value is not a tensor.
        ValueError: Shapes do not fit each other, or nothing says how many images there are.

    >>> batch = {"img": torch.zeros(2, 3, 64, 96), "batch_idx": torch.tensor([1.0]), "cls": torch.tensor([[7.0]]),
    ...          "bboxes": torch.tensor([[0.5, 0.5, 0.25, 0.5]])}
    >>> targets = targets_from_ultralytics(batch)
    >>> targets.num_targets, targets.boxes_as("xyxy", normalized=False)[1]
    (tensor([0, 1]), tensor([[36., 16., 60., 48.]]))
    """
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch of Ultralytics must be a dict, got {type(batch).__name__}")
    names = checked_names(fields)
    known_keys.ULTRALYTICS_TARGETS.and_read(*names).check(batch, "the batch of Ultralytics")
    own = fields_of(batch, names, "a batch of Ultralytics has")
    columns = [_column(batch, key) for key in ("batch_idx", "cls", "bboxes")]
    image, label, boxes = columns
    if boxes.dim() != 2 or boxes.shape[-1] != 4 or any(each.shape != (boxes.shape[0], 1) for each in (image, label)):
        raise ValueError(
            "batch_idx, cls and bboxes must have shapes (N,), (N, 1) and (N, 4), "
            f"got {', '.join(str(tuple(batch[key].shape)) for key in ('batch_idx', 'cls', 'bboxes'))}; several labels "
            'of an object are read from dicts with boxes and multi-hot "labels" (n, C)'
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
        fields=own,
    )


def _column(batch: Mapping[str, Any], key: str) -> Tensor:
    if key not in batch:
        raise ValueError(f"a batch of Ultralytics needs {key!r}, got {list(batch)}")
    value = batch[key]
    check_is_tensor(value, key)
    return value.unsqueeze(-1) if value.dim() == 1 else value
