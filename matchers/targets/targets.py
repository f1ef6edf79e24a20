"""Ground truth of a batch: ragged boxes and labels that know their format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.geometry.boxes import check_boxes, check_format, convert, in_unit
from matchers.targets import layouts, notebook
from ragged import RaggedBatch
from ragged.batch.layout import check_same_sizes
from ragged.interop.registration import register_dataclass
from ragged.values.checks import (
    STORED_INTEGER_DTYPES,
    check_count,
    check_flag,
    check_is_sequence,
    check_is_tensor,
    check_same_device,
    check_values,
    check_weights,
    sample_name,
)
from ragged.values.precision import wide

# How far normalised coordinates may leave [0, 1]: boxes reach beyond the border of an image; those in pixels, farther.
_SLACK = 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """The objects of each image, G at most.

    Args:
        boxes: ``(*batch, G, 4)``, floating, ragged along G.
        labels: ``(*batch, G)``, integers from 0. Those of ignored targets may be anything.
        weights: ``(*batch, G)``, floating, finite and not negative: how much each target counts in a loss. None means
            1. Those of ignored targets may be anything.
        ignore: ``(*batch, G)``, bool: crowds and regions that nobody annotated. They are never matched; a prediction
            that lies in one and has no target is neither positive nor negative.
        box_format: ``"xyxy"``, ``"cxcywh"`` or ``"xywh"``.
        normalized: Whether boxes are fractions of the image, not pixels.
        canvas_size: ``(*batch, 2)`` or ``(2,)``, or a pair of numbers: height and width of the images in pixels.
            Needed only to go between pixels and fractions.

    Raises:
        TypeError: A field is no RaggedBatch, boxes are not floating or labels not integers.
        ValueError: Shapes, sizes or devices do not fit; a label is negative; a weight is negative or not finite; a box
            is not finite, has a negative side, or lies far from [0, 1] though normalised. The message names the sample.

    Boxes may leave the image, as those of crops and mosaics do. For matchers and criteria targets are constants, also
    where a field requires a gradient.

    >>> boxes = combine_data([[[0.0, 0.0, 9.0, 5.0]], torch.zeros(0, 4)])
    >>> targets = Targets(boxes, combine_data([[2], []]).long())
    >>> targets.num_targets
    tensor([1, 0])
    """

    boxes: RaggedBatch
    labels: RaggedBatch
    weights: RaggedBatch | None = None
    ignore: RaggedBatch | None = None
    box_format: str = "xyxy"
    normalized: bool = False
    canvas_size: Tensor | None = None

    def __post_init__(self) -> None:
        check_format(self.box_format)
        check_flag(self.normalized, "normalized")
        for name in ("boxes", "labels", "weights", "ignore"):
            self._check_field(name, getattr(self, name))
        if self.labels.dtype not in STORED_INTEGER_DTYPES:
            raise TypeError(f"labels must be integers, got {self.labels.dtype}")
        if self.ignore is not None and self.ignore.dtype != torch.bool:
            raise TypeError(f"ignore must be boolean, got {self.ignore.dtype}")
        object.__setattr__(self, "labels", self.labels.to_dtype(torch.int64))
        if self.weights is not None:
            if not self.weights.tensor.is_floating_point():
                raise TypeError(f"weights must be floating, got {self.weights.dtype}")
            check_weights(self.weights.tensor, "weights", counts=self.matchable)
        if self.canvas_size is not None:
            object.__setattr__(self, "canvas_size", self._canvas(self.canvas_size))
        self._check_boxes()
        check_values(
            (self.labels.tensor >= 0) | ~self.matchable,
            lambda at: (
                f"labels must not be negative, got {int(self.labels.tensor[at])} "
                f"at position {at[-1]} of {sample_name(at[:-1])}"
            ),
            summary="Targets: a label is negative",
        )

    # --- what it holds ---------------------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``*batch``."""
        return tuple(self.labels.sample_sizes.shape)

    @property
    def num_targets(self) -> Tensor:
        """``(*batch,)``, ignored ones included."""
        return self.labels.sample_sizes

    @property
    def max_num_targets(self) -> int:
        """G, to which the samples are padded."""
        return self.labels.max_sample_size

    @property
    def mask(self) -> Tensor:
        """``(*batch, G)``, true for targets, false for filler."""
        return self.labels.mask

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
        return self.labels.device

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
        boxes = wide(self.boxes.with_padded_set_to(0).tensor)
        boxes = convert(boxes, self.box_format, box_format)
        return in_unit(boxes, self.normalized, normalized, self.canvas_size)

    def check_labels(self, num_classes: int) -> None:
        """Raise ``ValueError``, naming the sample, unless every label is below ``num_classes``."""
        check_count(num_classes, "num_classes")
        check_values(
            (self.labels.tensor < num_classes) | ~self.matchable,
            lambda at: (
                f"label {int(self.labels.tensor[at])} at position {at[-1]} of {sample_name(at[:-1])} "
                f"is out of range for {num_classes} classes; labels count from 0"
            ),
            summary="Targets: a label is not below the number of classes",
        )

    # --- other forms -----------------------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> Targets:
        """On another device, or with boxes and weights of another floating dtype; arguments as ``torch.Tensor.to``."""
        boxes = self.boxes.to(*args, **kwargs)
        return replace(
            self,
            boxes=boxes,
            labels=self.labels.to_device(boxes.device),
            weights=None if self.weights is None else self.weights.to(*args, **kwargs),
            ignore=None if self.ignore is None else self.ignore.to_device(boxes.device),
            canvas_size=None if self.canvas_size is None else self.canvas_size.to(boxes.device),
        )

    def to_dicts(self) -> list[dict[str, Tensor]]:
        """One dict per image: ``"boxes"`` (n, 4) and ``"labels"`` (n,), and ``"weights"`` and ``"ignore"`` if known.

        Boxes keep their format. Several batch dimensions are flattened. Synchronises on an accelerator.

        >>> Targets.of([{"boxes": torch.tensor([[0.0, 0.0, 1.0, 2.0]]), "labels": torch.tensor([3])}]).to_dicts()
        [{'boxes': tensor([[0., 0., 1., 2.]]), 'labels': tensor([3])}]
        """
        parts = {name: _flat(batch).split() for name, batch in self._fields().items()}
        return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]

    def with_max_num_targets(self, max_size: int) -> Targets:
        """The same targets with another amount of padding: room for ``max_size`` in each image.

        Batches of one size make one graph of ``torch.compile`` or CUDA; of a few sizes, a few.

        Raises:
            ValueError: An image has more targets.

        >>> Targets.of([{"boxes": torch.zeros(1, 4), "labels": torch.tensor([3])}]).with_max_num_targets(8).boxes.shape
        torch.Size([1, 8, 4])
        """
        fields: dict[str, Any] = {name: batch.with_max_sample_size(max_size) for name, batch in self._fields().items()}
        return replace(self, **fields)

    def _fields(self) -> dict[str, RaggedBatch]:
        """The batches of targets that there are."""
        fields = {name: getattr(self, name) for name in ("boxes", "labels", "weights", "ignore")}
        return {name: batch for name, batch in fields.items() if batch is not None}

    def pin_memory(self, device: torch.device | str | None = None) -> Targets:
        """In page-locked memory, where a DataLoader puts what has this method. ``device`` is no longer needed."""
        return pytree.tree_map(lambda tensor: tensor.pin_memory(), self)

    def __getitem__(self, item: Any) -> NoReturn:
        # It is also what ``for`` tries.
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

    def _repr_html_(self) -> str:
        unit = "in fractions of the image" if self.normalized else "in pixels"
        return notebook.targets_as_html(self.boxes, self.labels, self.ignored, f"{self.box_format}, {unit}")

    # --- checks ----------------------------------------------------------------------------------------------------

    def _check_field(self, name: str, batch: RaggedBatch | None) -> None:
        if batch is None and name in ("weights", "ignore"):
            return None
        if not isinstance(batch, RaggedBatch):
            raise TypeError(f"{name} must be a RaggedBatch, got {type(batch).__name__}; Targets.of reads other layouts")
        if batch.ragged_axis != 0 or batch.dim() != batch.num_batch_dims + (2 if name == "boxes" else 1):
            wanted = "(*batch, G, 4)" if name == "boxes" else "(*batch, G)"
            raise ValueError(f"{name} must have shape {wanted}, ragged along G, got {tuple(batch.shape)}")
        if name == "boxes":
            return check_boxes(batch.tensor, "boxes")
        check_same_device(batch.device, self.boxes.device, name=name, reference="boxes")
        check_same_sizes(batch, self.boxes, what=f"{name} and boxes")
        if batch.max_sample_size != self.boxes.max_sample_size:
            raise ValueError(
                f"{name} are padded to {batch.max_sample_size} targets, boxes to {self.boxes.max_sample_size}"
            )
        return None

    def _canvas(self, canvas_size: Any) -> Tensor:
        if not isinstance(canvas_size, (Tensor, np.ndarray)):
            check_is_sequence(canvas_size, "canvas_size", "numbers, height and width, or a tensor")
        try:
            size = torch.as_tensor(canvas_size, dtype=torch.float32, device=self.device)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise TypeError(f"canvas_size must be numbers, height and width: {error}") from None
        check_is_tensor(size, "canvas_size")
        if size.shape not in ((2,), (*self.batch_shape, 2)):
            raise ValueError(
                f"canvas_size must be height and width, shape (2,) or {(*self.batch_shape, 2)}, got {tuple(size.shape)}"
            )
        check_values(
            (size > 0) & size.isfinite(),
            lambda at: f"canvas_size must be positive and finite, got {size[at[:-1]].tolist()}",
            summary="Targets: canvas_size is not positive and finite",
        )
        return size.expand(*self.batch_shape, 2)

    def _check_boxes(self) -> None:
        boxes = wide(self.boxes.with_padded_set_to(0).tensor.detach())
        size = boxes[..., 2:] - boxes[..., :2] if self.box_format == "xyxy" else boxes[..., 2:]
        ok = ((size >= 0) & boxes[..., :2].isfinite() & size.isfinite()).all(-1)
        if self.normalized:
            ok = ok & ((boxes >= -_SLACK) & (boxes <= 1 + _SLACK)).all(-1)

        def message(at: tuple[int, ...]) -> str:
            box = boxes[at]
            where = f"box {[round(value, 4) for value in box.tolist()]} at position {at[-1]} of {sample_name(at[:-1])}"
            if not box.isfinite().all():
                return f"{where} is not finite"
            if (size[at] < 0).any():
                if self.box_format == "xyxy":
                    return f"{where} has x2 < x1 or y2 < y1; is box_format='xyxy' right, or is it 'cxcywh' or 'xywh'?"
                return f"{where} has a negative width or height"
            return (
                f"{where} lies far from [0, 1]; is normalized=True right, or are the boxes in pixels? "
                "Of those, make Targets.of(…, normalized=False, canvas_size=(height, width))"
            )

        check_values(ok, message, summary="Targets: a box is not finite, has a negative side, or is not normalised")


def _flat(batch: RaggedBatch) -> RaggedBatch:
    return batch if batch.num_batch_dims == 1 else batch.flatten_batch_dims()


register_dataclass(Targets, constants=("box_format", "normalized"), kept=("boxes", "weights", "canvas_size"))
