"""What holds for every matcher: it says at which costs it made its pairs, stands a crowd, and does as well on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER, MATCHERS, scene
from cases.finding import joined
from cases.scenes import ANCHORS, CANVAS, POINTS
from torch.utils import _pytree as pytree

from matchers import (
    ATSS,
    Assignment,
    DynamicSoftLabel,
    Hungarian,
    MaxIoU,
    Plan,
    Predictions,
    SimOTA,
    Targets,
    TaskAligned,
    WeightedSum,
    focal_class_cost,
)
from matchers.solver.linear_assignment import triton_kernel

COSTS = joined(MATCHERS, "COSTS")


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_costs_explain_the_result(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(3, 0, 5)
    costs = matcher.costs(predictions, targets, priors)
    assert set(costs) == COSTS.get(name, set(costs)) != set()
    for term in costs.values():
        assert term.shape == (3, 5, len(POINTS))
    result = matcher(predictions, targets, priors)
    if not isinstance(result, Assignment):
        assert isinstance(result, Plan) and "target 2" in result.explain(0)
        return
    text = result.explain(2, costs=costs)
    assert "5 targets" in text and all(f"target {number}:" in text for number in range(5))
    for term in costs:
        assert text.count(f", {term} ") == int(result.num_positives[2])
    target, place = result.target_index[2].max(), int(result.target_index[2].argmax())
    term, values = next(iter(costs.items()))
    assert f"prediction {place} (quality {result.quality[2, place]:.3g}, {term} {values[2, target, place]:.4g}" in text


@pytest.mark.parametrize("name", COSTS)
def test_the_cheapest_candidate_is_taken(name: str) -> None:
    """The sum of the terms is what decides: a single target takes its cheapest predictions."""
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(1, 1, 1, seed=3)
    total = torch.stack(list(matcher.costs(predictions, targets, priors).values())).sum(0)[:, 0]
    result = matcher(predictions, targets, priors)
    for image, cost in enumerate(total):
        taken = result.is_positive[image].nonzero().flatten().tolist()
        candidates = cost
        if name == "dynamic_soft_label":
            x1, y1, x2, y2 = targets.boxes.tensor[image, 0]
            x, y = POINTS[:, 0], POINTS[:, 1]
            candidates = cost.masked_fill(~((x > x1) & (x < x2) & (y > y1) & (y < y2)), torch.inf)
        assert len(taken) > 0
        assert sorted(candidates.argsort(stable=True)[: len(taken)].tolist()) == taken


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_a_crowd_among_small_images(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(5000, 1, 0)
    result = matcher(predictions, targets, priors)
    alone = matcher({key: value[1:2] for key, value in predictions.items()}, scene_of(targets, 1), priors)
    if isinstance(result, Assignment):
        assert result.num_positives[0] > 0 and result.target_index[0].max() > 1000
        assert torch.equal(result.target_index[1], alone.target_index[0])
        assert not result.is_positive[2].any()
    else:
        assert result.weights.tensor.isfinite().all()
        torch.testing.assert_close(result.weights.tensor[1, :, :1], alone.weights.tensor[0], atol=1e-5, rtol=1e-4)


def scene_of(targets: Targets, image: int) -> Targets:
    return Targets.of([targets.to_dicts()[image]], canvas_size=(CANVAS, CANVAS))


@pytest.mark.parametrize("count", [40, 41, 120])
def test_priors_far_from_all_targets(count: int) -> None:
    x, none = torch.arange(float(count)) * 10, torch.zeros(count)
    priors = torch.stack([x, none, x + 10, none + 10], 1)
    targets = [{"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([0])}]
    expected = [[0] + [-2] * (count - 1)]
    assert MaxIoU(neg_iou_thr=(0.1, 0.4))(None, targets, priors).target_index.tolist() == expected
    nothing = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
    assert MaxIoU(neg_iou_thr=(0.1, 0.4))(None, nothing, priors).is_background.all()


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_autocast_changes_nothing(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(9, 0, 30)
    expected = matcher(predictions, targets, priors)
    with torch.autocast("cpu", torch.bfloat16):
        result = matcher(predictions, targets, priors)
    for one, other in zip(pytree.tree_leaves(result), pytree.tree_leaves(expected), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_results_move(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(2, 0)
    assert Predictions.of(predictions).to("meta").device.type == "meta"
    moved = matcher(predictions, targets, priors).to("meta")
    tensors = [leaf for leaf in pytree.tree_leaves(moved) if isinstance(leaf, torch.Tensor)]
    assert tensors and all(tensor.is_meta for tensor in tensors)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ATSS()(None, scene(1)[1], POINTS), ValueError, "priors must be xyxy boxes, got .*grid points"),
        (lambda: SimOTA()(*scene(1), POINTS * torch.tensor([1.0, 1, 0, 0])), ValueError, "strides above 0"),
        (lambda: Hungarian()(*scene(1), ANCHORS), ValueError, "set is_anchor_based=True"),
        (lambda: Hungarian(background_cost=float("nan")), ValueError, "background_cost must be finite"),
        (lambda: Hungarian(ignore_iof=-1.0), ValueError, "ignore_iof must not be negative, got -1.0"),
        (lambda: MaxIoU(min_pos_iou="x"), TypeError, "min_pos_iou must be a number, got str"),  # type: ignore[arg-type]
        (lambda: SimOTA(center_radius=-1.0), ValueError, "center_radius must not be negative"),
        (lambda: DynamicSoftLabel(iou_weight=float("nan")), ValueError, "iou_weight must be finite"),
        (lambda: TaskAligned(beta=-1.0), ValueError, "beta must not be negative"),
        (lambda: focal_class_cost(torch.randn(2, 5, 3), torch.tensor([[0]])), ValueError, r"same \*batch"),
        (
            lambda: Targets.of({"boxes": torch.ones(1, 1, 4), "labels": torch.full((1, 1, 3), 0.5)}),
            ValueError,
            "single 1",
        ),
    ],
)
def test_wrong_use(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_labels_and_flags_in_other_forms() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [1.0, 1, 4, 4]]])
    assert Targets.of({"boxes": boxes, "labels": torch.tensor([[[5], [6]]])}).labels.tensor.tolist() == [[5, 6]]
    both = {"boxes": boxes[0], "labels": torch.tensor([0, 1])}
    flags = {"ignore": torch.tensor([True, False]), "iscrowd": torch.tensor([0, 0])}
    assert Targets.of([{**both, **flags}]).ignore.tensor.tolist() == [[True, False]]
    assignment = Assignment.from_index(torch.tensor([[1, -1, 0]]), num_targets=torch.tensor([2]))
    assert assignment.explain((0,)) == assignment.explain(0)


def test_a_sum_of_any_matchers() -> None:
    predictions, targets = scene(2, 0)

    def simota(predictions: Any, targets: Any, priors: Any) -> Assignment:
        return SimOTA()(predictions, targets, POINTS)

    plan = WeightedSum([Hungarian(), simota], same_cost=False)(predictions, targets)
    expected = (
        Hungarian()(predictions, targets).plan().background + simota(predictions, targets, None).plan().background
    ) / 2
    torch.testing.assert_close(plan.background, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_the_same_on_cuda_without_a_synchronisation(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(3, 0, 12)
    expected = matcher(predictions, targets, priors)
    on_device = {key: value.cuda() for key, value in predictions.items()}
    arguments = (on_device, targets.to("cuda"), None if priors is None else priors.cuda())
    matcher(*arguments)
    if name != "hungarian" or triton_kernel() is not None:  # without it the solver is the host's
        torch.cuda.set_sync_debug_mode("error")
    try:
        result = matcher(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if isinstance(expected, Assignment):
        assert torch.equal(result.target_index.cpu(), expected.target_index)
        torch.testing.assert_close(result.quality.cpu(), expected.quality)
    else:
        torch.testing.assert_close(result.weights.tensor.cpu(), expected.weights.tensor, atol=1e-5, rtol=1e-4)
