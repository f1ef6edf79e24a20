"""Values of targets: as datasets write them, brought into the dtypes that targets have, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from ragged import RaggedBatch
from ragged.ops.samples import objects_message
from ragged.values.checks import (
    STORED_INTEGER_DTYPES,
    check_is_sequence,
    check_is_tensor,
    check_values,
    sample_name,
)
from ragged.values.once import is_captured, once
from ragged.values.precision import wide
from ragged.values.readable import values_are_readable
from ragged.values.sizes import numbers_on

# How far normalised coordinates may leave [0, 1]: boxes reach beyond the border of an image; those in pixels, farther.
_SLACK = 1.0
AnyTargets = TypeVar("AnyTargets", bound="KnowsSizes")
# Of parts of targets, and how many dimensions there are behind G.
_SHAPES: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "boxes": ("(*batch, G, 4)", (1,)),
    "labels": ("(*batch, G), or (*batch, G, C) if multi-hot", (0, 1)),
    "weights": ("(*batch, G)", (0,)),
    "ignore": ("(*batch, G)", (0,)),
}
AnyRemembering = TypeVar("AnyRemembering", bound="Remembers")
Value = TypeVar("Value")
_DTYPE_OF_NOTHING = {"labels": torch.int64, "ignore": torch.bool, "iscrowd": torch.bool}


class KnowsSizes:
    """Something with ``num_targets`` on an accelerator, whose host may know them without waiting."""

    _seen: ClassVar[tuple[tuple[int, ...], int] | None] = None  # sizes, and the version of the tensor that has them

    @property
    def num_targets(self) -> Tensor:
        """``(*batch,)``."""
        raise NotImplementedError

    @property
    def known_sizes(self) -> tuple[int, ...] | None:
        """``num_targets`` of all images as numbers, if the host can read them, or has seen them before.

        None in a graph that is compiled or captured, which is of no sizes in particular, and once they were written to.
        """
        if torch.compiler.is_compiling() or is_captured(self.num_targets):
            return None
        if values_are_readable(self.num_targets):
            return tuple(self.num_targets.flatten().tolist())
        sizes, version = self._seen or (None, None)
        return sizes if sizes is not None and self.num_targets._version == version else None

    def knowing(self: AnyTargets, sizes: Sequence[int] | None) -> AnyTargets:
        """The same object, which knows its sizes from now on; they are not checked."""
        if sizes is not None and not self.num_targets.is_inference():  # which has no version
            object.__setattr__(self, "_seen", (tuple(sizes), self.num_targets._version))
        return self


class Remembers:
    """Something of which steps of one call ask the same."""

    _computed: ClassVar[dict[str, Any] | None] = None

    def of_one_call(self: AnyRemembering) -> AnyRemembering:
        """The same, which remembers what is computed of it. Nothing may be written into it from now on."""
        if torch.compiler.is_compiling() or self._computed is not None:  # the compiler sees what is computed twice
            return self
        own = object.__new__(type(self))  # a copy of ``copy`` would forget what the host knows
        own.__dict__.update(self.__dict__, _computed={})
        return own

    def remembered(self, name: str, make: Callable[[], Value]) -> Value:
        """What is made, or was made under this name in the same call."""
        return make() if self._computed is None else once(self._computed, name, make)


def as_tensor(item: Any, name: str, index: int) -> Tensor:
    """The data of one image as a tensor; a ``TypeError`` that names the sample if it cannot be one."""
    if isinstance(item, np.ndarray) and item.dtype == object:
        raise TypeError(objects_message(f"{name} of sample {index}"))
    try:
        tensor = torch.as_tensor(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} of sample {index} must be a tensor, an array or a list of numbers: {error}") from None
    if not isinstance(item, (Tensor, np.ndarray)) and tensor.is_floating_point():
        tensor = torch.as_tensor(item, dtype=torch.float32)  # whatever the default dtype is
    if tensor.numel() == 0 and not isinstance(item, Tensor):  # an empty list has no number to tell its dtype by
        tensor = tensor.to(_DTYPE_OF_NOTHING.get(name, torch.float32))
    check_is_tensor(tensor, f"{name} of sample {index}")
    return tensor


def checked_names(fields: Any) -> tuple[str, ...]:
    """Names of fields, as a tuple; raises unless they are a sequence of different words."""
    check_is_sequence(fields, "fields", 'names, such as ("keypoints",)')
    for name in fields:
        if not isinstance(name, str):
            raise TypeError(f"fields must be names, got {name!r}")
    if len(set(fields)) < len(fields):
        raise ValueError(f"fields must be different names, got {', '.join(fields)}")
    return tuple(fields)


def fields_of(source: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, Any]:
    """The named fields of a dict; a ``ValueError`` that lists its keys if one is missing."""
    for name in names:
        if source.get(name) is None:
            raise ValueError(f"{what} no {name!r}, which fields names, but {list(source)}")
    return {name: source[name] for name in names}


def check_names_of_fields(fields: Any, taken: Collection[str], kind: str) -> None:
    """Raise unless ``fields`` is a dict whose names are words, and none of those ``taken``."""
    if not isinstance(fields, Mapping):
        raise TypeError(f"fields must be a dict of {kind}, got {type(fields).__name__}")
    for name in fields:
        if not isinstance(name, str) or name in taken:
            raise ValueError(f"a field cannot be named {name!r}: give another name, not one of {sorted(taken)}")


def flags_of(values: Any, name: str, *, counts: Tensor | None = None) -> Tensor:
    """Booleans, also if they are written as 0 and 1; ``counts`` says which are looked at, by default all."""
    check_is_tensor(values, name)
    if values.dtype == torch.bool:
        return values
    if values.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(f"{name} must be a boolean or integer tensor, got {values.dtype}")
    values = values.to(torch.int64)
    check_values(
        (values == 0) | (values == 1),
        lambda at: f"{name} must be True or 1, or False or 0, got {int(values[at])} at {at}",
        summary=f"targets: {name} is neither 0 nor 1",
        counts=counts,
    )
    return values == 1


def exact_integers(values: Tensor, what: str) -> Tensor:
    """Whole numbers of any dtype as int64; a ``ValueError`` where a floating dtype cannot tell them from others."""
    if not values.is_floating_point():
        return values.to(torch.int64)
    limit = 2 / torch.finfo(values.dtype).eps
    check_values(
        ~(values >= limit),  # what is not a number is for others to refuse
        lambda at: (
            f"the {what} {values[at].item():g} at {at} cannot be told from its neighbours in {values.dtype}: give "
            "integers, or float32"
        ),
        summary=f"targets: a {what} is too large for its dtype",
    )
    return values.to(torch.int64)


def checked_canvas(canvas_size: Any, batch_shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Height and width of each image in pixels, ``(*batch, 2)``, float32; raises unless they are some."""
    if not isinstance(canvas_size, (Tensor, np.ndarray)):
        check_is_sequence(canvas_size, "canvas_size", "numbers, height and width, or a tensor")
    try:
        size = numbers_on(device, canvas_size, torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"canvas_size must be numbers, height and width: {error}") from None
    check_is_tensor(size, "canvas_size")
    if size.shape not in ((2,), (*batch_shape, 2)):
        raise ValueError(
            f"canvas_size must be height and width, shape (2,) or {(*batch_shape, 2)}, got {tuple(size.shape)}"
        )
    check_values(
        (size > 0) & size.isfinite(),
        lambda at: f"canvas_size must be positive and finite, got {size[at[:-1]].tolist()}",
        summary="Targets: canvas_size is not positive and finite",
    )
    return size.expand(*batch_shape, 2)


