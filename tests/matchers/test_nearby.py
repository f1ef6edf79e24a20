"""Pairs that are looked for on the host, and blocks that keep to a budget: the result is that of all pairs at once."""

from __future__ import annotations

import copy
from dataclasses import is_dataclass, replace
from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER, scene
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from matchers import DynamicSoftLabel, Hungarian, Predictions, SimOTA, Targets, TaskAligned, grid_points
from matchers.dense import dynamic_soft_label, simota, task_aligned
from matchers.dense.dynamic_k import DynamicK
from matchers.geometry.boxes import coordinates
from matchers.pairs import near
from matchers.pairs.tiles import SIZE, Extent, Tiling

CANVAS = 160
POINTS = grid_points((CANVAS, CANVAS), [8, 16, 32])
NARROWED: dict[str, Any] = {
    "simota": SimOTA(),
    "simota, near only": SimOTA(center_radius=0.5),
    "dynamic soft label": DynamicSoftLabel(),
    "dynamic soft label, steep": DynamicSoftLabel(soft_center_radius=-1.0),
    "yolov8": TaskAligned.yolov8(),
    "yolov9": TaskAligned.yolov9(),
    "yolov9, iou": replace(TaskAligned.yolov9(), overlap="iou", topk=40),
}


def crowded(seed: int, counts: tuple[int, ...], smallest: float = 4.0, objectness: bool = True) -> tuple[Any, Targets]:
    """Half of the predictions near an object, the others anywhere."""
    generator = torch.Generator().manual_seed(seed)
    images, boxes = [], []
    for count in counts:
        sides = smallest * torch.exp(torch.rand(count, 2, generator=generator) * 3)
        corner = torch.rand(count, 2, generator=generator) * (CANVAS - sides)
        gt = torch.cat([corner, corner + sides], 1)
        images.append({"boxes": gt, "labels": torch.randint(5, (count,), generator=generator)})
        centre = POINTS[:, :2] + torch.randn(len(POINTS), 2, generator=generator) * 4
        half = POINTS[:, 2:] * torch.rand(len(POINTS), 2, generator=generator) * 2
        guess = torch.cat([centre - half, centre + half], 1)
        if count:
            near = gt[torch.randint(count, (len(POINTS),), generator=generator)]
            guess = torch.where(torch.rand(len(POINTS), 1, generator=generator) < 0.5, near, guess)
        boxes.append(guess)
    logits = torch.randn(len(counts), len(POINTS), 5, generator=generator)
    found = torch.randn(len(counts), len(POINTS), generator=generator) if objectness else None
    predictions = Predictions(logits, torch.stack(boxes), found, box_format="xyxy", normalized=False)
    return predictions, Targets.of(images, canvas_size=(CANVAS, CANVAS))


def of_all_pairs(monkeypatch: pytest.MonkeyPatch, matcher: Any, *args: Any) -> Any:
    with monkeypatch.context() as patch:
        for module in (simota, dynamic_soft_label, task_aligned):
            patch.setattr(module, "can_be_narrowed", lambda *_: False)
        return matcher(*args)


def assert_same(first: Any, second: Any) -> None:
    assert torch.equal(first.target_index, second.target_index)
    # What is left out of a tensor moves the others to other places, where torch may round another way.
    torch.testing.assert_close(first.quality, second.quality, rtol=1e-6, atol=1e-7)
    assert torch.equal(first.num_invalid, second.num_invalid)


