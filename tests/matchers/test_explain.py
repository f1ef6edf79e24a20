"""Every matcher says at which costs its pairs were made, and stands a crowd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from matchers import (
    ATSS,
    Assignment,
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    DynamicSoftLabel,
    Hungarian,
    MaxIoU,
    Plan,
    SimOTA,
    SoftMin,
    Targets,
    TaskAligned,
    UnbalancedSinkhorn,
    grid_points,
)

CANVAS = 64
POINTS = grid_points((CANVAS, CANVAS), [8, 16])
ANCHORS = torch.cat([POINTS[:, :2] - 2 * POINTS[:, 2:], POINTS[:, :2] + 2 * POINTS[:, 2:]], 1)
MATCHERS: dict[str, tuple[Any, Any]] = {
    "hungarian": (Hungarian(), None),
    "max_iou": (MaxIoU(), ANCHORS),
    "atss": (ATSS(topk=40), ANCHORS),
    "simota": (SimOTA(), POINTS),
    "dynamic_soft_label": (DynamicSoftLabel(), POINTS),
    "tood": (TaskAligned.tood(), POINTS),
    "yolov9": (TaskAligned.yolov9(), POINTS),
    "closest_target": (ClosestTarget(), None),
    "closest_prediction": (ClosestPrediction(), None),
    "balanced": (BalancedSinkhorn(), None),
    "unbalanced": (UnbalancedSinkhorn(), None),
    "softmin": (SoftMin(), None),
}
COSTS = {"simota": {"class", "iou", "outside"}, "dynamic_soft_label": {"class", "iou", "centre"}}


def scene(*counts: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], Targets]:
    generator = torch.Generator().manual_seed(seed)
    images = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 20], 1)
        images.append({"boxes": boxes, "labels": torch.randint(3, (count,), generator=generator)})
    predicted = ANCHORS + torch.randn(len(counts), len(POINTS), 4, generator=generator)
    logits = torch.randn(len(counts), len(POINTS), 3, generator=generator)
    return {"pred_logits": logits, "pred_boxes": predicted}, Targets.of(images, canvas_size=(CANVAS, CANVAS))


@pytest.mark.parametrize("name", MATCHERS)
def test_costs_explain_the_result(name: str) -> None:
    matcher, priors = MATCHERS[name]
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


@pytest.mark.parametrize("name", ["simota", "dynamic_soft_label"])
def test_the_cheapest_candidate_is_taken(name: str) -> None:
    """The sum of the terms is what decides: a single target takes its cheapest predictions."""
    matcher, priors = MATCHERS[name]
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


@pytest.mark.parametrize("name", MATCHERS)
def test_a_crowd_among_small_images(name: str) -> None:
    matcher, priors = MATCHERS[name]
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
