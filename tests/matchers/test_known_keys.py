"""What the dicts of datasets and models hold is read, known, or refused; nothing is read by halves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from losses import DetrCriterion, DFINECriterion
from matchers import Hungarian, Predictions, Targets
from matchers.targets.known_keys import COCO_ANNOTATION, DECODER_OUTPUTS, PADDED_TARGETS, PREDICTIONS, TARGETS
from ragged import collate
from ragged.values.keys import KnownKeys

BOX, LABEL = torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([1])
OBJECTS = {"boxes": BOX, "labels": LABEL}
LAYER = {"pred_logits": torch.zeros(1, 6, 3), "pred_boxes": torch.full((1, 6, 4), 0.5)}
WEIGHTS = {"loss_bbox": 1.0}

TORCHVISION = {**OBJECTS, "image_id": 7, "area": torch.ones(1), "iscrowd": torch.zeros(1, dtype=torch.int64)}
DETR = {**TORCHVISION, "orig_size": torch.tensor([9, 9]), "size": torch.tensor([9, 9])}
TRANSFORMERS = {"boxes": BOX, "class_labels": LABEL, "image_id": torch.tensor([7]), "area": torch.ones(1)}


@pytest.mark.parametrize(
    "sample", [OBJECTS, TORCHVISION, DETR, TRANSFORMERS], ids=["plain", "torchvision", "DETR", "transformers"]
)
def test_targets_of_these_datasets_are_read(sample: dict[str, Any]) -> None:
    layout = {"box_format": "cxcywh", "normalized": True}
    targets = Targets.of([sample, sample], **layout)
    assert targets.num_targets.tolist() == [1, 1] and (targets.ignore is None) == ("iscrowd" not in sample)
    assert Targets.of(collate([sample, sample]), **layout).labels.split()[1].tolist() == [1]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({**OBJECTS, "keypoints": torch.zeros(1, 17, 3)}, "nobody reads 'keypoints' of the targets of sample 0"),
        ({**OBJECTS, "masks": torch.zeros(1, 8, 8)}, "nobody reads 'masks'"),
        ({**OBJECTS, "weight": torch.ones(1)}, "did you mean 'weights'"),
        ({**OBJECTS, "crowd": torch.ones(1)}, "name it 'iscrowd'"),
        ({**OBJECTS, "anything": 3}, "leave it out if nothing is to be learned from it"),
    ],
)
def test_targets_that_would_be_read_by_halves(sample: dict[str, Any], message: str) -> None:
    with pytest.raises(KeyError, match=message):
        Targets.of([sample])
    with pytest.raises(KeyError, match=message.split(" of the")[0]):
        Targets.of({key: torch.as_tensor(value).unsqueeze(0) for key, value in sample.items()})


def test_the_second_sample_is_looked_at_as_well() -> None:
    with pytest.raises(KeyError, match="nobody reads 'track' of the targets of sample 1"):
        Targets.of([OBJECTS, {**OBJECTS, "track": LABEL}])
    with pytest.raises(KeyError, match="nobody reads 'logits' of the predictions of sample 1"):
        Predictions.of([{"pred_boxes": BOX}, {"pred_boxes": BOX, "logits": BOX}])


def test_coco_and_ultralytics() -> None:
    annotation = {"id": 1, "image_id": 3, "bbox": [1.0, 1.0, 2.0, 2.0], "category_id": 2, "iscrowd": 0, "area": 4.0}
    image = {"id": 3, "file_name": "a.png", "height": 9, "width": 9, "annotations": [annotation | {"segmentation": []}]}
    assert Targets.of([image]).labels.tensor.tolist() == [[2]]
    with pytest.raises(KeyError, match="nobody reads 'keypoints' of an annotation of sample 0"):
        Targets.of([[annotation | {"keypoints": [1, 2, 2]}]])
    batch = {"batch_idx": torch.zeros(1), "cls": torch.ones(1, 1), "bboxes": BOX, "img": torch.zeros(1, 3, 8, 8)}
    loaded = batch | {"im_file": ("a",), "ori_shape": ((8, 8),), "resized_shape": ((8, 8),), "ratio_pad": (None,)}
    assert Targets.of(loaded).labels.tensor.tolist() == [[1]]
    with pytest.raises(KeyError, match="nobody reads 'masks' of the batch of Ultralytics"):
        Targets.of(loaded | {"masks": torch.zeros(1, 8, 8)})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("logits", "name it 'pred_logits'"),
        ("boxes", "name it 'pred_boxes'"),
        ("pred_box", "did you mean 'pred_boxes'"),
        ("aux_outputs", "give the outputs of one layer"),
        ("pred_masks", "there is no loss of masks"),
        ("features", "leave it out"),
    ],
)
def test_predictions_that_would_be_read_by_halves(key: str, message: str) -> None:
    outputs = {**LAYER, key: [LAYER]}
    with pytest.raises(KeyError, match=f"nobody reads '{key}' of the dict of predictions: .*{message}"):
        Predictions.of(outputs)
    with pytest.raises(KeyError, match=f"nobody reads '{key}'"):
        Hungarian()(outputs, Targets.of([OBJECTS], box_format="cxcywh", normalized=True))


# The keys of what these models return, in training.
RF_DETR = {**LAYER, "aux_outputs": [LAYER], "enc_outputs": LAYER}
RT_DETR_OF_TRANSFORMERS = {
    "logits": LAYER["pred_logits"],
    "pred_boxes": LAYER["pred_boxes"],
    "auxiliary_outputs": [{"logits": LAYER["pred_logits"], "pred_boxes": LAYER["pred_boxes"]}],
    "last_hidden_state": torch.zeros(1, 6, 8),
    "enc_topk_logits": LAYER["pred_logits"],
}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (RT_DETR_OF_TRANSFORMERS, "nobody reads 'enc_topk_logits' of outputs: give .* as 'enc_outputs'"),
        ({**LAYER, "enc_output": LAYER}, "did you mean 'enc_outputs' or 'enc_aux_outputs'"),
        ({**LAYER, "auxiliary_output": [LAYER]}, "did you mean 'auxiliary_outputs'"),
        ({**LAYER, "enc_meta": {"agnostic": True}, "enc_outputs": LAYER}, "nobody reads 'agnostic' of enc_meta"),
        ({**LAYER, "aux_output": [LAYER]}, "did you mean 'aux_outputs'"),
        ({**LAYER, "aux_outputs": [{**LAYER, "pred_masks": BOX}]}, r"'pred_masks' of outputs\['aux_outputs'\]\[0\]"),
        ({**LAYER, "dn_auxiliary_outputs": [LAYER]}, "outputs of denoising queries need 'dn_meta'"),
        ({**LAYER, "logits": LAYER["pred_logits"]}, "outputs have both 'logits' and 'pred_logits', .* give one"),
        ({**LAYER, "pred_corners": torch.zeros(1, 6, 20)}, "DFINECriterion and DEIMCriterion learn from distributions"),
    ],
)
def test_outputs_that_would_be_read_by_halves(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(KeyError, match=message):
        DetrCriterion(WEIGHTS, num_classes=3)(outputs, [OBJECTS])


def as_transformers(layer: dict[str, Any]) -> dict[str, Any]:
    return {"logits": layer["pred_logits"], "pred_boxes": layer["pred_boxes"]}


def test_outputs_of_rf_detr_and_of_transformers_are_read_as_they_are() -> None:
    """Every layer has its term, and the terms are those of the same outputs by the names of DETR."""
    meta = {"dn_num_group": 1, "dn_num_split": [2, 6]}
    noisy = {"pred_logits": torch.ones(1, 2, 3), "pred_boxes": torch.full((1, 2, 4), 0.4)}
    own = {**RF_DETR, "dn_aux_outputs": [noisy], "dn_meta": meta}
    theirs = {
        **as_transformers(LAYER),
        "auxiliary_outputs": [as_transformers(LAYER)],
        "enc_outputs": as_transformers(LAYER),
        "dn_auxiliary_outputs": [as_transformers(noisy)],
        "denoising_meta_values": meta,
    }
    criterion = DetrCriterion({"loss_vfl": 1.0, "loss_bbox": 5.0}, num_classes=3)
    found = criterion(own, [OBJECTS])
    layers = ("", "_aux_0", "_enc", "_dn_0")
    assert set(found) == {f"loss_{term}{layer}" for term in ("vfl", "bbox") for layer in layers}
    torch.testing.assert_close(criterion(theirs, [TRANSFORMERS]), found, rtol=0, atol=0)
    both = {**OBJECTS, "class_labels": LABEL}
    for targets in ([both], {key: value.unsqueeze(0) for key, value in both.items()}):
        with pytest.raises(KeyError, match="have both 'class_labels' and 'labels', which are the same: give one"):
            criterion(own, targets)
    field = Targets.of([both], fields=("class_labels",), box_format="cxcywh", normalized=True).fields["class_labels"]
    assert field.tensor.tolist() == [[1]]


def test_outputs_of_detr_are_read_and_states_are_left_alone() -> None:
    outputs = {**LAYER, "aux_outputs": [LAYER], "last_hidden_state": torch.zeros(1), "enc_outputs": None}
    for kind in (DetrCriterion, DFINECriterion):
        assert list(kind(WEIGHTS, num_classes=3)(outputs, [OBJECTS])) == ["loss_bbox", "loss_bbox_aux_0"]


def test_both_names_of_denoising_layers() -> None:
    meta = {"dn_num_group": 1, "dn_num_split": [2, 6]}
    layer = {"pred_logits": torch.zeros(1, 2, 3), "pred_boxes": torch.full((1, 2, 4), 0.5)}
    criterion = DetrCriterion(WEIGHTS, num_classes=3)
    outputs = {**LAYER, "dn_meta": meta, "dn_outputs": [layer]}
    assert list(criterion(outputs, [OBJECTS])) == ["loss_bbox", "loss_bbox_dn_0"]
    with pytest.raises(KeyError, match="both 'dn_outputs' and 'dn_aux_outputs'"):
        criterion({**outputs, "dn_aux_outputs": [layer]}, [OBJECTS])
    with pytest.raises(KeyError, match="nobody reads 'pad_size' of dn_meta"):
        criterion({**outputs, "dn_meta": meta | {"pad_size": 4}}, [OBJECTS])


def test_denoising_queries_among_those_of_the_last_layer() -> None:
    """They would be matched like any other, and the loss would be that of other boxes."""
    queries, noise = torch.full((1, 20, 4), 0.9), torch.full((1, 8, 4), 0.5)
    meta = {"dn_num_group": 4, "dn_num_split": [8, 20]}
    whole = {"pred_logits": torch.zeros(1, 28, 3), "pred_boxes": torch.cat([noise, queries], 1), "dn_meta": meta}
    criterion = DetrCriterion(WEIGHTS, num_classes=3)
    with pytest.raises(ValueError, match=r"of 28 queries, but dn_num_split is \[8, 20\]: .*split them first"):
        criterion(whole, [OBJECTS])
    split = {"pred_logits": torch.zeros(1, 20, 3), "pred_boxes": queries, "dn_meta": meta}
    with pytest.raises(KeyError, match="'dn_meta' of 8 denoising queries, but none of 'dn_aux_outputs'"):
        criterion(split, [OBJECTS])
    noisy = {"pred_logits": torch.zeros(1, 8, 3), "pred_boxes": noise}
    losses = criterion({**split, "dn_outputs": [noisy]}, [OBJECTS])
    torch.testing.assert_close(losses["loss_bbox"], (queries[0, 0] - BOX[0]).abs().sum())
    torch.testing.assert_close(losses["loss_bbox_dn_0"], (noise[0, 0] - BOX[0]).abs().sum())


def test_assignments_of_layers_that_there_are_not() -> None:
    criterion = DetrCriterion(WEIGHTS, num_classes=3)
    found = criterion.assign({**LAYER, "aux_outputs": [LAYER]}, [OBJECTS])
    with pytest.raises(KeyError, match="nobody reads '_aux_0' of the assignments of these outputs"):
        criterion.loss(LAYER, [OBJECTS], found)


def test_a_key_without_a_near_one() -> None:
    keys = KnownKeys(("boxes",), frozenset(["id"]), {"other": "do this"})
    keys.check({"boxes": 1, "id": 2, "empty": [], "none": None}, "it")
    with pytest.raises(KeyError, match="nobody reads 'other' of it: do this. Keys that are read: boxes"):
        keys.check({"other": 1}, "it")
    with pytest.raises(KeyError, match="nobody reads 3 of it: leave it out"):
        keys.check({3: 1}, "it")


@pytest.mark.parametrize("keys", [TARGETS, PADDED_TARGETS, PREDICTIONS, DECODER_OUTPUTS, COCO_ANNOTATION])
def test_no_key_is_both_read_and_refused(keys: KnownKeys) -> None:
    assert not set(keys.read) & (keys.ignored | set(keys.advice))