@pytest.mark.parametrize("name", NARROWED)
@pytest.mark.parametrize("counts", [(3,), (0, 1, 40), (0, 0), (12, 5, 0, 30)])
@pytest.mark.parametrize("smallest", [1.0, 12.0])
def test_the_pairs_looked_for_give_the_result_of_all(
    name: str, counts: tuple[int, ...], smallest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        predictions, targets = crowded(seed, counts, smallest, objectness=seed > 0)
        found = NARROWED[name](predictions, targets, POINTS)
        assert_same(found, of_all_pairs(monkeypatch, NARROWED[name], predictions, targets, POINTS))
        assert bool(found.num_positives.sum()) == bool(sum(counts)) or smallest < 8


@pytest.mark.parametrize("name", NARROWED)
def test_one_point_and_no_point(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = Targets.of([{"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([1])}])
    for count in (0, 1, 15, 17):
        predictions = Predictions(torch.zeros(1, count, 5), torch.rand(1, count, 4).cumsum(-1) * 4)
        args = (predictions, targets, POINTS[:count])
        assert_same(NARROWED[name](*args), of_all_pairs(monkeypatch, NARROWED[name], *args))


def test_what_is_missing_near_a_target_is_looked_for_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target without a point of its own takes one of another target, however far; only its image is seen again."""
    again: list[list[int]] = []
    take_again = DynamicK._take_again
    monkeypatch.setattr(
        DynamicK,
        "_take_again",
        lambda self, images, cost_of: (again.append(images.tolist()), take_again(self, images, cost_of))[1],
    )
    every, _ = crowded(0, (2, 2))
    points = POINTS[: (CANVAS // 8) ** 2]  # those of the first level: coarse ones are near everything
    predictions = Predictions(every.logits[:, : len(points)], every.boxes[:, : len(points)], None, "xyxy", False)
    large, tiny = torch.tensor([100.0, 100.0, 150.0, 150.0]), torch.tensor([9.0, 9.0, 10.0, 10.0])
    pairs = [torch.stack([large, large + 2]), torch.stack([large, tiny])]
    targets = Targets.of([{"boxes": each, "labels": torch.tensor([0, 1])} for each in pairs])
    found = DynamicSoftLabel()(predictions, targets, points)
    assert again == [[1]]
    assert (found.target_index[1] == 1).sum() == 1
    assert_same(found, of_all_pairs(monkeypatch, DynamicSoftLabel(), predictions, targets, points))


@pytest.mark.parametrize("region", [near.in_box, near.near_center])
@given(seed=st.integers(0, 2**31))
@examples(40)
def test_a_tile_with_a_point_in_a_region_passes(region: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(50, 4, generator=generator) * 10 + 0.1
    boxes = coordinates(torch.rand(8, 1, 4, generator=generator).mul(10).sort(-1).values)
    options = {"radius": 0.3} if region is near.near_center else {"margin": 0.5}
    where = Extent.of(points)
    tiling = Tiling.of(where.stacked())
    assert tiling.hulls is not None
    hulls = Extent.of_stacked(tiling.hulls)
    passes = region(where, boxes, **options)
    row, place = passes.nonzero(as_tuple=True)
    assert region(hulls, boxes, **options)[row, place // SIZE].all()


@pytest.mark.parametrize("budget", [1, 30_000])
@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_the_result_does_not_depend_on_the_budget(name: str, budget: int) -> None:
    matcher, priors = EVERY_MATCHER[name]
    if is_dataclass(matcher) and not isinstance(matcher, nn.Module):
        thrifty = replace(matcher, max_pairwise_bytes=budget)  # type: ignore[type-var]
    else:
        thrifty = copy.copy(matcher)
        thrifty.max_pairwise_bytes = budget
    predictions, targets = scene(3, 0, 40, 1)
    wanted, found = matcher(predictions, targets, priors), thrifty(predictions, targets, priors)
    tensors = ("target_index", "quality", "num_invalid") if hasattr(wanted, "target_index") else ("background",)
    for each in tensors:
        assert torch.equal(getattr(wanted, each), getattr(found, each)), each
    if not hasattr(wanted, "target_index"):
        assert wanted.weights.equal(found.weights)


@pytest.mark.parametrize("make", [SimOTA, TaskAligned, DynamicSoftLabel, Hungarian])
@pytest.mark.parametrize("budget", [0, -5, 1.5, "much"])
def test_a_budget_is_a_number_of_bytes(make: Any, budget: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_pairwise_bytes must"):
        make(max_pairwise_bytes=budget)
