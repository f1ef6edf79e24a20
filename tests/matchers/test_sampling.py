"""Sampling of assignments: a plain loop that is given the same random numbers, and what is drawn over many calls."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER, scene
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from matchers import IGNORED, Assignment, RandomSampler, sample_assignment
from ragged.testing import assert_no_host_sync


def made(index: Tensor, quality: Tensor | None = None, most: int = 4) -> Assignment:
    counts = torch.full(index.shape[:-1], most)
    return Assignment.from_index(index, num_targets=counts, quality=quality, max_num_targets=most)


def random(*shape: int, seed: int = 0) -> Assignment:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(-2, 4, shape, generator=generator)
    return made(index, torch.rand(shape, generator=generator))


def loop(index: list[int], draw: list[float], num_samples: int, fraction: float) -> list[int]:
    """What is left of one image: the smallest numbers win."""
    ordered = sorted(range(len(index)), key=lambda p: draw[p])
    positives = [p for p in ordered if index[p] >= 0][: int(num_samples * fraction)]
    background = [p for p in ordered if index[p] == -1][: num_samples - len(positives)]
    kept = {*positives, *background}
    return [own if p in kept else -2 for p, own in enumerate(index)]


@examples(60)
@given(
    st.lists(st.integers(0, 3), min_size=0, max_size=2),
    st.sampled_from([0, 1, 2, 7, 30]),
    st.sampled_from([1, 2, 5, 16, 100]),
    st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]),
    st.integers(0, 10_000),
)
def test_against_a_loop(batch: list[int], count: int, num_samples: int, fraction: float, seed: int) -> None:
    assignment = random(*batch, count, seed=seed)
    found = sample_assignment(assignment, num_samples, fraction, generator=torch.Generator().manual_seed(seed))
    draw = torch.rand(assignment.target_index.shape, generator=torch.Generator().manual_seed(seed))
    rows = [
        loop(index, own, num_samples, fraction)
        for index, own in zip(
            assignment.target_index.flatten(0, -2).tolist() if batch else [assignment.target_index.tolist()],
            draw.flatten(0, -2).tolist() if batch else [draw.tolist()],
            strict=True,
        )
    ]
    expected = torch.tensor(rows, dtype=torch.int64).reshape(assignment.target_index.shape)
    assert torch.equal(found.target_index, expected)
    assert torch.equal(found.quality, torch.where(expected >= 0, assignment.quality, 0))
    assert torch.equal(found.num_targets, assignment.num_targets)
    assert found.max_pairs == min(assignment.max_pairs, int(num_samples * fraction))


@pytest.mark.parametrize(
    ("positives", "background", "expected"),
    [
        (100, 100, (5, 15)),  # a quarter of 20
        (3, 100, (3, 17)),  # background fills up
        (100, 4, (5, 4)),  # positives do not
        (0, 7, (0, 7)),
        (5, 0, (5, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_numbers(positives: int, background: int, expected: tuple[int, int]) -> None:
    index = torch.tensor([0] * positives + [-2] * 3 + [-1] * background)
    found = sample_assignment(made(index.expand(50, -1)), 20, 0.25)
    assert (found.num_positives == expected[0]).all()
    assert (found.is_background.sum(-1) == expected[1]).all()
    assert found.is_ignored[:, index == -2].all()


def test_every_prediction_is_as_likely_as_another() -> None:
    """Of 12 positives 3 are drawn, and of 20 background predictions 5, in each of 20000 images."""
    index = torch.tensor([1, -1, 2, -1, -1, 0, -1, -2] * 4)
    found = sample_assignment(
        made(index.expand(20_000, -1)), 8, 0.375, generator=torch.Generator().manual_seed(0)
    ).target_index
    share = (found != IGNORED).float().mean(0)
    expected = torch.where(index >= 0, 3 / 12, torch.where(index == -1, 5 / 16, 0.0))
    # Four standard deviations of a share of 20000.
    assert (share - expected).abs().max() < 4 * (0.25 / 20_000) ** 0.5
    # Nor do two of them go together more often than others.
    kept = (found[:, index >= 0] != IGNORED).float()
    together = kept.mT @ kept / len(kept)
    off = together[~torch.eye(12, dtype=torch.bool)]
    assert (off - 3 / 12 * 2 / 11).abs().max() < 5 * (0.05 / 20_000) ** 0.5


def test_images_are_drawn_apart() -> None:
    found = sample_assignment(made(torch.full((40, 30), -1)), 10).target_index
    assert len({tuple(row) for row in found.tolist()}) > 30


def test_a_generator_says_what_is_drawn() -> None:
    assignment = random(3, 40)
    sampler = RandomSampler(num_samples=8, generator=torch.Generator().manual_seed(3))
    first, second = sampler(assignment), sampler(assignment)
    again = sample_assignment(assignment, 8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.target_index, again.target_index)
    assert not torch.equal(first.target_index, second.target_index)
    torch.manual_seed(5)
    one = sample_assignment(assignment, 8)
    torch.manual_seed(5)
    assert torch.equal(one.target_index, sample_assignment(assignment, 8).target_index)


def test_all_of_it_if_there_are_few() -> None:
    assignment = random(3, 40)
    assert torch.equal(sample_assignment(assignment, 80, 1.0).target_index, assignment.target_index)


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_every_matcher_can_be_sampled(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    result = matcher(*scene(3, 0, 5), priors)
    assignment = result if isinstance(result, Assignment) else result.assignment()
    found = sample_assignment(assignment, 6)
    assert (found.num_positives == assignment.num_positives.clamp(max=3)).all()
    kept = ~found.is_ignored
    assert torch.equal(found.target_index[kept], assignment.target_index[kept])
    assert torch.equal(found.pairs()[0].sample_sizes, found.num_positives)


@pytest.mark.graphs
def test_nothing_waits_for_the_device_and_graphs_are_whole() -> None:
    sample: Callable[[Tensor], Tensor] = lambda index: sample_assignment(made_static(index), 4).target_index  # noqa: E731
    assert_no_host_sync(sample, torch.tensor([[0, -1, 1, -2], [-1, -1, -1, -1]]))
    compiled = torch.compile(sample, fullgraph=True, backend="eager")
    index = torch.tensor([[0, -1, 1, -2], [-1, -1, -1, -1]])
    assert torch.equal(compiled(index), torch.tensor([[0, -1, 1, -2], [-1, -1, -1, -1]]))


def made_static(index: Tensor) -> Assignment:
    counts = index.new_full(index.shape[:-1], 2)
    zeros = torch.zeros_like(counts)
    return Assignment(index, (index >= 0).float(), counts, zeros, 2, index.shape[-1])


def test_a_sampler_is_a_value() -> None:
    sampler = RandomSampler(num_samples=8, positive_fraction=0.25)
    assert pickle.loads(pickle.dumps(sampler)) == sampler


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: sample_assignment(a, 0), ValueError, "num_samples must be at least 1, got 0"),
        (lambda a: sample_assignment(a, 2.5), TypeError, "num_samples must be an integer"),
        (lambda a: sample_assignment(a, 4, 1.5), ValueError, r"positive_fraction must lie in \[0, 1\], got 1.5"),
        (lambda a: sample_assignment(a.target_index, 4), TypeError, "must be an Assignment, got Tensor"),
        (lambda a: sample_assignment(a, 4, generator=3), TypeError, "generator must be a torch.Generator, got int"),
        (lambda _: RandomSampler(num_samples=4, generator=3), TypeError, "generator must be a torch.Generator"),
        (lambda _: RandomSampler(num_samples=-1), ValueError, "num_samples must not be negative|at least 1"),
    ],
)
def test_wrong_arguments(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(random(2, 5))
