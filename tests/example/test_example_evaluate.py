"""Detections and COCO mAP."""

from __future__ import annotations

import math

import pytest
import torch

from example.digits import DigitScenes
from example.evaluate import coco_map, is_duplicate, to_detections
from matchers import Predictions


@pytest.fixture
def targets():
    scenes = DigitScenes(12, split="val", seed=1)
    return [scenes[index][1] for index in range(len(scenes))]


def score(detections, targets):
    return coco_map(detections, targets, num_classes=10)


def perfect(targets):
    return [{**target, "scores": torch.full((len(target["labels"]),), 0.9)} for target in targets]


def test_perfect_detections_score_one_and_print_nothing(targets, capsys):
    assert score(perfect(targets), targets) == pytest.approx({"mAP@0.5": 1.0, "mAP@[.5:.95]": 1.0})
    assert capsys.readouterr().out == ""


def test_wrong_labels_score_zero(targets):
    wrong = [{**found, "labels": (found["labels"] + 1) % 10} for found in perfect(targets)]
    assert score(wrong, targets)["mAP@0.5"] < 0.1


def test_loose_boxes_lose_precision_at_high_thresholds_only(targets):
    loose = []
    for found in perfect(targets):
        side = found["boxes"][:, 2:] - found["boxes"][:, :2]
        grown = torch.cat([found["boxes"][:, :2], found["boxes"][:, 2:] + 0.15 * side], dim=1)
        loose.append({**found, "boxes": grown})
    scores = score(loose, targets)
    assert scores["mAP@0.5"] == pytest.approx(1.0) and 0.4 < scores["mAP@[.5:.95]"] < 0.7


def test_missing_detections_and_missing_targets(targets):
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert score([nothing] * len(targets), targets)["mAP@0.5"] == 0.0
    assert all(math.isnan(value) for value in score([nothing], [nothing]).values())
    with pytest.raises(ValueError, match="as many images"):
        score([nothing], targets)


def test_worse_detections_of_the_same_object_are_duplicates():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10]]])
    assert is_duplicate(boxes, torch.tensor([[1, 1, 2, 1]])).tolist() == [[False, True, False, False]]


def test_to_detections_keeps_the_best_pairs_of_cell_and_class():
    logits = torch.full((1, 3, 2), -5.0)
    logits[0, 2, 1], logits[0, 0, 0] = 3.0, 1.0
    boxes = torch.arange(12.0).reshape(1, 3, 4)
    (found,) = to_detections(Predictions(logits, boxes), max_detections=2)
    assert found["labels"].tolist() == [1, 0]
    assert torch.equal(found["boxes"], boxes[0, [2, 0]])
    assert found["scores"].tolist() == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1))])


def test_what_is_found_in_a_crowd_is_not_wrong():
    box = torch.tensor([[0.0, 0, 40, 40]])
    crowd = {"boxes": box, "labels": torch.tensor([1]), "ignore": torch.tensor([True])}
    single = {"boxes": box, "labels": torch.tensor([1]), "ignore": torch.tensor([False])}
    inside = {"boxes": torch.tensor([[5.0, 5, 15, 15]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    found = {"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}
    assert score([inside, found], [crowd, single])["mAP@0.5"] == pytest.approx(1.0)
    assert score([inside, found], [single, single])["mAP@0.5"] < 0.6
    assert math.isnan(score([inside], [crowd])["mAP@0.5"])