def checked_part(name: str, batch: Any) -> RaggedBatch:
    """What targets have under a name; raises unless it is a batch of the shape that it must have there."""
    if not isinstance(batch, RaggedBatch):
        raise TypeError(f"{name} must be a RaggedBatch, got {type(batch).__name__}; Targets.of reads other layouts")
    wanted, dims = _SHAPES.get(name, ("(*batch, G, …)", None))
    trailing = batch.dim() - batch.num_batch_dims - 1
    if batch.ragged_axis != 0 or (dims is not None and trailing not in dims):
        raise ValueError(f"{name} must have shape {wanted}, ragged along G, got {tuple(batch.shape)}")
    return batch


def check_target_boxes(batch: RaggedBatch, box_format: str, normalized: bool) -> None:
    """Raise ``ValueError``, naming the sample, unless boxes are finite, have sides, and lie where their unit says."""
    boxes = wide(batch.with_padded_set_to(0).tensor.detach())
    size = boxes[..., 2:] - boxes[..., :2] if box_format == "xyxy" else boxes[..., 2:]
    ok = ((size >= 0) & boxes[..., :2].isfinite() & size.isfinite()).all(-1)
    if normalized:
        ok = ok & ((boxes >= -_SLACK) & (boxes <= 1 + _SLACK)).all(-1)

    def message(at: tuple[int, ...]) -> str:
        box = boxes[at]
        where = f"box {[round(value, 4) for value in box.tolist()]} at position {at[-1]} of {sample_name(at[:-1])}"
        if not box.isfinite().all():
            return f"{where} is not finite"
        if (size[at] < 0).any():
            if box_format == "xyxy":
                return f"{where} has x2 < x1 or y2 < y1; is box_format='xyxy' right, or is it 'cxcywh' or 'xywh'?"
            return f"{where} has a negative width or height"
        return (
            f"{where} lies far from [0, 1]; is normalized=True right, or are the boxes in pixels? "
            "Of those, make Targets.of(…, normalized=False, canvas_size=(height, width))"
        )

    check_values(ok, message, summary="Targets: a box is not finite, has a negative side, or is not normalised")


