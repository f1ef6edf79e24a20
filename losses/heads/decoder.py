"""The output of a detection transformer: the predictions of its layers, those that fit together in one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from losses.functional.numerics import check_floating, check_scores, check_shape
from matchers.assignments.denoising import read_meta
from matchers.geometry.boxes import check_boxes
from matchers.pairs.padded import padded
from matchers.pairs.predictions import Predictions
from matchers.targets.known_keys import DECODER_LAYER, DECODER_OUTPUTS, PLAIN_DECODER_LAYER, PLAIN_DECODER_OUTPUTS
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_flag, check_positive, check_same_device

# Where layers stand in the output, what their terms are called, and whether they are of denoising queries.
_LISTS = (
    ("aux_outputs", "_aux_{}", False),
    ("pre_outputs", "_pre", False),
    ("enc_aux_outputs", "_enc_{}", False),
    ("dn_aux_outputs", "_dn_{}", True),
    ("dn_outputs", "_dn_{}", True),
    ("dn_pre_outputs", "_dn_pre", True),
)
_OPTIONAL = ("pred_corners", "ref_points", "teacher_corners", "teacher_logits")


@dataclass(frozen=True, eq=False)
class DecoderLayers:
    """Layers of equal shape: L layers, B images, Q queries.

    Args:
        suffixes: Of the names of their terms, "" for the last layer.
        logits: (L, B, Q, C).
        boxes: (L, B, Q, 4), cxcywh, in fractions of the image.
        extras: Of each layer, what else it gives, by name.
        denoising: Whether the queries are made from the targets.
        sizes: (L, B), how many of Q queries each image has, where they are ragged: filler is 0. None if all have Q.
    """

    suffixes: tuple[str, ...]
    logits: Tensor
    boxes: Tensor
    extras: tuple[Mapping[str, Tensor], ...]
    denoising: bool
    sizes: Tensor | None = None

    def predictions(self) -> Predictions:
        """Logits and boxes."""
        return Predictions._of_padded(
            self.sizes, logits=self.logits, boxes=self.boxes, box_format="cxcywh", normalized=True
        )


@dataclass(frozen=True, eq=False)
class DecoderOutputs:
    """All layers of a detection transformer, in groups of equal shape; the group of the last layer comes first.

    >>> layer = {"pred_logits": torch.zeros(1, 5, 3), "pred_boxes": torch.rand(1, 5, 4)}
    >>> read = DecoderOutputs.of({**layer, "aux_outputs": [layer, layer]}, num_classes=3)
    >>> [group.suffixes for group in read.groups], read.groups[0].logits.shape
    ([('', '_aux_0', '_aux_1')], torch.Size([3, 1, 5, 3]))
    """

    groups: tuple[DecoderLayers, ...]
    dn_meta: Mapping[str, Any] | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, outputs: Any, *, num_classes: int, distributions: bool = True) -> DecoderOutputs:
        """Read the output of a model.

        Args:
            outputs: A dict with ``"pred_logits"`` (B, Q, C) and ``"pred_boxes"`` (B, Q, 4), and optionally dicts of the
                same, or lists of them: ``"aux_outputs"``, ``"pre_outputs"``, ``"enc_aux_outputs"``, and of denoising
                queries ``"dn_aux_outputs"`` or ``"dn_outputs"`` and ``"dn_pre_outputs"`` with ``"dn_meta"``. It is not
                changed. States of a model, such as ``"last_hidden_state"``, are left alone. Where images differ in
                their number of queries, all that a layer gives is ragged along Q, with the same sizes.
            num_classes: C.
            distributions: Whether boxes as distributions, ``"pred_corners"`` and what belongs to them, are read.

        Raises:
            TypeError: Something is of the wrong kind.
            KeyError: A key is missing, or nobody reads it.
            ValueError: Shapes do not fit; or denoising queries stand among those of the last layer.
        """
        check_positive(num_classes, "num_classes")
        check_flag(distributions, "distributions")
        if isinstance(outputs, DecoderOutputs):
            outputs.check_num_classes(num_classes)
            if not distributions and any(extra for group in outputs.groups for extra in group.extras):
                raise ValueError("outputs were read with distributions, of which only DFINECriterion learns")
            return outputs
        if not isinstance(outputs, Mapping):
            raise TypeError(f"outputs must be a dict, got {type(outputs).__name__}")
        keys = (DECODER_OUTPUTS, DECODER_LAYER) if distributions else (PLAIN_DECODER_OUTPUTS, PLAIN_DECODER_LAYER)
        keys[0].check(outputs, "outputs")
        layers = [("", outputs, "outputs", False)]
        for key, suffix, denoising in _LISTS:
            given = outputs.get(key)
            if given is None:
                continue
            several = not isinstance(given, Mapping)
            if several != suffix.endswith("{}") or (several and not isinstance(given, Sequence)):
                wanted = "a list of dicts, one for each layer" if suffix.endswith("{}") else "a dict"
                raise TypeError(f"outputs[{key!r}] must be {wanted}, got {type(given).__name__}")
            for index, layer in enumerate(given if several else [given]):
                layers.append((suffix.format(index), layer, f"outputs[{key!r}]" + f"[{index}]" * several, denoising))
        read = [_padded(*layer) for layer in layers]
        for _, layer, where, *_ in read:
            _check_layer(layer, outputs, where, num_classes)
            _check_extras(layer, where)
        for _, layer, where, *_ in read[1:]:
            keys[1].check(layer, where)
        _check_denoising(outputs, any(layer[3] for layer in layers))
        constants = {key: outputs[key] for key in ("up", "reg_scale") if key in outputs}
        return cls(_grouped(read), outputs.get("dn_meta"), constants)

    def check_num_classes(self, num_classes: int) -> None:
        """Raise ``ValueError`` unless all layers have so many classes."""
        for group in self.groups:
            shape = (*group.logits.shape[:-1], num_classes)
            check_shape(group.logits, shape, "pred_logits", f"num_classes = {num_classes}")


def _check_denoising(outputs: Mapping[str, Any], has_layers: bool) -> None:
    """Raise unless denoising queries, their description, and the queries of the last layer fit each other."""
    if "dn_outputs" in outputs and "dn_aux_outputs" in outputs:
        raise KeyError("outputs have both 'dn_outputs' and 'dn_aux_outputs', whose terms have the same names: give one")
    meta = outputs.get("dn_meta")
    if has_layers and "dn_meta" not in outputs:
        raise KeyError(f"outputs of denoising queries need 'dn_meta', got {list(outputs)}")
    own, _, _ = read_meta(meta)
    queries = outputs["pred_logits"].shape[1]
    if meta is None or not own:
        return
    if queries != meta["dn_num_split"][1]:
        raise ValueError(
            f"pred_logits of outputs are of {queries} queries, but dn_num_split is {list(meta['dn_num_split'])}: "
            "outputs hold the queries that are matched, and dn_outputs those of denoising; split them first"
        )
    if not has_layers:
        raise KeyError(
            f"outputs have 'dn_meta' of {own} denoising queries, but none of "
            f"{', '.join(repr(key) for key, _, denoising in _LISTS if denoising)}: nothing would be learned from them"
        )


def _check_extras(layer: Mapping[str, Any], where: str) -> None:
    """Of what a layer gives besides, the shapes that are the same for all criteria."""
    logits = layer["pred_logits"]
    for key in _OPTIONAL:
        value = layer.get(key)
        if value is None:
            continue
        check_floating(value, f"{key} of {where}")
        last = {"ref_points": 4, "teacher_logits": logits.shape[-1]}.get(key, "4 * R")
        if value.dim() != 3 or value.shape[:2] != logits.shape[:2] or last not in (value.shape[-1], "4 * R"):
            expected = ", ".join(map(str, (*logits.shape[:2], last)))
            raise ValueError(f"{key} of {where} must have shape ({expected}), got {tuple(value.shape)}")
        check_same_device(value.device, logits.device, name=f"{key} of {where}", reference="pred_logits")


_Layer = tuple[str, Mapping[str, Tensor], str, bool, Tensor | None]


def _padded(suffix: str, layer: Any, where: str, denoising: bool) -> _Layer:
    """A layer whose tensors are padded, and the sizes of its ragged queries."""
    if not isinstance(layer, Mapping):
        return suffix, layer, where, denoising, None  # which is refused
    given = {key: layer[key] for key in ("pred_logits", "pred_boxes", *_OPTIONAL) if layer.get(key) is not None}
    try:
        parts, sizes = padded(given)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if sizes is None:
        return suffix, layer, where, denoising, None
    if denoising:
        raise ValueError(f"{where} are of denoising queries, whose filler is known of dn_meta: give tensors")
    if sizes.dim() != 1:
        raise ValueError(f"{where} must be ragged along Q in (B, Q, …), got sizes of shape {tuple(sizes.shape)}")
    return suffix, {**layer, **parts}, where, denoising, sizes


def _grouped(layers: Sequence[_Layer]) -> tuple[DecoderLayers, ...]:
    groups: list[list[_Layer]] = []
    for layer in layers:
        for group in groups:
            if _are_alike(group[0], layer):
                group.append(layer)
                break
        else:
            groups.append([layer])
    return tuple(
        DecoderLayers(
            tuple(suffix for suffix, *_ in group),
            torch.stack([layer["pred_logits"] for _, layer, *_ in group]),
            torch.stack([layer["pred_boxes"] for _, layer, *_ in group]),
            tuple({key: layer[key] for key in _OPTIONAL if layer.get(key) is not None} for _, layer, *_ in group),
            group[0][3],
            None if group[0][4] is None else torch.stack([sizes for *_, sizes in group if sizes is not None]),
        )
        for group in groups
    )


def _are_alike(one: _Layer, other: _Layer) -> bool:
    """Whether layers can be stacked. Sizes are compared, not hashed: that would fix them in a compiled graph."""
    (_, first, _, *kind), (_, second, _, *other_kind) = one, other
    same_kind = kind[0] == other_kind[0] and (kind[1] is None) == (other_kind[1] is None)
    return same_kind and all(
        first[key].shape == second[key].shape and first[key].dtype == second[key].dtype
        for key in ("pred_logits", "pred_boxes")
    )


def _check_layer(layer: Any, last: Mapping[str, Any], where: str, num_classes: int) -> None:
    if not isinstance(layer, Mapping):
        raise TypeError(f"{where} must be a dict, got {type(layer).__name__}")
    for key in ("pred_logits", "pred_boxes"):
        if key not in layer:
            raise KeyError(f"{where} must have {key!r}, got {list(layer)}")
    logits, boxes = layer["pred_logits"], layer["pred_boxes"]
    check_scores(logits, f"pred_logits of {where}")
    check_boxes(boxes, f"pred_boxes of {where}")
    if logits.dim() != 3 or logits.shape[-1] != num_classes:
        raise ValueError(
            f"pred_logits of {where} must have shape (B, Q, {num_classes}), got {tuple(logits.shape)}; "
            "num_classes counts no background"
        )
    if boxes.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"pred_boxes of {where} must have shape {(*logits.shape[:-1], 4)}, as pred_logits have it, "
            f"got {tuple(boxes.shape)}"
        )
    if logits.shape[0] != last["pred_logits"].shape[0]:
        raise ValueError(
            f"pred_logits of {where} are of {logits.shape[0]} images, those of the last layer of "
            f"{last['pred_logits'].shape[0]}"
        )
    check_same_device(boxes.device, logits.device, name=f"pred_boxes of {where}", reference="its pred_logits")


register_dataclass(DecoderLayers, constants=("suffixes", "denoising"))
register_dataclass(DecoderOutputs)
