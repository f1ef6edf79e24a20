"""What is asked of the output of a detection transformer before it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from losses.functional.numerics import check_floating, check_scores
from matchers.assignments.denoising_layout import read_meta
from matchers.geometry.boxes import check_boxes
from matchers.targets.known_keys import ENCODER
from ragged.values.checks import check_flag, check_same_device

EXTRAS = ("pred_corners", "ref_points", "teacher_corners", "teacher_logits")
"""The optional outputs of a layer besides logits and boxes."""


def check_is_layer(layer: Any, where: str) -> None:
    """Raise ``TypeError`` unless this is a dict."""
    if not isinstance(layer, Mapping):
        raise TypeError(f"{where} must be a dict, got {type(layer).__name__}")


def check_layer(
    layer: Mapping[str, Any],
    last: Mapping[str, Any],
    where: str,
    num_classes: int,
    has_background: bool,
    may_be_agnostic: bool,
) -> None:
    """Raise unless a layer has logits and boxes whose shapes fit each other, and those of the last layer."""
    for key in ("pred_logits", "pred_boxes"):
        if key not in layer:
            raise KeyError(f"{where} must have {key!r}, got {list(layer)}")
    logits, boxes = layer["pred_logits"], layer["pred_boxes"]
    check_scores(logits, f"pred_logits of {where}")
    check_boxes(boxes, f"pred_boxes of {where}")
    if logits.dim() != 3 or logits.shape[-1] != num_classes + has_background:
        classes = "num_classes counts no background"
        if has_background:
            classes += ", which this loss_cls has as its last class"
        if may_be_agnostic:
            classes += f"; an encoder that asks for no class has a last dimension of {1 + has_background}"
        raise ValueError(
            f"pred_logits of {where} must have shape (B, Q, {num_classes + has_background}), "
            f"got {tuple(logits.shape)}; {classes}"
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


def check_denoising(outputs: Mapping[str, Any], last: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise unless denoising queries, their description, and the queries of the last layer fit each other."""
    if "dn_outputs" in outputs and "dn_aux_outputs" in outputs:
        raise KeyError("outputs have both 'dn_outputs' and 'dn_aux_outputs', whose terms have the same names: give one")
    has_layers = any(outputs.get(key) for key in keys)
    meta = outputs.get("dn_meta")
    if has_layers and "dn_meta" not in outputs:
        raise KeyError(f"outputs of denoising queries need 'dn_meta', got {list(outputs)}")
    own = read_meta(meta)[0]
    queries = last["pred_logits"].shape[1]
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
            f"{', '.join(map(repr, keys))}: nothing would be learned from them"
        )


def check_extras(layer: Mapping[str, Any], where: str) -> None:
    """Of what a layer gives besides, the shapes that are the same for all criteria."""
    logits = layer["pred_logits"]
    for key in EXTRAS:
        value = layer.get(key)
        if value is None:
            continue
        check_floating(value, f"{key} of {where}")
        last = {"ref_points": 4, "teacher_logits": logits.shape[-1]}.get(key, "4 * R")
        if value.dim() != 3 or value.shape[:2] != logits.shape[:2] or last not in (value.shape[-1], "4 * R"):
            expected = ", ".join(map(str, (*logits.shape[:2], last)))
            raise ValueError(f"{key} of {where} must have shape ({expected}), got {tuple(value.shape)}")
        check_same_device(value.device, logits.device, name=f"{key} of {where}", reference="pred_logits")


def is_agnostic(
    layer: Mapping[str, Any], outputs: Mapping[str, Any], num_classes: int, has_background: bool, asked: bool
) -> bool:
    """Whether the encoder asks for no class: as ``"enc_meta"`` says, or by flag, or because it has one channel only."""
    meta = outputs.get("enc_meta")
    if meta is not None:
        if not isinstance(meta, Mapping):
            raise TypeError(f"outputs['enc_meta'] must be a dict, got {type(meta).__name__}")
        ENCODER.check(meta, "enc_meta")
        if "class_agnostic" in meta:
            check_flag(meta["class_agnostic"], "class_agnostic of enc_meta")
            return bool(meta["class_agnostic"])
    logits = layer.get("pred_logits")
    single = isinstance(logits, Tensor) and logits.dim() == 3 and logits.shape[-1] == 1 + has_background
    return asked or (single and num_classes > 1)
