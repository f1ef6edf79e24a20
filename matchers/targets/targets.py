"""Ground truth of a batch: ragged boxes and labels that know their format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from matchers.geometry.boxes import check_boxes, check_format, convert, in_unit
from matchers.targets import layouts, notebook
from matchers.targets.values import (
    KnowsSizes,
    Remembers,
    check_classes,
    check_names_of_fields,
    check_target_boxes,
    checked_canvas,
    checked_labels,
    checked_part,
    is_multi_hot,
)
from ragged import RaggedBatch
from ragged.batch.conversion import changed_together, pinned
from ragged.batch.core import asks_not_to_wait
from ragged.batch.layout import check_same_sizes
from ragged.interop.registration import register_dataclass, replaced
from ragged.values.checks import check_count, check_flag, check_same_device, check_weights
from ragged.values.precision import wide

_OPTIONAL = ("boxes", "labels", "weights", "ignore")
# Names that a field cannot have: those of the class, and of dicts that are read.
_TAKEN = frozenset(("boxes", "labels", "weights", "ignore", "iscrowd", "mask", "fields"))


@dataclass(frozen=True, eq=False)
class Targets(KnowsSizes, Remembers):
    """The objects of each image, G at most.

    Boxes and labels are optional; a matcher or a criterion that needs them raises an error if they are missing.
    ``fields`` hold other data of each object, such as keypoints, 3D boxes or ids, for a cost or a loss of your own.

    Args:
        boxes: ``(*batch, G, 4)``, floating, ragged along G; None if there are none.
        labels: ``(*batch, G)``, integers from 0, or multi-hot ``(*batch, G, C)``, bool or floating from 0 to 1, where
            a target has any number of classes; None if there are none. Labels of ignored targets can be anything.
        weights: ``(*batch, G)``, floating, finite and not negative: how much each target counts in a loss. None means
            1. Weights of ignored targets can be anything.
        ignore: ``(*batch, G)``, bool: crowds and regions that nobody annotated. No matcher matches them; a prediction
            that lies in one and has no target is neither positive nor negative.
        box_format: ``"xyxy"``, ``"cxcywh"`` or ``"xywh"``.
        normalized: Whether boxes are fractions of the image, not pixels.
        canvas_size: ``(*batch, 2)`` or ``(2,)``, or a pair of numbers: height and width of the images in pixels,
            needed to convert between pixels and fractions.
        fields: Ragged batches ``(*batch, G, …)`` by name, of any dtype and trailing shape.

    Raises:
        TypeError: A field is no RaggedBatch, boxes are not floating or labels not integers.
        ValueError: Shapes, sizes or devices do not fit; a label is negative, or not from 0 to 1; a weight is negative
            or not finite; a box is not finite, has a negative side, or lies far from [0, 1] though normalised. The
            message names the sample.

    Boxes may leave the image, as those of crops and mosaics do. Matchers and criteria take targets as constants.

    >>> boxes = combine_data([[[0.0, 0.0, 9.0, 5.0]], torch.zeros(0, 4)])
    >>> targets = Targets(boxes, combine_data([[2], []]).long())
    >>> targets.num_targets
    tensor([1, 0])
    """

    # Hints leave out None: who asks for boxes or labels has them.
    boxes: RaggedBatch = None  # type: ignore[assignment]
    labels: RaggedBatch = None  # type: ignore[assignment]
    weights: RaggedBatch | None = None
    ignore: RaggedBatch | None = None
    box_format: str = "xyxy"
    normalized: bool = False
    canvas_size: Tensor | None = None
    fields: Mapping[str, RaggedBatch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_format(self.box_format)
        check_flag(self.normalized, "normalized")
        self._check_names()
        for name in _OPTIONAL:
            self._check_part(name, getattr(self, name))
        for name, batch in self.fields.items():
            self._check_part(name, batch)
        if self.ignore is not None and self.ignore.dtype != torch.bool:
            raise TypeError(f"ignore must be boolean, got {self.ignore.dtype}")
        if self.weights is not None:
            if not self.weights.tensor.is_floating_point():
                raise TypeError(f"weights must be floating, got {self.weights.dtype}")
            check_weights(self.weights.tensor, "weights", counts=self.matchable)
        if self.canvas_size is not None:
            canvas = checked_canvas(self.canvas_size, self.batch_shape, self.device)
            object.__setattr__(self, "canvas_size", canvas)
        if self.boxes is not None:
            check_target_boxes(self.boxes, self.box_format, self.normalized)
        if self.labels is not None:
            object.__setattr__(self, "labels", checked_labels(self.labels, self.matchable))

    # --- what it holds ---------------------------------------------------------------------------------------------

    @property
    def reference(self) -> RaggedBatch:
        """The batch that says how many targets there are: the first of ``parts``."""
        return next(each for each in (self.boxes, self.labels, *self.fields.values()) if each is not None)

    @property
    def parts(self) -> dict[str, RaggedBatch]:
        """The batches of targets that there are, by name: boxes, labels, weights, ignore, and all fields."""
        own = {name: getattr(self, name) for name in _OPTIONAL}
        return {name: batch for name, batch in (own | dict(self.fields)).items() if batch is not None}

    def check_has(self, name: str, who: str) -> None:
        """Raise ``ValueError``, saying who asks, unless there is a part of this name."""
        if name not in self.parts:
            raise ValueError(f"{who} needs {name!r} of the targets, which have {', '.join(self.parts)}")

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``*batch``."""
        return tuple(self.reference.sample_sizes.shape)

    @property
    def num_targets(self) -> Tensor:
        """``(*batch,)``, ignored ones included."""
        return self.reference.sample_sizes

    @property
    def max_num_targets(self) -> int:
        """G, to which the samples are padded."""
        return self.reference.max_sample_size

    @property
    def mask(self) -> Tensor:
        """``(*batch, G)``, true for targets, false for filler."""
        return self.reference.mask

    @property
    def matchable(self) -> Tensor:
        """``(*batch, G)``, true for targets that are not ignored."""
        return self.mask if self.ignore is None else self.mask & ~self.ignored

    @property
    def ignored(self) -> Tensor:
        """``(*batch, G)``, true for ignored targets, false for all others and filler."""
        return torch.zeros_like(self.mask) if self.ignore is None else self.ignore.with_padded_set_to(False).tensor

    @property
    def device(self) -> torch.device:
        """Where the targets are."""
        return self.reference.device

    def boxes_as(self, box_format: str, *, normalized: bool | None = None) -> Tensor:
        """Padded boxes ``(*batch, G, 4)`` in another format and unit, float32 at least; filler is 0.

        Args:
            box_format: ``"xyxy"``, ``"cxcywh"`` or ``"xywh"``.
            normalized: The unit; None keeps it.

        Raises:
            ValueError: The unit has to change, and there is no ``canvas_size``.
        """
        if normalized is not None:
            check_flag(normalized, "normalized")
        self.check_has("boxes", "a matcher or loss of boxes")
        filler = self.remembered("filler", lambda: ~self.mask)
        boxes = self.remembered("boxes", lambda: wide(self.boxes.tensor.masked_fill(filler.unsqueeze(-1), 0)))
        boxes = convert(boxes, self.box_format, box_format)
        return in_unit(boxes, self.normalized, normalized, self.canvas_size)

    @property
    def is_multi_hot(self) -> bool:
        """Whether there are labels ``(*batch, G, C)``: how much each class is one of each target."""
        return self.labels is not None and is_multi_hot(self.labels)

    def padded_labels(self) -> Tensor:
        """``(*batch, G)`` or ``(*batch, G, C)``, the labels with 0 for filler and for ignored targets."""
        self.check_has("labels", "a matcher or loss of classes")
        without = self.remembered("filler" if self.ignore is None else "not matchable", lambda: ~self.matchable)
        return self.labels.tensor.masked_fill(without.unsqueeze(-1) if self.is_multi_hot else without, 0)

    def check_labels(self, num_classes: int) -> None:
        """Raise ``ValueError``, naming the sample, unless labels are below ``num_classes``, or multi-hot of so many."""
        check_count(num_classes, "num_classes")
        self.check_has("labels", "a matcher or loss of classes")
        name = f"labels below {num_classes}"
        self.remembered(name, lambda: check_classes(self.labels, num_classes, self.matchable))

    # --- other forms -----------------------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Targets:
        """On another device, or with boxes and weights of another floating dtype; arguments as ``torch.Tensor.to``.

        Fields keep their dtype. With ``non_blocking=True``, of pinned targets, the host waits for no copy.
        """
        device = self.reference.tensor.new_empty(0).to(*args, **kwargs).device
        non_blocking = asks_not_to_wait(*args, **kwargs)

        def move(name: str, tensor: Tensor) -> Tensor:
            is_cast = name in ("boxes", "weights")
            return tensor.to(*args, **kwargs) if is_cast else tensor.to(device, non_blocking=non_blocking)

        moved = self._changed(move)
        if any(moved.parts[name].dtype != batch.dtype for name, batch in self.parts.items()):
            moved.__post_init__()  # of another precision, values are others
        return moved

    def to_dicts(self) -> list[dict[str, Tensor]]:
        """One dict per image: ``"boxes"`` (n, 4), ``"labels"``, ``"weights"``, ``"ignore"`` and fields, if known.

        Boxes keep their format. Several batch dimensions are flattened. Synchronises on an accelerator.

        >>> Targets.of([{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]]), "labels": torch.tensor([3])}]).to_dicts()
        [{'boxes': tensor([[0., 0., 1., 2.]]), 'labels': tensor([3])}]
        """
        parts = {name: batch.flatten_batch_dims().split() for name, batch in self.parts.items()}
        return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]

    def with_max_num_targets(self, max_size: int) -> Targets:
        """The same targets with another amount of padding: room for ``max_size`` in each image.

        Batches of one size make one graph of ``torch.compile`` or CUDA; of a few sizes, a few.

        Raises:
            ValueError: An image has more targets.

        >>> Targets.of([{"boxes": torch.zeros(1, 4), "labels": torch.tensor([3])}]).with_max_num_targets(8).boxes.shape
        torch.Size([1, 8, 4])
        """
        parts = {name: batch.with_max_sample_size(max_size) for name, batch in self.parts.items()}
        return self._with_parts(parts, self.canvas_size)

    def pin_memory(self, device: torch.device | str | None = None) -> Targets:
        """In page-locked memory, where a DataLoader puts what has this method. ``device`` is no longer needed."""
        return self._changed(lambda _, tensor: pinned(tensor))

    def _changed(self, change: Callable[[str, Tensor], Tensor]) -> Targets:
        """The same targets in other tensors, unchecked; see ``changed_together``."""
        canvas = None if self.canvas_size is None else change("canvas_size", self.canvas_size)
        return self._with_parts(changed_together(self.parts, change), canvas)

    def _with_parts(self, parts: dict[str, RaggedBatch], canvas_size: Tensor | None) -> Targets:
        fields = {name: parts.pop(name) for name in self.fields}
        return replaced(self, **parts, fields=fields, canvas_size=canvas_size).knowing(self.known_sizes)

    def __getitem__(self, item: Any) -> NoReturn:
        raise TypeError("Targets hold a batch and have no items; to_dicts() gives a list with a dict for each image")

    @classmethod
    def of(cls, source: Any, *, num_classes: int | None = None, **layout: Any) -> Targets:
        """Read any of the usual layouts; see ``read_targets``."""
        if not isinstance(source, Targets):
            targets: Targets = layouts.layout_of(source).read(source, layout)
        elif layout:
            raise TypeError(f"targets that are read already know their layout, got {', '.join(layout)}")
        else:
            targets = source
        if num_classes is not None:
            targets.check_labels(num_classes)
        return targets

    def __repr__(self) -> str:
        return notebook.shown_targets(self.parts, self.ignored, self.box_format, self.normalized).text()

    def _repr_html_(self) -> str:
        return notebook.shown_targets(self.parts, self.ignored, self.box_format, self.normalized).html()

    # --- checks ----------------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        check_names_of_fields(self.fields, _TAKEN, "ragged batches")
        object.__setattr__(self, "fields", dict(self.fields))
        if self.boxes is None and self.labels is None and not self.fields:
            raise ValueError("targets need boxes, labels or fields, got none of them")

    def _check_part(self, name: str, batch: RaggedBatch | None) -> None:
        if batch is None and name in _OPTIONAL:
            return None
        batch = checked_part(name, batch)
        if name == "boxes":
            return check_boxes(batch.tensor, "boxes")
        reference, other = self.reference, next(iter(self.parts))
        check_same_device(batch.device, reference.device, name=name, reference=other)
        check_same_sizes(batch, reference, what=f"{name} and {other}")
        if batch.max_sample_size != reference.max_sample_size:
            raise ValueError(
                f"{name} are padded to {batch.max_sample_size} targets, {other} to {reference.max_sample_size}"
            )
        return None


register_dataclass(
    Targets, constants=("box_format", "normalized"), kept=("boxes", "labels", "weights", "canvas_size", "fields")
)
