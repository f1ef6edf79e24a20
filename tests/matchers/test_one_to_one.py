"""Assignments made by hand: by costs of one's own, and from indices that say how many predictions a target has."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.hungarian import brute_force, made_pairs, score
from torch import Tensor

from matchers import (
    Assignment,
    Hungarian,
    Targets,
    batched_linear_sum_assignment,
    detr_costs,
    iou_cost,
    one_to_one_assignment,
)
from matchers.geometry.overlaps import iou
from matchers.testing import make_scene
from ragged.testing import assert_no_host_sync


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int]:
    """Costs (L, B, G, P), some of them not finite; numbers of targets (B,); forbidden pairs (B, G, P)."""
    layers, images = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    width, count = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    seed = generator(draw(st.integers(0, 10_000)))
    cost = torch.rand(layers, images, width, count, generator=seed)
    cost = torch.where(torch.rand(cost.shape, generator=seed) < draw(st.sampled_from([0.0, 0.2])), math.nan, cost)
    counts = torch.randint(width + 1, (images,), generator=seed)
    forbidden = torch.rand(images, width, count, generator=seed) < draw(st.sampled_from([0.0, 0.3]))
    return cost, counts, forbidden, width


@given(problems())
def test_is_the_best_of_each_image_and_layer(problem: tuple[Tensor, Tensor, Tensor, int]) -> None:
    cost, counts, forbidden, width = problem
    found = one_to_one_assignment(cost, counts, forbidden=forbidden)
    assert found.max_pairs == min(width, cost.shape[-1]) and found.max_num_targets == width
    assert found.num_targets.tolist() == [counts.tolist()] * len(cost)
    for layer in range(len(cost)):
        for image, size in enumerate(counts.tolist()):
            own, never = cost[layer, image, :size], forbidden[image, :size]
            pairs = made_pairs(found.target_index[layer, image])
            most, bad, total = brute_force(own, never)
            assert len(pairs) == min(own.shape) - most
            assert score(own, pairs, never)[:2] == (0, bad)
            assert score(own, pairs, never)[2] == pytest.approx(total, abs=1e-6)
            expected = [not math.isfinite(c) and not f for c, f in zip(own.flatten(), never.flatten(), strict=True)]
            assert found.num_invalid[layer, image] == sum(expected)
    assert torch.equal(found.quality, found.is_positive.float())


@given(problems())
def test_layers_are_as_each_alone(problem: tuple[Tensor, Tensor, Tensor, int]) -> None:
    cost, counts, forbidden, _ = problem
    found = batched_linear_sum_assignment(cost, counts, forbidden=forbidden)
    for layer, own in enumerate(cost):
        assert torch.equal(found[layer], batched_linear_sum_assignment(own, counts, forbidden=forbidden))


def test_is_what_hungarian_gives() -> None:
    scene = make_scene(sizes=(4, 0, 1), num_predictions=6)
    matcher = Hungarian(detr_costs())
    expected = matcher(scene.predictions, scene.targets)
    cost = sum(matcher.costs(scene.predictions, scene.targets).values())
    found = one_to_one_assignment(cost, scene.targets.num_targets)
    for name in ("target_index", "quality", "num_targets", "num_invalid"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert (found.max_pairs, found.max_num_targets) == (expected.max_pairs, expected.max_num_targets)


def test_pairs_are_as_wide_as_the_targets() -> None:
    index = torch.full((2, 300), -1)
    index[0, [7, 200]] = torch.tensor([1, 0])
    counts = torch.tensor([2, 0])
    bounded = Assignment.from_index(index, num_targets=counts, per_target=1)
    free = Assignment.from_index(index, num_targets=counts)
    assert bounded.max_pairs == 2 and free.max_pairs == 300
    for narrow, wide in zip(bounded.pairs(), free.pairs(), strict=True):
        assert narrow.shape[-1] == 2
        assert [a.tolist() for a in narrow.split()] == [b.tolist() for b in wide.split()]
    assert Assignment.stack([bounded, bounded]).max_pairs == 2
    assert all(each.max_pairs == 2 for each in Assignment.stack([bounded, bounded]).unstack())
    assert bounded.to("cpu").max_pairs == 2
    again = Assignment.from_pairs(*bounded.pairs(), num_predictions=300, num_targets=counts, per_target=1)
    assert again.max_pairs == 2 and torch.equal(again.target_index, index)


@pytest.mark.parametrize(("per_target", "expected"), [(None, 6), (1, 3), (2, 6), (9, 6)])
def test_room_for_pairs(per_target: int | None, expected: int) -> None:
    index = torch.tensor([[0, 1, 2, -1, -2, -1]])
    found = Assignment.from_index(index, num_targets=torch.tensor([3]), per_target=per_target)
    assert found.max_pairs == expected


def test_no_more_predictions_than_said() -> None:
    index = torch.tensor([[[0, 1, -1]], [[1, -2, 1]]])
    with pytest.raises(ValueError, match=r"target 1 of sample \(1, 0\) has 2 predictions, more than per_target=1"):
        Assignment.from_index(index, num_targets=torch.tensor([2]), per_target=1)
    assert Assignment.from_index(index, num_targets=torch.tensor([2]), per_target=2).max_pairs == 3


@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 3, 0), (0, 3, 5), (1, 2, 0, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    found = one_to_one_assignment(torch.zeros(shape))
    assert not found.is_positive.any() and found.num_invalid.sum() == 0
    assert found.pairs()[0].shape[-1] == min(shape[-2:])


def test_filler_never_speaks() -> None:
    cost, counts = torch.rand(2, 3, 4, generator=generator(0)), torch.tensor([2, 0])
    expected = one_to_one_assignment(cost, counts)
    for value in (math.nan, math.inf, -1e30):
        padded = cost.clone()
        padded[0, 2], padded[1] = value, value
        found = one_to_one_assignment(padded, counts)
        assert torch.equal(found.target_index, expected.target_index)
        assert torch.equal(found.num_invalid, expected.num_invalid)


@pytest.mark.graphs
def test_compiles_in_one_graph() -> None:
    cost, counts = torch.rand(3, 2, 4, 7, generator=generator(1)), torch.tensor([4, 1])
    never = torch.zeros(2, 4, 7, dtype=torch.bool)

    def matched(cost: Tensor, counts: Tensor, never: Tensor) -> tuple[Tensor, Tensor]:
        found = one_to_one_assignment(cost, counts, forbidden=never)
        again = Assignment.from_index(found.target_index, num_targets=counts, max_num_targets=4, per_target=1)
        return found.num_invalid, again.pairs()[1].tensor

    compiled = torch.compile(matched, fullgraph=True, backend="eager")
    for one, other in zip(compiled(cost, counts, never), matched(cost, counts, never), strict=True):
        assert torch.equal(one, other)


def test_from_index_does_not_wait() -> None:
    index, counts = torch.tensor([[0, -1, 1]]), torch.tensor([2])
    assert_no_host_sync(
        lambda i, n: Assignment.from_index(i, num_targets=n, max_num_targets=2, per_target=1).pairs(), index, counts
    )


def test_costs_of_padded_targets() -> None:
    """The same as a matcher with this cost."""
    boxes = torch.rand(2, 6, 4, generator=generator(3)).sort(-1).values
    truth = [{"boxes": boxes[0, [3, 1, 4]] + 0.01, "labels": [0] * 3}, {"boxes": boxes[1, :0], "labels": []}]
    targets = Targets.of(truth)
    found = one_to_one_assignment(iou_cost(targets.boxes, boxes), targets.num_targets)
    expected = Hungarian(lambda pairs: 1 - iou(pairs.gt, pairs.predicted))({"pred_boxes": boxes}, targets)
    assert torch.equal(found.target_index, expected.target_index)
    assert found.target_index[0].tolist() == [-1, 1, -1, 0, 2, -1]
