"""The keys of dicts that targets and predictions come in: what is read, what is known and ignored, what is refused.

Every reader of a dict has its line here. A key that is neither read nor ignored is a ``KeyError``, whether it is
misspelt or holds what a loss should have learned from: ``KnownKeys.check`` says which keys there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ragged.values.keys import KnownKeys


def _keys(names: str) -> frozenset[str]:
    return frozenset(names.split())


# What datasets say of an image, not of its objects.
_OF_IMAGES = _keys(
    """
    id image_id img_id index idx image_idx sample_idx file_name filename img_path image_path path im_file
    height width size orig_size original_size orig_target_sizes image_size img_size canvas_size ori_shape img_shape
    pad_shape batch_input_shape resized_shape scale_factor ratio_pad flip flip_direction
    license coco_url flickr_url date_captured
    """
)
# What datasets say of objects, and no loss of boxes and classes learns from.
_OF_OBJECTS = _keys("area isfake isreflected")
_LOST = "name it in fields=(…,) for a cost or a loss of your own; no other learns from it, so leave it out there"
_NO_BOXES = dict.fromkeys(
    ("masks", "keypoints", "segmentation", "boxes3d", "track_id", "track_ids", "attributes"), _LOST
)
_NAMED_MASK = dict.fromkeys(
    ("masks", "pad_mask", "padding_mask", "key_padding_mask", "valid", "valid_mask"),
    "if it says which entries are targets, name it 'mask', true for targets; else leave it out",
)
_LABELS = {
    "class": "name it 'labels'",
    "crowd": "name it 'iscrowd'",
    "difficult": "name it 'ignore'",
}

SAME_OF_TARGETS = {"class_labels": "labels"}
"""Keys of transformers, and what they are called here."""
TARGETS = KnownKeys(
    ("boxes", "labels", "weights", "ignore", "iscrowd", *SAME_OF_TARGETS), _OF_IMAGES | _OF_OBJECTS, _NO_BOXES | _LABELS
)
"""Of one image, as of torchvision and DETR."""
PADDED_TARGETS = KnownKeys((*TARGETS.read, "mask"), TARGETS.ignored, _NO_BOXES | _LABELS | _NAMED_MASK)
"""Of a batch, padded."""
ULTRALYTICS_TARGETS = KnownKeys(("batch_idx", "cls", "bboxes", "img"), TARGETS.ignored, _NO_BOXES)
"""Of a batch, in one tensor."""
COCO_IMAGE = KnownKeys(("annotations",), _OF_IMAGES)
COCO_ANNOTATION = KnownKeys(
    ("bbox", "category_id", "iscrowd", "ignore"),
    TARGETS.ignored | {"segmentation", "attributes"},
    dict.fromkeys(("keypoints", "num_keypoints", "caption"), _LOST),
)

# What models give besides: states of their layers, and losses that they computed themselves.
_STATES = _keys(
    """
    loss loss_dict last_hidden_state encoder_last_hidden_state hidden_states decoder_hidden_states
    encoder_hidden_states attentions decoder_attentions encoder_attentions cross_attentions
    intermediate_hidden_states intermediate_reference_points initial_reference_points init_reference_points
    backbone_features
    """
)
_OTHER_LAYERS = "give the outputs of one layer, or those of all to a criterion of decoders, such as DetrCriterion"
SAME_OF_DECODERS = {
    "logits": "pred_logits",
    "auxiliary_outputs": "aux_outputs",
    "dn_auxiliary_outputs": "dn_aux_outputs",
    "denoising_meta_values": "dn_meta",
}
"""Keys of transformers, and what they are called here."""
_NO_LOSS = {
    "boxes": "name it 'pred_boxes'",
    "pred_masks": "there is no loss of masks; leave it out",
    "pred_keypoints": "there is no loss of keypoints; leave it out",
}
_KEPT = dict.fromkeys(
    ["enc_topk_logits", "enc_topk_bboxes", "enc_outputs_class", "enc_outputs_coord_logits"],
    "give the encoder's outputs as 'enc_outputs', a dict of 'pred_logits' and 'pred_boxes'",
) | dict.fromkeys(
    ["intermediate_logits", "intermediate_predicted_corners"],
    "give the outputs of layers as 'aux_outputs', a list of dicts, without denoising queries",
)
_LAYER = ("pred_logits", "pred_boxes")
_DISTRIBUTIONS = ("pred_corners", "ref_points", "teacher_corners", "teacher_logits")
_LAYERS = (
    *("aux_outputs", "pre_outputs", "enc_aux_outputs", "enc_outputs", "interm_outputs", "enc_meta"),
    *("dn_aux_outputs", "dn_outputs", "dn_pre_outputs", "dn_meta"),
)
_RENAMED = {"logits": "name it 'pred_logits'"} | _NO_LOSS

PREDICTIONS = KnownKeys(
    (*_LAYER, "pred_objectness"), _STATES, dict.fromkeys((*SAME_OF_DECODERS, *_LAYERS), _OTHER_LAYERS) | _RENAMED
)
"""Of one layer, as matchers and ``DetectionLoss`` take them."""
DECODER_LAYER = KnownKeys((*_LAYER, "logits", *_DISTRIBUTIONS, "up", "reg_scale"), _STATES, _NO_LOSS | _KEPT)
"""Of a layer within the outputs of a detection transformer."""
DECODER_OUTPUTS = KnownKeys((*DECODER_LAYER.read, *_LAYERS, *tuple(SAME_OF_DECODERS)[1:]), _STATES, _NO_LOSS | _KEPT)
"""Of a detection transformer."""
_OF_DISTRIBUTIONS = dict.fromkeys(
    (*_DISTRIBUTIONS, "up", "reg_scale"), "DFINECriterion and DEIMCriterion learn from distributions"
)
_PLAIN = _NO_LOSS | _KEPT | _OF_DISTRIBUTIONS
PLAIN_DECODER_LAYER = KnownKeys((*_LAYER, "logits"), _STATES, _PLAIN)
PLAIN_DECODER_OUTPUTS = KnownKeys((*_LAYER, *_LAYERS, *SAME_OF_DECODERS), _STATES, _PLAIN)
"""The same without boxes as distributions."""
DENOISING = KnownKeys(("dn_positive_idx", "dn_target_idx", "dn_num_group", "dn_num_split"))
"""The layout of denoising queries."""
ENCODER = KnownKeys(("class_agnostic",))
"""What is said of the encoder's outputs."""


def by_own_names(
    source: Mapping[Any, Any], same: Mapping[str, str], where: str, fields: Sequence[str] = ()
) -> Mapping[Any, Any]:
    """The same entries under the names that they have here.

    Args:
        source: The dict, which is not changed.
        same: Other names, and those that they have here.
        where: Names the dict in the message.
        fields: Names that users gave to something else.

    Raises:
        KeyError: The dict has both names of something.
    """
    others = [key for key in same if source.get(key) is not None and key not in fields]
    if not others:
        return source
    found = {key: value for key, value in source.items() if key not in others}
    for key in others:
        if source.get(same[key]) is not None:
            raise KeyError(f"{where} have both {key!r} and {same[key]!r}, which are the same: give one")
        found[same[key]] = source[key]
    return found
