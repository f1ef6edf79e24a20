"""Boxes that know their format and canvas themselves, as ``torchvision.tv_tensors.BoundingBoxes`` do; by duck type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from matchers.geometry.boxes import FORMATS


def read_description(boxes: Sequence[Any], given: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Plain boxes of each image, and the options of ``Targets`` with what the boxes say of themselves.

    Args:
        boxes: Of each image. Those that have the attributes ``format`` and ``canvas_size`` are in pixels.
        given: ``box_format``, ``normalized`` and ``canvas_size`` as far as a caller gave them.

    Raises:
        ValueError: Boxes of some images do not say what those of others say, or contradict what is given.
    """
    known = [hasattr(each, "format") and hasattr(each, "canvas_size") for each in boxes]
    if not any(known):
        return boxes, given
    if not all(known):
        have, miss = known.index(True), known.index(False)
        raise ValueError(f"boxes of sample {have} say their format and canvas_size, those of sample {miss} do not")
    formats = [_format_of(each.format, index) for index, each in enumerate(boxes)]
    for index, each in enumerate(formats):
        if each != formats[0]:
            raise ValueError(f"boxes of sample {index} are {each}, those of sample 0 are {formats[0]}")
    described: dict[str, Any] = {
        "box_format": formats[0],
        "normalized": False,
        "canvas_size": torch.tensor(
            [[float(side) for side in each.canvas_size] for each in boxes], dtype=torch.float32
        ),
    }
    for name, value in given.items():
        if name in described and not _agree(described[name], value):
            said = described[name].tolist() if name == "canvas_size" else repr(described[name])
            raise ValueError(f"{name} is {value!r}, but the boxes say {said}; leave it out for Targets.of to read it")
    return [_plain(each) for each in boxes], given | described


def _plain(boxes: Any) -> Any:
    """Without the class of the tensor, which would survive in all that is computed from it."""
    if not isinstance(boxes, Tensor):
        return boxes
    with torch._C.DisableTorchFunctionSubclass():
        return boxes.as_subclass(Tensor)


def _format_of(value: Any, index: int) -> str:
    name = getattr(value, "name", value)
    if not isinstance(name, str) or name.lower() not in FORMATS:
        raise ValueError(f"boxes of sample {index} have the format {name}, expected one of {', '.join(FORMATS)}")
    return name.lower()


def _agree(described: Any, value: Any) -> bool:
    if not isinstance(described, Tensor):
        return bool(described == value)
    if value is None:
        return True
    value = torch.as_tensor(value, dtype=described.dtype).cpu()
    return value.shape[-1:] == (2,) and value.dim() <= 2 and bool((described == value).all())
