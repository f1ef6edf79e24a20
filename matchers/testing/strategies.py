"""Hypothesis strategies of scenes, and of targets in every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import note
from hypothesis import strategies as st
from torch import Tensor

from matchers.geometry.boxes import convert
from matchers.targets.targets import Targets
from matchers.testing.random_scenes import make_scene
from matchers.testing.scene import Scene
from ragged.testing import FILLERS, as_code


@st.composite
def numbers_of_targets(draw: st.DrawFn, *, max_images: int = 4, max_targets: int = 60) -> list[int]:
    """Numbers of targets: 0 and 1 often, all of them 0 sometimes, many seldom."""
    number = st.one_of(st.sampled_from([0, 1]), st.integers(0, 6), st.integers(0, max_targets))
    return draw(st.lists(number, min_size=1, max_size=max_images))


@st.composite
def scenes(
    draw: st.DrawFn,
    *,
    max_images: int = 4,
    max_targets: int = 60,
    min_predictions: int = 0,
    max_predictions: int = 100,
    layers: bool = True,
    ignore: bool = True,
    bad: bool = True,
    ties: bool = True,
    num_classes: int = 4,
) -> Scene:
    """Any scene, as far as allowed.

    Args:
        max_images, max_targets, min_predictions, max_predictions, num_classes: Numbers to draw.
        layers: Predictions may have a batch dimension more than targets have.
        ignore: Targets may be ignored.
        bad: Predictions may have values that are NaN or infinite.
        ties: Boxes may coincide or touch, and logits be equal.
    """
    few, some = (st.integers(min_predictions, min(most, max_predictions)) for most in (1, 12))
    count = draw(st.one_of(few, some, st.integers(min_predictions, max_predictions)))
    scene = make_scene(
        draw(numbers_of_targets(max_images=max_images, max_targets=max_targets)),
        count,
        num_classes,
        draw(st.integers(0, 10_000)),
        layers=draw(st.sampled_from([(), (), (1,), (2,)])) if layers else (),
        steps=draw(st.sampled_from([None, 2, 4, 8])) if ties else None,
        degenerate=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        near=draw(st.sampled_from([0.0, 0.5, 1.0])),
        bad=draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])) if bad else 0.0,
        ignored=draw(st.sampled_from([None, 0.0, 0.3, 1.0])) if ignore else None,
        slack=draw(st.sampled_from([0, 0, 1, 5])),
        filler=draw(st.sampled_from(FILLERS)),
    )
    note(f"predictions, targets = {as_code((scene.predictions, scene.targets))}")
    return scene


def _dicts(targets: Targets) -> tuple[Any, dict[str, Any]]:
    return targets.to_dicts(), {}


def _lists(targets: Targets) -> tuple[Any, dict[str, Any]]:
    images = targets.to_dicts()
    return ([image["boxes"] for image in images], [image["labels"] for image in images]), {}


def _flat(targets: Targets) -> tuple[Any, dict[str, Any]]:
    parts = [
        torch.cat([image["labels"].new_full((len(image["labels"]), 1), place), image["labels"].unsqueeze(1)], 1)
        for place, image in enumerate(targets.to_dicts())
    ]
    boxes = torch.cat([image["boxes"] for image in targets.to_dicts()])
    return torch.cat([torch.cat(parts).to(boxes.dtype), boxes], 1), {"batch_size": len(parts)}


def _padded_dict(targets: Targets) -> tuple[Any, dict[str, Any]]:
    return {"boxes": targets.boxes.tensor, "labels": targets.labels.tensor, "mask": targets.mask}, {}


def _padded_tensor(targets: Targets) -> tuple[Any, dict[str, Any]]:
    labels = targets.labels.with_padded_set_to(-1).tensor.unsqueeze(-1)
    boxes: Tensor = targets.boxes.with_padded_set_to(0).tensor
    return torch.cat([labels.to(boxes.dtype), boxes], -1), {}


LAYOUTS: dict[str, Callable[[Targets], tuple[Any, dict[str, Any]]]] = {
    "dicts": _dicts,
    "lists": _lists,
    "flat": _flat,
    "padded dict": _padded_dict,
    "padded tensor": _padded_tensor,
}
"""Writers of the layouts that ``Targets.of`` reads, by name."""


def in_layout(targets: Targets, layout: str) -> tuple[Any, dict[str, Any]]:
    """Boxes and labels in one of ``LAYOUTS``, and the options that ``Targets.of`` needs to read them again.

    >>> targets = Targets.of([{"boxes": torch.tensor([[0.0, 0.0, 9.0, 5.0]]), "labels": torch.tensor([2])}])
    >>> source, options = in_layout(targets, "flat")
    >>> source
    tensor([[0., 2., 0., 0., 9., 5.]])
    >>> Targets.of(source, **options).labels.tensor
    tensor([[2]])
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if len(targets.batch_shape) != 1:
        raise ValueError(f"a layout has one batch dimension, the targets have batch shape {targets.batch_shape}")
    source, options = LAYOUTS[layout](targets)
    options |= {"box_format": targets.box_format, "normalized": targets.normalized}
    return source, options | ({} if targets.canvas_size is None else {"canvas_size": targets.canvas_size})


@st.composite
def target_sources(
    draw: st.DrawFn, *, max_images: int = 4, max_targets: int = 10, num_classes: int = 4
) -> tuple[Any, dict[str, Any], Targets]:
    """Targets in any layout and box format, the options to read them with, and the targets that it should give."""
    sizes = draw(numbers_of_targets(max_images=max_images, max_targets=max_targets))
    degenerate = draw(st.sampled_from([0.0, 0.3]))
    targets = make_scene(sizes, 0, num_classes, draw(st.integers(0, 10_000)), degenerate=degenerate).targets
    box_format = draw(st.sampled_from(["xyxy", "cxcywh", "xywh"]))
    boxes = targets.boxes.apply(lambda tensor: convert(tensor, "xyxy", box_format))
    targets = Targets(boxes, targets.labels, box_format=box_format)
    layout = draw(st.sampled_from(list(LAYOUTS)))
    source, options = in_layout(targets, layout)
    note(f"source, options = {as_code((source, options))}  # {layout}")
    return source, options, targets
