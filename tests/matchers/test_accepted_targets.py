"""What datasets hold that is unusual and right: it is read exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from losses import Normalizer
from matchers import Assignment, Targets, grid_points
from ragged import RaggedBatch, batched_indexing_access, collate

BOX = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
UNSIGNED = [torch.uint16, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("label", [257, 2049])
def test_integer_labels_beside_boxes_in_half_precision(dtype: torch.dtype, label: int) -> None:
    images = torch.zeros(300, 3, 4, 4)
    batch = {
        "batch_idx": torch.tensor([257, 299]),
        "cls": torch.tensor([[label], [3]]),
        "bboxes": torch.full((2, 4), 0.5, dtype=dtype),
        "img": images,
    }
    targets = Targets.of(batch)
    assert targets.num_targets.nonzero().flatten().tolist() == [257, 299]
    assert targets.labels.tensor[[257, 299], 0].tolist() == [label, 3]
    floats = batch | {"batch_idx": batch["batch_idx"].float(), "cls": batch["cls"].float()}
    assert torch.equal(Targets.of(floats).labels.tensor, targets.labels.tensor)


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_unsigned_labels_indices_and_sizes(dtype: torch.dtype) -> None:
    label = torch.tensor([3]).to(dtype)
    assert Targets.of([{"boxes": BOX, "labels": label}]).labels.tensor.tolist() == [[3]]
    padded = {"boxes": BOX.unsqueeze(0), "labels": label.unsqueeze(0), "iscrowd": torch.tensor([[1]]).to(dtype)}
    assert Targets.of(padded).ignored.tolist() == [[True]]
    batch = RaggedBatch(torch.arange(5).view(1, 5), sample_sizes=torch.tensor([4]).to(dtype))
    assert batched_indexing_access(batch, label.unsqueeze(0)).tensor.tolist() == [[3]]
    with pytest.raises(ValueError, match="labels must not be negative"):
        Targets.of([{"boxes": BOX, "labels": torch.tensor([-1]).to(torch.uint64)}])


@pytest.mark.parametrize("box", [[-8.0, -8.0, 20.0, 20.0], [10.0, 10.0, 100.0, 60.0], [70.0, 0.0, 90.0, 60.0]])
def test_boxes_beyond_the_border_in_pixels_and_in_fractions(box: list[float]) -> None:
    boxes, label = torch.tensor([box]), torch.tensor([0])
    pixels = Targets.of([{"boxes": boxes, "labels": label}], canvas_size=(64, 64))
    fractions = Targets.of([{"boxes": boxes / 64, "labels": label}], normalized=True, canvas_size=(64, 64))
    assert torch.equal(pixels.boxes_as("xyxy"), fractions.boxes_as("xyxy", normalized=False))
    assert torch.equal(pixels.boxes_as("cxcywh", normalized=True), fractions.boxes_as("cxcywh"))


def test_weights_of_ignored_targets_and_filler_may_be_anything() -> None:
    box = torch.cat([BOX, BOX])
    sample = {"boxes": box, "labels": torch.zeros(2, dtype=torch.int64), "ignore": torch.tensor([False, True])}
    targets = Targets.of([sample | {"weights": torch.tensor([0.5, torch.nan])}])
    assert targets.weights is not None and targets.weights.tensor[0, 0] == 0.5
    padded = RaggedBatch(torch.tensor([[1.0, -7.0]]), sample_sizes=[1])
    assert Targets(RaggedBatch(box.unsqueeze(0), sample_sizes=[1]), padded.long(), padded).weights is padded


def test_numbers_of_numpy_are_numbers() -> None:
    assert Normalizer()(np.int64(3)) == 3 and Normalizer()([np.float32(0.5), 2]).tolist() == [1, 2]
    data = torch.tensor([[1.0, 2.0]])
    for filler in (np.int64(-1), np.float64(-1), np.float32(-1)):
        index = RaggedBatch(torch.tensor([[1, 0]]), sample_sizes=[1])
        assert batched_indexing_access(data, index, filler).tensor.tolist() == [[2, -1]]
    assert RaggedBatch.empty((2, 3)).repeat_samples(np.int64(2), 1).batch_shape == (2, 6)
    assert grid_points((np.int64(16), 16), [np.int64(8)]).shape == (4, 4)


def test_scores_that_rounding_takes_above_1() -> None:
    index, count = torch.tensor([[0, -1]]), torch.tensor([1])
    assert Assignment.from_index(index, num_targets=count, quality=torch.tensor([[1.0 + 1e-6, 0.0]])).num_positives == 1
    unread = Assignment.from_index(index, num_targets=count, quality=torch.tensor([[0.5, torch.nan]]))
    assert unread.quality.tolist() == [[0.5, 0.0]]


def test_lists_of_numbers_that_are_stacked() -> None:
    batch = collate([{"size": [480, 640], "box": BOX}, {"size": [32, 32], "box": BOX}], stack=["size"])
    assert batch["size"].tolist() == [[480, 640], [32, 32]]
    assert collate([(1, 2.0), (3, 4.0)])[0].tolist() == [1, 3]  # tuples are structure
    assert collate([[BOX, 1], [BOX, 2]])[1].tolist() == [1, 2]