def is_multi_hot(labels: RaggedBatch) -> bool:
    """Whether labels are ``(*batch, G, C)``, how much each class is one of each target, and not one class of each."""
    return labels.dim() > labels.num_batch_dims + 1


def checked_labels(labels: RaggedBatch, matchable: Tensor) -> RaggedBatch:
    """Labels of targets, integers as int64; raises unless those of ``matchable`` targets are some."""
    values = labels.tensor
    if is_multi_hot(labels):
        if values.dtype != torch.bool and not values.is_floating_point():
            raise TypeError(
                f"multi-hot labels {tuple(values.shape)} must be boolean or floating, got {labels.dtype}; integers are "
                "one label of each target, (*batch, G)"
            )
        if values.is_floating_point():
            check_values(
                (values >= 0) & (values <= 1),
                lambda at: (
                    f"multi-hot labels must lie in [0, 1], got {values[at].item():g} of class {at[-1]} "
                    f"at position {at[-2]} of {sample_name(at[:-2])}"
                ),
                summary="Targets: a multi-hot label is not in [0, 1]",
                counts=matchable.unsqueeze(-1),
            )
        return labels
    if labels.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(f"labels must be integers, got {labels.dtype}; multi-hot ones have a shape (*batch, G, C)")
    labels = labels.to_dtype(torch.int64)
    check_values(
        labels.tensor >= 0,
        lambda at: (
            f"labels must not be negative, got {int(labels.tensor[at])} at position {at[-1]} of {sample_name(at[:-1])}"
        ),
        summary="Targets: a label is negative",
        counts=matchable,
    )
    return labels


def check_classes(labels: RaggedBatch, num_classes: int, matchable: Tensor) -> None:
    """Raise ``ValueError`` unless labels of ``matchable`` targets are below the number of classes, or of so many."""
    if is_multi_hot(labels):
        if labels.tensor.shape[-1] != num_classes:
            raise ValueError(
                f"multi-hot labels are of {labels.tensor.shape[-1]} classes, shape {tuple(labels.shape)}, but there "
                f"are {num_classes}; pad positive maps of captions with False to as many tokens as there are logits"
            )
        return
    check_values(
        labels.tensor < num_classes,
        lambda at: (
            f"label {int(labels.tensor[at])} at position {at[-1]} of {sample_name(at[:-1])} "
            f"is out of range for {num_classes} classes; labels count from 0"
        ),
        summary="Targets: a label is not below the number of classes",
        counts=matchable,
    )


def classes_of(label: Tensor) -> list[tuple[int, float]]:
    """The classes of one target, and how much each is one of it: 1 unless its labels are multi-hot and floating."""
    if label.dim() == 0:
        return [(int(label), 1.0)]
    return [(index, float(value)) for index, value in enumerate(label.tolist()) if value > 0]


def text_of(label: Tensor, name: Callable[[int], str] = str) -> str:
    """The classes of one target for people: ``3``, or ``0, 2`` of multi-hot labels, with scores if they are some."""
    found = [name(index) + ("" if value == 1 else f" {value:.2g}") for index, value in classes_of(label)]
    return ", ".join(found) if found else "none"
