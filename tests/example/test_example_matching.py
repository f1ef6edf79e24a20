"""The batched matcher against a plain loop over images, targets and predictions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

import ragged
from example.boxes import giou, iou
from example.matching import HungarianMatcher
from example.model import Predictions

SIZES = [(2, 0, 3), (1,), (0, 0), (4, 4), (12, 2, 0)]


def reference_iou_giou(a: list[float], b: list[float]) -> tuple[float, float]:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union, shared / union - (hull - union) / hull


def reference_cost(logit: float, gt: list[float], pred: list[float], image_size: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    classes = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
    l1 = sum(abs(x - y) for x, y in zip(gt, pred, strict=True)) / image_size
    return 2 * classes + 5 * l1 + 2 * (1 - reference_iou_giou(gt, pred)[1])


def reference_costs(predictions, index: int, sample: dict[str, torch.Tensor]) -> torch.Tensor:
    boxes, logits = predictions.boxes[index].tolist(), predictions.logits[index].tolist()
    rows = [
        [reference_cost(logit[label], gt, pred, 96.0) for logit, pred in zip(logits, boxes, strict=True)]
        for gt, label in zip(sample["boxes"].tolist(), sample["labels"].tolist(), strict=True)
    ]
    return torch.tensor(rows).reshape(len(rows), len(boxes))


@pytest.mark.parametrize("sizes", SIZES)
def test_matches_the_loop(make_case, sizes):
    predictions, targets, samples = make_case(sizes)
    matcher = HungarianMatcher(image_size=96.0)
    costs = matcher.costs(predictions, targets).split()
    matched_gt, matched_pred = matcher(predictions, targets)
    assert matched_gt.dtype == matched_pred.dtype == torch.int64
    assert torch.equal(matched_gt.sample_sizes, matched_pred.sample_sizes)
    pairs = zip(matched_gt.split(), matched_pred.split(), strict=True)
    for index, (sample, cost, (gt, pred)) in enumerate(zip(samples, costs, pairs, strict=True)):
        expected = reference_costs(predictions, index, sample)
        torch.testing.assert_close(cost, expected, rtol=1e-4, atol=1e-4)
        rows, columns = linear_sum_assignment(expected.numpy())
        assert gt.tolist() == rows.tolist() and pred.tolist() == columns.tolist()


def test_filler_changes_nothing(make_case, poison):
    predictions, targets, _ = make_case((2, 0, 5))
    matcher = HungarianMatcher(image_size=96.0)
    clean, dirty = matcher(predictions, targets), matcher(predictions, poison(targets))
    for one, other in zip(clean, dirty, strict=True):
        assert [x.tolist() for x in one.split()] == [x.tolist() for x in other.split()]


def test_an_image_does_not_depend_on_its_batch(make_case):
    predictions, targets, samples = make_case((3, 8, 0))
    matcher = HungarianMatcher(image_size=96.0)
    together = matcher(predictions, targets)[1].split()[0]
    first = Predictions(predictions.logits[:1], predictions.boxes[:1])
    alone = matcher(first, {name: ragged.combine_data([value]) for name, value in samples[0].items()})[1].split()[0]
    assert together.tolist() == alone.tolist()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 4.0, 2.0]),
        ([0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 5.0, 5.0]),
        ([0.0, 0.0, 1.0, 1.0], [3.0, 2.0, 5.0, 4.0]),
    ],
)
def test_iou_and_giou(a, b):
    expected = reference_iou_giou(a, b)
    found = iou(torch.tensor(a), torch.tensor(b)), giou(torch.tensor(a), torch.tensor(b))
    assert [value.item() for value in found] == pytest.approx(expected)


def test_boxes_without_area_have_finite_overlap_and_gradient():
    box = torch.zeros(4, requires_grad=True)
    value = iou(box, torch.zeros(4)) + giou(box, torch.zeros(4))
    value.backward()
    assert value.isfinite() and box.grad.isfinite().all()
