"""The output of a detection transformer: the predictions of its layers, those that fit together in one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from losses.functional.numerics import check_shape
from losses.heads.class_masks import checked_class_mask
from losses.heads.decoder_checks import (
    EXTRAS,
    check_denoising,
    check_extras,
    check_is_layer,
    check_layer,
    is_agnostic,
)
from matchers.pairs.padded import padded
from matchers.pairs.predictions import Predictions
from matchers.targets.known_keys import (
    DECODER_LAYER,
    DECODER_OUTPUTS,
    PLAIN_DECODER_LAYER,
    PLAIN_DECODER_OUTPUTS,
    SAME_OF_DECODERS,
    by_own_names,
)
from ragged.interop.registration import register_dataclass
from ragged.values.checks import check_flag, check_positive

# Where layers stand in the output, what their terms are called, and whether they are of denoising queries.
_LISTS = (
    ("aux_outputs", "_aux_{}", False),
    ("pre_outputs", "_pre", False),
    ("enc_aux_outputs", "_enc_{}", False),
    ("enc_outputs", "_enc", False),
    ("interm_outputs", "_interm", False),
    ("dn_aux_outputs", "_dn_{}", True),
    ("dn_outputs", "_dn_{}", True),
    ("dn_pre_outputs", "_dn_pre", True),
)
_OF_ENCODER = ("enc_aux_outputs", "enc_outputs", "interm_outputs")


@dataclass(frozen=True, eq=False)
class DecoderLayers:
    """Layers of equal shape: L layers, B images, Q queries.

    Args:
        suffixes: Suffixes of the term names; ``""`` is the last layer.
        logits: (L, B, Q, C); (L, B, Q, C + 1) with a background class, which is last.
        boxes: (L, B, Q, 4), cxcywh, in fractions of the image.
        extras: Extra outputs of each layer, by name.
        denoising: Whether these are denoising queries.
        sizes: (L, B), how many of Q queries each image has, where they are ragged: filler is 0. None if all have Q.
        agnostic: Whether all targets have class 0 (class-agnostic encoder).
    """

    suffixes: tuple[str, ...]
    logits: Tensor
    boxes: Tensor
    extras: tuple[Mapping[str, Tensor], ...]
    denoising: bool
    sizes: Tensor | None = None
    agnostic: bool = False

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
    class_mask: Tensor | None = None

    @classmethod
    def of(
        cls,
        outputs: Any,
        *,
        num_classes: int,
        distributions: bool = True,
        has_background: bool = False,
        agnostic_encoder: bool = False,
    ) -> DecoderOutputs:
        """Read the output of a model.

        Args:
            outputs: A dict with ``"pred_logits"`` (B, Q, C) and ``"pred_boxes"`` (B, Q, 4), and optionally dicts of the
                same, or lists of them: ``"aux_outputs"``, ``"pre_outputs"``, ``"enc_aux_outputs"``, ``"enc_outputs"``,
                ``"interm_outputs"``, and of denoising queries ``"dn_aux_outputs"`` or ``"dn_outputs"`` and
                ``"dn_pre_outputs"`` with ``"dn_meta"``. The names of transformers are read as well: ``"logits"``,
                ``"auxiliary_outputs"``, ``"dn_auxiliary_outputs"`` and ``"denoising_meta_values"``. The dict is not
                changed. States of a model, such as ``"last_hidden_state"``, are ignored. Where images differ in
                their number of queries, all that a layer gives is ragged along Q, with the same sizes.
            num_classes: C.
            distributions: Whether boxes as distributions, ``"pred_corners"`` and what belongs to them, are read.
            has_background: Whether logits have an extra last channel for the background.
            agnostic_encoder: Whether all targets are of class 0 for the encoder, whatever its channels. An encoder with
                one channel, or with ``"enc_meta": {"class_agnostic": True}``, is read so in any case.

        Raises:
            TypeError: A value has the wrong type.
            KeyError: A key is missing or unknown, or two keys mean the same.
            ValueError: Shapes do not fit; or the last layer contains denoising queries.
        """
        check_positive(num_classes, "num_classes")
        for name, flag in (
            ("distributions", distributions),
            ("has_background", has_background),
            ("agnostic_encoder", agnostic_encoder),
        ):
            check_flag(flag, name)
        if isinstance(outputs, DecoderOutputs):
            outputs.check_num_classes(num_classes, has_background=has_background)
            if not distributions and any(extra for group in outputs.groups for extra in group.extras):
                raise ValueError("outputs were read with distributions, of which only DFINECriterion learns")
            return outputs
        if not isinstance(outputs, Mapping):
            raise TypeError(f"outputs must be a dict, got {type(outputs).__name__}")
        keys = (DECODER_OUTPUTS, DECODER_LAYER) if distributions else (PLAIN_DECODER_OUTPUTS, PLAIN_DECODER_LAYER)
        keys[0].check(outputs, "outputs")
        outputs = by_own_names(outputs, SAME_OF_DECODERS, "outputs")
        layers = _layers_of(outputs, num_classes, has_background, agnostic_encoder)
        for layer in layers:
            check_layer(
                layer.entries,
                layers[0].entries,
                layer.where,
                layer.num_classes(num_classes, has_background),
                has_background,
                layer.may_be_agnostic,
            )
            check_extras(layer.entries, layer.where)
        for layer in layers[1:]:
            keys[1].check(layer.entries, layer.where)
        check_denoising(outputs, layers[0].entries, [key for key, _, denoising in _LISTS if denoising])
        constants = {key: outputs[key] for key in ("up", "reg_scale") if key in outputs}
        return cls(_grouped(layers), outputs.get("dn_meta"), constants)

    def with_class_mask(self, mask: Tensor, *, num_classes: int, only_flags: bool = False) -> DecoderOutputs:
        """The same outputs, with a class mask.

        Args:
            mask: (B, C), or what broadcasts to it, as booleans or weights. The background and a class-agnostic encoder
                always count.
            num_classes: C.
            only_flags: Whether it must be of booleans, as a softmax needs it.

        Raises:
            TypeError, ValueError: ``mask`` is not a tensor, does not broadcast, or a weight is negative or not finite.
        """
        last = self.groups[0].logits
        shape = (last.shape[1], num_classes)
        own = checked_class_mask(mask, shape, last.device, only_flags=only_flags)
        return replace(self, class_mask=own.unsqueeze(1))

    def check_num_classes(self, num_classes: int, *, has_background: bool = False) -> None:
        """Raise ``ValueError`` unless all layers have ``num_classes`` classes."""
        for group in self.groups:
            if group.agnostic:
                continue
            shape = (*group.logits.shape[:-1], num_classes + has_background)
            check_shape(group.logits, shape, "pred_logits", f"num_classes = {num_classes}")


@dataclass(frozen=True)
class _Layer:
    suffix: str
    entries: Mapping[str, Any]
    where: str
    denoising: bool = False
    agnostic: bool = False
    may_be_agnostic: bool = False
    sizes: Tensor | None = None

    def num_classes(self, given: int, has_background: bool) -> int:
        """How many classes its logits must have: one, where it asks for none and has no more channels."""
        single = self.agnostic and self.entries["pred_logits"].shape[-1] == 1 + has_background
        return 1 if single else given


def _layers_of(outputs: Mapping[str, Any], num_classes: int, has_background: bool, agnostic: bool) -> list[_Layer]:
    """The layers in the order of their terms, that of the outputs themselves first."""
    layers = [_padded(_Layer("", outputs, "outputs"))]
    for key, suffix, denoising in _LISTS:
        given = outputs.get(key)
        if given is None:
            continue
        several = not isinstance(given, Mapping)
        if several != suffix.endswith("{}") or (several and not isinstance(given, Sequence)):
            wanted = "a list of dicts, one for each layer" if suffix.endswith("{}") else "a dict"
            raise TypeError(f"outputs[{key!r}] must be {wanted}, got {type(given).__name__}")
        for index, layer in enumerate(given if several else [given]):
            where = f"outputs[{key!r}]" + f"[{index}]" * several
            check_is_layer(layer, where)
            own = by_own_names(layer, SAME_OF_DECODERS, where)
            read = _padded(_Layer(suffix.format(index), own, where, denoising))
            if key in _OF_ENCODER:
                asks = is_agnostic(read.entries, outputs, num_classes, has_background, agnostic)
                read = replace(read, agnostic=asks, may_be_agnostic=True)
            layers.append(read)
    return layers


def _padded(layer: _Layer) -> _Layer:
    """A layer whose tensors are padded, with the sizes of its ragged queries."""
    keys = ("pred_logits", "pred_boxes", *EXTRAS)
    given = {key: layer.entries[key] for key in keys if layer.entries.get(key) is not None}
    try:
        parts, sizes = padded(given)
    except ValueError as error:
        raise ValueError(f"{layer.where}: {error}") from None
    if sizes is None:
        return layer
    if layer.denoising:
        raise ValueError(f"{layer.where} are of denoising queries, whose filler is known of dn_meta: give tensors")
    if sizes.dim() != 1:
        raise ValueError(f"{layer.where} must be ragged along Q in (B, Q, …), got sizes of shape {tuple(sizes.shape)}")
    return replace(layer, entries={**layer.entries, **parts}, sizes=sizes)


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
            tuple(layer.suffix for layer in group),
            torch.stack([layer.entries["pred_logits"] for layer in group]),
            torch.stack([layer.entries["pred_boxes"] for layer in group]),
            tuple({key: each.entries[key] for key in EXTRAS if each.entries.get(key) is not None} for each in group),
            group[0].denoising,
            None if group[0].sizes is None else torch.stack([each.sizes for each in group if each.sizes is not None]),
            group[0].agnostic,
        )
        for group in groups
    )


def _are_alike(one: _Layer, other: _Layer) -> bool:
    """Whether layers can be stacked. Sizes are compared, not hashed: that would fix them in a compiled graph."""
    kinds = [(each.denoising, each.agnostic, each.sizes is None) for each in (one, other)]
    return kinds[0] == kinds[1] and all(
        one.entries[key].shape == other.entries[key].shape and one.entries[key].dtype == other.entries[key].dtype
        for key in ("pred_logits", "pred_boxes")
    )


register_dataclass(DecoderLayers, constants=("suffixes", "denoising", "agnostic"))
register_dataclass(DecoderOutputs)
