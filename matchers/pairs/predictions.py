"""The predictions of a detector for a batch of images, in the form that matchers and criteria read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers.geometry.boxes import check_boxes, check_format
from matchers.pairs.padded import padded
from matchers.targets import known_keys, notebook
from matchers.targets.values import check_names_of_fields, checked_names, fields_of
from ragged import RaggedBatch, combine_data
from ragged.batch.notebook import Shown
from ragged.interop.registration import register_dataclass
from ragged.values.checks import all_equal, check_flag, check_is_tensor
from ragged.values.sizes import prefix_mask

_TAKEN = frozenset(("logits", "boxes", "objectness", "fields"))
KEYS = {"pred_logits": "logits", "pred_boxes": "boxes", "pred_objectness": "objectness"}


@dataclass(frozen=True, eq=False)
class Predictions:
    """P predictions for each image: class logits, boxes, and an objectness logit where the detector has one.

    ``*batch`` can have more leading dimensions than the targets (decoder layers, for example); targets broadcast.

    Images may differ in their number of predictions: give ragged batches, all with the same sizes. The attributes are
    padded tensors then, with 0 in the filler, which gets no gradient. No matcher matches it: in an ``Assignment`` it is
    ``IGNORED``, in a ``Plan`` it has no mass.

    Args:
        logits: ``(*batch, P, C)``, before sigmoid or softmax. None if classes play no role.
        boxes: ``(*batch, P, 4)``, decoded. None if a matcher looks at priors alone.
        objectness: ``(*batch, P)``, logits; a last dimension of 1 is dropped.
        box_format: ``"xyxy"``, ``"cxcywh"`` or ``"xywh"``. None means the format of the targets.
        normalized: Whether boxes are fractions of the image. None means as the targets are.
        fields: What else is predicted, tensors ``(*batch, P, …)`` by name, of any dtype: for costs of your own. Without
            logits and boxes, tensors have one batch dimension; ragged batches say how many they have.

    Attributes:
        sizes: ``(*batch,)``, int64: how many of the P predictions each image has, where they are ragged; else None.

    Raises:
        TypeError: A part is not a tensor, or logits, boxes or objectness are not floating.
        ValueError: Shapes or sizes do not match, or there are neither logits, boxes nor fields.

    >>> Predictions(torch.randn(2, 100, 80), torch.rand(2, 100, 4), box_format="cxcywh").num_predictions
    100
    >>> Predictions(combine_data([torch.randn(3, 80), torch.randn(1, 80)])).sizes
    tensor([3, 1])
    """

    # Hints leave out None: who asks for logits or boxes has them.
    logits: Tensor = None  # type: ignore[assignment]
    boxes: Tensor = None  # type: ignore[assignment]
    objectness: Tensor | None = None
    box_format: str | None = None
    normalized: bool | None = None
    fields: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Tensor | None = field(default=None, init=False)

    if TYPE_CHECKING:  # what is given may be ragged, the attributes are not

        def __init__(
            self,
            logits: Tensor | RaggedBatch | None = None,
            boxes: Tensor | RaggedBatch | None = None,
            objectness: Tensor | RaggedBatch | None = None,
            box_format: str | None = None,
            normalized: bool | None = None,
            fields: Mapping[str, Tensor | RaggedBatch] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        check_names_of_fields(self.fields, _TAKEN, "tensors")
        own = {name: getattr(self, name) for name in ("logits", "boxes", "objectness")}
        parts, sizes = padded({**own, **self.fields})
        object.__setattr__(self, "fields", {name: parts[name] for name in self.fields})
        if sizes is not None:
            for name in own:
                object.__setattr__(self, name, parts[name])
            object.__setattr__(self, "sizes", sizes)
        if self.box_format is not None:
            check_format(self.box_format)
        if self.normalized is not None:
            check_flag(self.normalized, "normalized")
        if self.boxes is not None:
            check_boxes(self.boxes, "predicted boxes")
        for name in ("logits", "objectness"):
            value = getattr(self, name)
            if value is None:
                continue
            check_is_tensor(value, name)
            if not value.is_floating_point():
                raise TypeError(f"{name} must be a floating tensor, got {value.dtype}")
        for name, value in self.fields.items():
            check_is_tensor(value, f"the field {name!r}")
            if value.dim() < 2:
                raise ValueError(f"the field {name!r} must have shape (*batch, P, …), got {tuple(value.shape)}")
        if self.logits is None and self.boxes is None and not self.fields:
            raise ValueError("predictions need logits, boxes or fields, got none of them")
        self._check_shapes()

    def _check_shapes(self) -> None:
        if self.objectness is not None and tuple(self.objectness.shape) == (*self._leading, 1):
            object.__setattr__(self, "objectness", self.objectness.squeeze(-1))
        known = (self.logits, self.boxes, self.objectness, *self.fields.values())
        devices = {value.device for value in known if value is not None}
        if len(devices) > 1:
            raise ValueError(f"predictions must be on one device, got {', '.join(sorted(map(str, devices)))}")
        if self.sizes is not None and self.sizes.dim() != len(self.batch_shape):
            raise ValueError(
                f"the predictions of shape {self._leading} must be ragged along P, after the batch dimensions, got "
                f"sizes of shape {tuple(self.sizes.shape)}"
            )
        shapes = {"logits (*batch, P, C)": self.logits, "boxes (*batch, P, 4)": self.boxes}
        leading = {name: tuple(value.shape[:-1]) for name, value in shapes.items() if value is not None}
        if self.objectness is not None:
            leading["objectness (*batch, P)"] = tuple(self.objectness.shape)
        if leading and (not all_equal(leading.values()) or not self._leading):
            listed = ", ".join(f"{shape} of {name}" for name, shape in leading.items())
            raise ValueError(f"predictions must agree in (*batch, P), got {listed}")
        for name, value in self.fields.items():
            if tuple(value.shape[: len(self._leading)]) != self._leading:
                raise ValueError(
                    f"the field {name!r} must begin with (*batch, P) = {self._leading}, got {tuple(value.shape)}"
                )

    @property
    def _reference(self) -> Tensor:
        known = (self.boxes, self.logits, *self.fields.values())
        return next(value for value in known if value is not None)

    @property
    def _leading(self) -> tuple[int, ...]:
        # Fields alone do not say how many batch dimensions there are, unless they are ragged: one, then.
        if self.boxes is None and self.logits is None:
            return tuple(self._reference.shape[: 2 if self.sizes is None else self.sizes.dim() + 1])
        return tuple(self._reference.shape[:-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """``*batch``."""
        return self._leading[:-1]

    @property
    def num_predictions(self) -> int:
        """P."""
        return self._leading[-1]

    @property
    def device(self) -> torch.device:
        """Where the predictions are."""
        return self._reference.device

    @property
    def mask(self) -> Tensor | None:
        """``(*batch, P)``, true for predictions, false for filler; None if all images have P."""
        return None if self.sizes is None else prefix_mask(self.sizes, self.num_predictions)

    def as_batch(self, name: str) -> RaggedBatch:
        """Logits, boxes, objectness or a field, by name, as a batch ``(*batch, P, …)``.

        Ragged as the predictions are; where all images have P, every entry is valid.

        Raises:
            ValueError: Predictions have no part of this name; the message lists their parts.

        >>> ids = combine_data([torch.tensor([4, -1]), torch.tensor([7])])
        >>> Predictions(fields={"ids": ids}).as_batch("ids").split()
        [tensor([ 4, -1]), tensor([7])]
        """
        own = {"logits": self.logits, "boxes": self.boxes, "objectness": self.objectness, **self.fields}
        known = {key: value for key, value in own.items() if value is not None}
        if name not in known:
            raise ValueError(f"predictions have no {name!r}, but {list(known)}")
        if self.sizes is None:
            return RaggedBatch.from_full_tensor(known[name], num_batch_dims=len(self.batch_shape))
        return RaggedBatch._unchecked(known[name], prefix_mask(self.sizes, self.num_predictions), self.sizes, 0)

    def to(self, *args: Any, **kwargs: Any) -> Predictions:
        """On another device, or in another floating dtype; arguments as ``torch.Tensor.to``."""
        moved = pytree.tree_map(lambda tensor: tensor.to(*args, **kwargs), self)
        if self.sizes is not None:
            object.__setattr__(moved, "sizes", self.sizes.to(moved.device))
        return moved

    # --- for people ------------------------------------------------------------------------------------------------

    def _shown(self) -> Shown:
        own = {"logits": self.logits, "boxes": self.boxes, "objectness": self.objectness, **self.fields}
        known = {name: value for name, value in own.items() if value is not None}
        unit = notebook.unit_of(self.box_format, self.normalized)
        return notebook.shown_predictions(known, self.batch_shape, self.sizes, unit)

    def __repr__(self) -> str:
        return self._shown().text()

    def _repr_html_(self) -> str:
        return self._shown().html()

    @classmethod
    def _of_padded(cls, sizes: Tensor | None, **parts: Any) -> Predictions:
        """Of padded tensors whose filler is clean."""
        made = cls(**parts)
        object.__setattr__(made, "sizes", sizes)
        return made

    @classmethod
    def of(
        cls, source: Predictions | Mapping[str, Any] | Sequence[Mapping[str, Any]], *, fields: Sequence[str] = ()
    ) -> Predictions:
        """Read predictions in any of the usual forms.

        Args:
            source: A ``Predictions``; a dict with ``"pred_logits"``, ``"pred_boxes"`` and, if there is one,
                ``"pred_objectness"``; or a list of such dicts, one per image, of any number of predictions. States of a
                model, such as ``"last_hidden_state"``, are left alone.
            fields: Other keys to keep, such as ``("keypoints",)``: each ``(*batch, P, …)``.

        Raises:
            KeyError: A dict has an unknown key, such as ``"logits"`` or ``"aux_outputs"``.
            TypeError, ValueError: As the class; dicts differ in keys or shapes.

        >>> Predictions.of({"pred_logits": torch.randn(2, 5, 3), "pred_boxes": torch.rand(2, 5, 4)}).batch_shape
        (2,)
        """
        own = checked_names(fields)
        if isinstance(source, Predictions):
            if own:
                raise TypeError("predictions that are read already have their fields: leave fields= out")
            return source
        keys = (*KEYS, *own)
        if isinstance(source, Mapping):
            known_keys.PREDICTIONS.and_read(*own).check(source, "the dict of predictions")
            given = fields_of(source, own, "predictions have")
            parts = {name: source[key] for key, name in KEYS.items() if source.get(key) is not None}
            if not parts and not own:
                raise ValueError(f"predictions need one of the keys {list(KEYS)}, got {list(source)}")
            return cls(**parts, fields=given)
        if isinstance(source, Sequence) and source and all(isinstance(item, Mapping) for item in source):
            return cls.of(_stacked(source, keys, own), fields=own)
        raise TypeError(f"predictions must be Predictions, a dict or a list of dicts, got {type(source).__name__}")


def _stacked(
    items: Sequence[Mapping[str, Any]], keys: Sequence[str], fields: Sequence[str]
) -> dict[str, Tensor | RaggedBatch]:
    """The predictions of images, with the first dimension B; ragged if their numbers differ."""
    present = [key for key in keys if key in items[0]]
    for index, item in enumerate(items):
        known_keys.PREDICTIONS.and_read(*fields).check(item, f"the predictions of sample {index}")
        for key in present:
            if key not in item:
                raise ValueError(f"the predictions of sample {index} have no {key!r}")
            check_is_tensor(item[key], f"{key!r} of sample {index}")
            if item[key].shape[1:] != items[0][key].shape[1:] or item[key].dim() != items[0][key].dim():
                raise ValueError(
                    f"{key!r} of sample {index} has shape {tuple(item[key].shape)}, "
                    f"that of sample 0 {tuple(items[0][key].shape)}"
                )
        strange = [key for key in keys if key in item and key not in present]
        if strange:
            raise ValueError(f"the predictions of sample {index} have {strange[0]!r}, those of sample 0 do not")
    columns = {key: [item[key] for item in items] for key in present}
    if all(all_equal([tuple(value.shape) for value in column]) for column in columns.values()):
        return {key: torch.stack(column) for key, column in columns.items()}
    return {key: combine_data(column) for key, column in columns.items()}


register_dataclass(Predictions, constants=("box_format", "normalized"))
