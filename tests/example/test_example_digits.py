"""The digit scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ragged
from example.data import make_loader
from example.digits import DIGITS, IMAGE_SIZE, MAX_DIGITS, DigitScenes, digit_indices, find_place


@pytest.fixture(scope="module")
def scenes() -> DigitScenes:
    return DigitScenes(80, split="val", seed=3)


def test_scenes_are_well_formed(scenes):
    counts = set()
    for image, target in (scenes[index] for index in range(len(scenes))):
        boxes, labels = target["boxes"], target["labels"]
        assert image.shape == (1, IMAGE_SIZE, IMAGE_SIZE) and image.dtype == torch.float32
        assert boxes.shape == (len(labels), 4) and boxes.dtype == torch.float32 and labels.dtype == torch.int64
        assert ((boxes >= 0) & (boxes <= IMAGE_SIZE)).all() and (boxes[:, 2:] - boxes[:, :2] >= 3).all()
        assert ((labels >= 0) & (labels < DIGITS.num_classes)).all()
        counts.add(len(labels))
    assert 0 in counts and max(counts) <= MAX_DIGITS and len(counts) > 4


def test_boxes_are_tight(scenes):
    """Every edge of a box runs along a row or column that the digit reaches, well above the background."""
    for image, target in (scenes[index] for index in range(20)):
        for x1, y1, x2, y2 in target["boxes"].int().tolist():
            inside = image[0, y1:y2, x1:x2]
            assert all(edge.max() > 0.1 for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_scene_depends_on_seed_split_and_index_only(scenes):
    again = DigitScenes(7, split="val", seed=3)
    for index in range(7):
        assert torch.equal(again[index][0], scenes[index][0])
        assert torch.equal(again[index][1]["boxes"], scenes[index][1]["boxes"])
        assert torch.equal(again[index][1]["labels"], scenes[index][1]["labels"])
    assert not torch.equal(DigitScenes(1, split="val", seed=4)[0][0], scenes[0][0])
    assert not torch.equal(DigitScenes(1, split="train", seed=3)[0][0], scenes[0][0])


def test_splits_share_no_digit():
    train, val = digit_indices("train"), digit_indices("val")
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == list(range(1797))


def test_find_place_gives_up_on_a_full_canvas():
    taken = np.array([[0, 0, 32, 32]])
    assert find_place(np.random.default_rng(0), (16, 16), taken, (32, 32)) is None


def test_loader_gives_ragged_targets(scenes):
    images, targets = next(iter(make_loader(scenes, batch_size=12)))
    assert images.shape == (12, 1, IMAGE_SIZE, IMAGE_SIZE)
    assert all(isinstance(target, ragged.RaggedBatch) for target in targets.values())
    for index, (boxes, labels) in enumerate(zip(targets["boxes"].split(), targets["labels"].split(), strict=True)):
        assert torch.equal(boxes, scenes[index][1]["boxes"]) and torch.equal(labels, scenes[index][1]["labels"])


@pytest.mark.parametrize("arguments", [{"num_scenes": 0, "split": "val"}, {"num_scenes": 1, "split": "test"}])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        DigitScenes(**arguments)
