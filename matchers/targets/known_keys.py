"""The keys of dicts that targets and predictions come in: what is read, what is known and ignored, what is refused.

Every reader of a dict has its line here. A key that is neither read nor ignored is a ``KeyError``, whether it is
misspelt or holds what a loss should have learned from: ``KnownKeys.check`` says which keys there are.
"""

from __future__ import annotations

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
    "class_labels": "name it 'labels'",
    "class": "name it 'labels'",
    "crowd": "name it 'iscrowd'",
    "difficult": "name it 'ignore'",
}

TARGETS = KnownKeys(("boxes", "labels", "weights", "ignore", "iscrowd"), _OF_IMAGES | _OF_OBJECTS, _NO_BOXES | _LABELS)
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
    enc_meta
    """
)
_OTHER_LAYERS = "give the outputs of one layer, or those of all to a criterion of decoders, such as DetrCriterion"
_RENAMED = {
    "logits": "name it 'pred_logits'",
    "boxes": "name it 'pred_boxes'",
    "auxiliary_outputs": "name it 'aux_outputs'; its layers have 'pred_logits' and 'pred_boxes'",
    "dn_auxiliary_outputs": "name it 'dn_aux_outputs'",
    "denoising_meta_values": "name it 'dn_meta'",
    "enc_outputs": "name it 'enc_aux_outputs', a list of dicts, if it has as many classes as the decoder",
    "pred_masks": "there is no loss of masks; leave it out",
    "pred_keypoints": "there is no loss of keypoints; leave it out",
}
_LAYER = ("pred_logits", "pred_boxes")
_DISTRIBUTIONS = ("pred_corners", "ref_points", "teacher_corners", "teacher_logits")
_LAYERS = ("aux_outputs", "pre_outputs", "enc_aux_outputs", "dn_aux_outputs", "dn_outputs", "dn_pre_outputs", "dn_meta")

PREDICTIONS = KnownKeys(
    (*_LAYER, "pred_objectness"), _STATES, _RENAMED | dict.fromkeys(("auxiliary_outputs", *_LAYERS), _OTHER_LAYERS)
)
"""Of one layer, as matchers and ``DetectionLoss`` take them."""
DECODER_LAYER = KnownKeys((*_LAYER, *_DISTRIBUTIONS, "up", "reg_scale"), _STATES, _RENAMED)
"""Of a layer within the outputs of a detection transformer."""
DECODER_OUTPUTS = KnownKeys((*DECODER_LAYER.read, *_LAYERS), _STATES, _RENAMED)
"""Of a detection transformer."""
_OF_DISTRIBUTIONS = dict.fromkeys(
    (*_DISTRIBUTIONS, "up", "reg_scale"), "DFINECriterion and DEIMCriterion learn from distributions"
)
PLAIN_DECODER_LAYER = KnownKeys(_LAYER, _STATES, _RENAMED | _OF_DISTRIBUTIONS)
PLAIN_DECODER_OUTPUTS = KnownKeys((*_LAYER, *_LAYERS), _STATES, _RENAMED | _OF_DISTRIBUTIONS)
"""The same without boxes as distributions."""
DENOISING = KnownKeys(("dn_positive_idx", "dn_num_group", "dn_num_split"))
"""How denoising queries are laid out."""
