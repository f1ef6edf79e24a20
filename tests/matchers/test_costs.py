"""Costs: both forms of each against plain floats, in every precision, for extreme logits too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import boxes as box_reference
from reference import costs as reference
from torch import Tensor

import matchers
from matchers.costs.classes import gather_labels
from matchers.geometry.boxes import coordinates
from matchers.geometry.places import center_size_l1
from matchers.testing import make_boxes, make_scene
from ragged import RaggedBatch
from ragged.testing import assert_no_host_sync

SHAPES = [(5, 7), (1, 1), (0, 4), (4, 0), (0, 0)]
HALVES = [torch.float16, torch.bfloat16]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(num_targets: int, num_predictions: int, *, batch: int = 3, num_classes: int = 4) -> dict[str, Tensor]:
    seed = generator(num_targets + 100 * num_predictions)
    boxes = make_boxes(batch * num_predictions, seed, steps=8, degenerate=0.2).reshape(batch, num_predictions, 4)
    gt_boxes = make_boxes(batch * num_targets, seed, steps=8, degenerate=0.2).reshape(batch, num_targets, 4)
    return {
        "logits": torch.randn(batch, num_predictions, num_classes, generator=seed) * 3,
        "labels": torch.randint(num_classes, (batch, num_targets), generator=seed),
        "boxes": boxes,
        "gt_boxes": gt_boxes,
        "objectness": torch.randn(batch, num_predictions, generator=seed) * 3,
        "overlap": torch.rand(batch, num_targets, num_predictions, generator=seed),
    }


Function = Callable[..., Any]
# Of each cost: ours on a whole batch, and the reference on one image.
CASES: dict[str, tuple[Function, Function]] = {
    "softmax": (
        lambda v: matchers.softmax_class_cost(v["logits"], v["labels"]),
        lambda v: reference.class_table(reference.softmax, v["logits"], v["labels"]),
    ),
    "focal": (
        lambda v: matchers.focal_class_cost(v["logits"], v["labels"]),
        lambda v: reference.class_table(reference.focal, v["logits"], v["labels"]),
    ),
    "binary": (
        lambda v: matchers.binary_class_cost(v["logits"], v["labels"]),
        lambda v: reference.class_table(reference.binary, v["logits"], v["labels"]),
    ),
    "binary with objectness": (
        lambda v: matchers.binary_class_cost(v["logits"], v["labels"], v["objectness"]),
        lambda v: reference.class_table(reference.binary, v["logits"], v["labels"], v["objectness"]),
    ),
    "softlabel": (
        lambda v: matchers.softlabel_class_cost(v["logits"], v["labels"], v["overlap"]),
        lambda v: reference.class_table(reference.softlabel, v["logits"], v["labels"], v["overlap"]),
    ),
    "alignment": (
        lambda v: matchers.alignment_metric(v["logits"], v["labels"], v["overlap"]),
        lambda v: reference.class_table(reference.alignment, v["logits"], v["labels"], v["overlap"]),
    ),
    "l1": (
        lambda v: matchers.l1_cost(v["gt_boxes"], v["boxes"]),
        lambda v: box_reference.table(reference.l1, v["gt_boxes"], v["boxes"]),
    ),
    "iou": (
        lambda v: matchers.iou_cost(v["gt_boxes"], v["boxes"]),
        lambda v: 1 - box_reference.table(box_reference.iou, v["gt_boxes"], v["boxes"]),
    ),
    "giou": (
        lambda v: matchers.giou_cost(v["gt_boxes"], v["boxes"]),
        lambda v: 1 - box_reference.table(box_reference.giou, v["gt_boxes"], v["boxes"]),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_plain_floats(name: str, shape: tuple[int, int]) -> None:
    ours, theirs = CASES[name]
    given = values(*shape)
    computed = ours(given)
    assert computed.shape == (3, *shape)
    assert computed.dtype == torch.float32
    expected = torch.stack([theirs({key: value[i] for key, value in given.items()}) for i in range(3)])
    torch.testing.assert_close(computed.double(), expected, rtol=1e-4, atol=1e-5)
    wide = {key: value.double() if value.is_floating_point() else value for key, value in given.items()}
    torch.testing.assert_close(ours(wide), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in values(5, 7).items()}
    given["overlap"] = given["overlap"].float()
    computed = CASES[name][0](given)
    assert computed.dtype == torch.float32
    wide = {key: value.float() if value.dtype == dtype else value for key, value in given.items()}
    assert torch.equal(computed, CASES[name][0](wide))


@pytest.mark.parametrize("name", CASES)
def test_costs_have_no_gradient(name: str) -> None:
    given = values(5, 7)
    with_graph = {key: value.requires_grad_() if value.is_floating_point() else value for key, value in given.items()}
    assert not CASES[name][0](with_graph).requires_grad


@pytest.mark.parametrize("name", ["softmax", "focal", "binary", "binary with objectness", "softlabel", "alignment"])
def test_extreme_logits(name: str) -> None:
    given = values(5, 7)
    given["logits"] = torch.tensor([-1e4, -90.0, -30.0, 0.0, 30.0, 90.0, 1e4])[:, None].expand(3, 7, 4).contiguous()
    given["objectness"] = given["objectness"] * 100
    assert CASES[name][0](given).isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_not_changed(name: str) -> None:
    given = values(5, 7)
    copies = {key: value.clone() for key, value in given.items()}
    CASES[name][0](given)
    assert all(torch.equal(given[key], copies[key]) for key in given)


@pytest.mark.parametrize("name", CASES)
def test_filler_of_ragged_targets_changes_nothing(name: str) -> None:
    given = values(5, 7)
    sizes = torch.tensor([2, 0, 5])
    boxes = RaggedBatch(given["gt_boxes"], sample_sizes=sizes).with_padded_set_to(math.nan)
    labels = RaggedBatch(given["labels"], sample_sizes=sizes).with_padded_set_to(-(2**40))
    computed = CASES[name][0]({**given, "gt_boxes": boxes, "labels": labels})
    assert computed.shape == (3, 5, 7)
    expected = CASES[name][0](given)
    for image, size in enumerate(sizes.tolist()):
        assert torch.equal(computed[image, :size], expected[image, :size])


@pytest.mark.graphs
@pytest.mark.parametrize("name", CASES)
def test_compiled_in_one_graph(name: str) -> None:
    torch._dynamo.reset()
    given = values(5, 7)
    compiled = torch.compile(CASES[name][0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(given), CASES[name][0](given))


@pytest.mark.parametrize("name", CASES)
def test_does_not_synchronise(name: str) -> None:
    assert_no_host_sync(CASES[name][0], values(5, 7))


@pytest.mark.parametrize("name", CASES)
def test_more_batch_dimensions(name: str) -> None:
    given = values(5, 7, batch=6)
    split = {key: value.unflatten(0, (2, 3)) for key, value in given.items()}
    assert torch.equal(CASES[name][0](split).flatten(0, 1), CASES[name][0](given))


def test_many_logits_are_summed_in_blocks() -> None:
    seed = generator(0)
    logits, labels = torch.randn(2, 3000, 90, generator=seed), torch.randint(90, (2, 2), generator=seed)
    objectness = torch.randn(2, 3000, generator=seed)
    for other in (None, objectness):
        whole = matchers.binary_class_cost(logits, labels, other)
        part = matchers.binary_class_cost(logits[:, 1000:1010], labels, None if other is None else other[:, 1000:1010])
        torch.testing.assert_close(whole[..., 1000:1010], part)
    overlap = torch.rand(2, 2, 3000, generator=seed)
    whole = matchers.softlabel_class_cost(logits, labels, overlap)
    part = matchers.softlabel_class_cost(logits[:, -5:], labels, overlap[..., -5:])
    torch.testing.assert_close(whole[..., -5:], part)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.8, 1.0), (0.5, 0.0), (0.1, 3.5)])
def test_focal_parameters(alpha: float, gamma: float) -> None:
    given = values(5, 7, batch=1)
    computed = matchers.focal_class_cost(given["logits"], given["labels"], alpha=alpha, gamma=gamma)[0]
    expected = reference.class_table(
        lambda row, label: reference.focal(row, label, alpha=alpha, gamma=gamma), given["logits"][0], given["labels"][0]
    )
    torch.testing.assert_close(computed.double(), expected, rtol=1e-4, atol=1e-5)


def test_alignment_parameters() -> None:
    given = values(5, 7, batch=1)
    computed = matchers.alignment_metric(given["logits"], given["labels"], given["overlap"], alpha=0.5, beta=2.0)[0]
    probability = given["logits"][0].sigmoid()[:, given["labels"][0]].T
    torch.testing.assert_close(computed, probability**0.5 * given["overlap"][0] ** 2)


def test_center_size_l1() -> None:
    given = values(6, 8, batch=1)
    gt, boxes = given["gt_boxes"][0], given["boxes"][0]
    computed = center_size_l1(coordinates(gt.unsqueeze(1)), coordinates(boxes))
    expected = box_reference.table(reference.center_size_l1, gt, boxes)
    torch.testing.assert_close(computed.double(), expected, rtol=1e-5, atol=1e-5)


def test_points_in_boxes() -> None:
    seed = generator(5)
    gt_boxes = make_boxes(20, seed, steps=8, degenerate=0.1)
    points = (torch.rand(40, 2, generator=seed) * 64).round()
    for margin in (0.0, 0.01, 4.0):
        computed = matchers.points_in_boxes(points, gt_boxes, margin=margin)
        for (g, box), (p, (x, y)) in [(a, b) for a in enumerate(gt_boxes.tolist()) for b in enumerate(points.tolist())]:
            distance = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            assert bool(computed[g, p]) == (distance > margin)
    assert not matchers.points_in_boxes(torch.tensor([[math.nan, 1.0]]), torch.tensor([[0.0, 0.0, 9.0, 9.0]])).any()


def test_points_near_centers() -> None:
    seed = generator(6)
    gt_boxes = make_boxes(20, seed, steps=8)
    points, radius = (torch.rand(40, 2, generator=seed) * 64).round(), torch.rand(40, generator=seed).mul(30).round()
    computed = matchers.points_near_centers(points, gt_boxes, radius)
    for g, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
        for p, (x, y) in enumerate(points.tolist()):
            inside = abs(x - (x1 + x2) / 2) < radius[p] and abs(y - (y1 + y2) / 2) < radius[p]
            assert bool(computed[g, p]) == bool(inside)


def test_gather_labels() -> None:
    table = torch.arange(24.0).reshape(2, 3, 4)
    labels = torch.tensor([[0, 3], [2, 2]])
    computed = gather_labels(table, labels)
    for b in range(2):
        for g in range(2):
            assert torch.equal(computed[b, g], table[b, :, labels[b, g]])


def test_a_prediction_that_is_nan_costs_nan() -> None:
    scene = make_scene([3], 5)
    logits, boxes = scene.predictions.logits.clone(), scene.predictions.boxes.clone()
    logits[0, 1], boxes[0, 2] = math.nan, math.nan
    labels, gt_boxes = scene.targets.labels, scene.targets.boxes
    for cost in (matchers.softmax_class_cost, matchers.focal_class_cost, matchers.binary_class_cost):
        assert cost(logits, labels).tensor.isnan()[0].any(0).tolist() == [False, True, False, False, False]
    for cost in (matchers.l1_cost, matchers.iou_cost, matchers.giou_cost):
        assert cost(gt_boxes, boxes).tensor.isnan()[0].any(0).tolist() == [False, False, True, False, False]


def test_costs_of_pairs_have_no_gradient_of_targets_either() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 4.0, 4.0]]], requires_grad=True)
    targets = matchers.Targets(RaggedBatch(boxes, sample_sizes=[1]), RaggedBatch(torch.tensor([[0]]), sample_sizes=[1]))
    problem = matchers.Problem.of(matchers.Predictions(torch.zeros(1, 2, 3), torch.ones(1, 2, 4)), targets)
    assert not any(term(matchers.Pairs.of(problem)).requires_grad for term in matchers.detr_costs().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_the_order_of_a_focal_cost_does_not_matter(dtype: torch.dtype) -> None:
    """To the bit, so that equal targets tie wherever they stand: fewer classes than targets, as many, and more."""
    for targets in (0, 3, 7, 8, 30):
        logits = torch.randn(2, 13, 7, generator=torch.Generator().manual_seed(0)).mul(8).to(dtype)
        labels = torch.randint(7, (2, targets), generator=torch.Generator().manual_seed(1))
        for gamma in (2.0, 1.5):
            first = matchers.focal_cost(gather_labels(logits, labels), gamma=gamma)
            last = gather_labels(matchers.focal_cost(logits, gamma=gamma), labels)
            assert torch.equal(first, last)
            assert torch.equal(matchers.focal_class_cost(logits, labels, gamma=gamma), first)
