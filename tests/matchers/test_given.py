"""Pairs that are known before a matcher is called, and pairs of one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given as drawn
from hypothesis import strategies as st
from reference.given import by_key, hungarian_of_the_rest
from torch import Tensor

from matchers import (
    BACKGROUND,
    IGNORED,
    Assignment,
    BalancedSinkhorn,
    ClosestPrediction,
    ClosestTarget,
    Hungarian,
    Predictions,
    SoftMin,
    Targets,
    UnbalancedSinkhorn,
    WeightedSum,
    match_by_key,
)
from ragged import RaggedBatch, combine_data

CLASSES = 3
SIZES = [(5, 3), (0, 2), (2, 0), (3, 4)]


def scene(sizes: Any, seed: int, *, ignore: bool = False) -> tuple[Predictions, Targets]:
    draw = torch.Generator().manual_seed(seed)
    logits = combine_data([torch.randn(count, CLASSES, generator=draw) for count, _ in sizes])
    boxes = combine_data([torch.rand(count, 4, generator=draw) * 0.4 + 0.2 for count, _ in sizes])
    truth = [
        {
            "boxes": torch.rand(count, 4, generator=draw) * 0.4 + 0.2,
            "labels": torch.randint(CLASSES, (count,), generator=draw),
            "ignore": (torch.rand(count, generator=draw) < 0.3) & ignore,
        }
        for _, count in sizes
    ]
    return Predictions(logits, boxes), Targets.of(truth, box_format="cxcywh", normalized=True)


def known(predictions: Predictions, targets: Targets, seed: int) -> Assignment:
    """Some pairs, some ignored; a target may have several predictions."""
    draw = torch.Generator().manual_seed(seed)
    assert predictions.mask is not None
    shape = predictions.mask.shape
    sizes = targets.num_targets.unsqueeze(-1)
    target = torch.randint(1000, shape, generator=draw) % sizes.clamp(min=1)
    kind = torch.rand(shape, generator=draw)
    index = torch.where((kind < 0.4) & (sizes > 0), target, torch.where(kind > 0.85, IGNORED, BACKGROUND))
    index = index.masked_fill(~predictions.mask, IGNORED)
    return Assignment.from_index(
        index,
        num_targets=targets.num_targets,
        quality=torch.rand(shape, generator=draw),
        max_num_targets=targets.max_num_targets,
    )


sizes_of_images = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=4)


@drawn(sizes_of_images, st.integers(0, 999), st.booleans(), st.booleans())
@examples(40)
def test_hungarian_matches_the_rest(sizes: Any, seed: int, ignore: bool, some: bool) -> None:
    predictions, targets = scene(sizes, seed, ignore=ignore)
    pairs = known(predictions, targets, seed)
    assert predictions.mask is not None
    free = torch.rand(predictions.mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.7
    matcher = Hungarian(ignore_iof=2.0)
    found = matcher(predictions, targets, given=pairs, free=free if some else None)
    cost = torch.stack(list(matcher.costs(predictions, targets).values())).sum(0)
    for at, (count, size) in enumerate(sizes):
        expected = hungarian_of_the_rest(
            cost[at],
            pairs.target_index[at, :count].tolist(),
            free[at].tolist() if some else [True] * count,
            targets.ignored[at, :size].tolist(),
        )
        assert found.target_index[at, :count].tolist() == expected
        assert (found.target_index[at, count:] == IGNORED).all()
    kept = (pairs.target_index >= 0) & (found.target_index >= 0)
    assert torch.equal(found.quality[kept], pairs.quality[kept])
    assert int(found.num_positives.max()) <= found.max_pairs
    gt, pred = found.pairs()
    assert torch.equal(gt.sample_sizes, found.num_positives) and torch.equal(pred.sample_sizes, gt.sample_sizes)


MATCHERS: dict[str, Callable[[], Any]] = {
    "hungarian": Hungarian,
    "target": lambda: ClosestTarget(background_cost=3.0),
    "prediction": ClosestPrediction,
    "softmin": SoftMin,
    "balanced": lambda: BalancedSinkhorn(background_cost=1.0),
    "unbalanced": UnbalancedSinkhorn,
    "sum": lambda: WeightedSum([SoftMin(), Hungarian()]),
    "sum, own costs": lambda: WeightedSum([SoftMin(), Hungarian()], same_cost=False),
}


@pytest.mark.parametrize("name", MATCHERS)
def test_the_rest_is_matched_as_alone(name: str) -> None:
    """With the predictions and the targets that are left, image by image."""
    predictions, targets = scene(SIZES, 3)
    pairs, matcher = known(predictions, targets, 3), MATCHERS[name]()
    found = matcher(predictions, targets, given=pairs)
    plan = found.plan() if isinstance(found, Assignment) else found
    dicts = targets.to_dicts()
    for at, (count, size) in enumerate(SIZES):
        index = pairs.target_index[at, :count]
        free = (index == BACKGROUND).nonzero().squeeze(-1)
        left = torch.tensor([target for target in range(size) if target not in index.tolist()], dtype=torch.int64)
        assert predictions.logits is not None and predictions.boxes is not None
        rest = Predictions(predictions.logits[at : at + 1, free], predictions.boxes[at : at + 1, free])
        truth = Targets.of([{k: v[left] for k, v in dicts[at].items()}], box_format="cxcywh", normalized=True)
        expected = matcher(rest, truth)
        expected = expected.plan() if isinstance(expected, Assignment) else expected
        weights = plan.weights.tensor[at]
        torch.testing.assert_close(weights[free][:, left], expected.weights.tensor[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(plan.background[at, free], expected.background[0], atol=1e-5, rtol=1e-4)
        for prediction, target in enumerate(index.tolist()):
            if target != BACKGROUND:
                wanted = torch.zeros(targets.max_num_targets)
                wanted[[target] if target >= 0 else []] = 1
                assert torch.equal(weights[prediction], wanted) and plan.background[at, prediction] == 0


def test_a_target_keeps_all_predictions_that_are_given_to_it() -> None:
    predictions, targets = scene([(4, 2)], 0)
    pairs = Assignment.from_index(torch.tensor([[1, -1, 1, -1]]), num_targets=torch.tensor([2]))
    found = Hungarian()(predictions, targets, given=pairs)
    assert found.target_index[0, [0, 2]].tolist() == [1, 1]
    assert sorted(found.target_index[0, [1, 3]].tolist()) == [-1, 0]


def test_layers_share_what_is_given() -> None:
    predictions, targets = scene([(4, 2), (4, 3)], 0)
    assert predictions.logits is not None and predictions.boxes is not None
    layers = Predictions(predictions.logits.expand(3, -1, -1, -1), predictions.boxes.expand(3, -1, -1, -1))
    pairs = Assignment.from_index(torch.tensor([[1, -1, -1, -1], [-2, 2, -1, -1]]), num_targets=targets.num_targets)
    found = Hungarian()(layers, targets, given=pairs)
    expected = Hungarian()(Predictions(predictions.logits, predictions.boxes), targets, given=pairs)
    assert torch.equal(found.target_index, expected.target_index.expand(3, -1, -1))


@pytest.mark.graphs
def test_static_shapes_give_the_same() -> None:
    predictions, targets = scene(SIZES, 5, ignore=True)
    pairs = known(predictions, targets, 5)
    free = combine_data([torch.rand(count) < 0.7 for count, _ in SIZES])
    matcher = Hungarian()
    torch.compiler.reset()

    def match(own: Predictions, truth: Targets, given: Assignment, free: RaggedBatch) -> Tensor:
        return matcher(own, truth, given=given, free=free).target_index

    compiled = torch.compile(match, backend="eager", fullgraph=True)
    expected = match(predictions, targets, pairs, free)
    assert torch.equal(compiled(predictions, targets, pairs, free), expected)
    on_meta = match(*(each.to("meta") for each in (predictions, targets, pairs, free)))  # type: ignore[attr-defined]
    assert on_meta.is_meta and on_meta.shape == expected.shape


PREDICTIONS, TARGETS = scene([(4, 2), (3, 1)], 0)
GIVEN = Assignment.from_index(
    torch.tensor([[1, -1, -1, -1], [-1, -1, -1, -2]]), num_targets=torch.tensor([2, 1]), max_num_targets=2
)


def of(index: Any, counts: Any, **more: Any) -> Assignment:
    return Assignment.from_index(torch.tensor(index), num_targets=torch.tensor(counts), **more)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"given": GIVEN.target_index}, TypeError, "given must be an Assignment, got Tensor"),
        ({"given": of([[1], [-1]], [2, 1])}, ValueError, r"of shape \(2, 1\), but the predictions have \(2, 4\)"),
        ({"given": of([[-1] * 4] * 2, [3, 1])}, ValueError, "to 3 targets at most, there are 2"),
        ({"given": of([[-1] * 4] * 2, [2, 2])}, ValueError, "to 2 targets in sample 1, which has 1"),
        ({"given": of([[-1] * 4, [0] * 4], [2, 1])}, ValueError, "prediction 3 of sample 1, which has 3 predictions"),
        ({"free": torch.ones(2, 4)}, TypeError, "free must be a boolean mask of the predictions, got torch.float32"),
        ({"free": torch.ones(2, 3).bool()}, ValueError, r"of shape \(2, 3\), but the predictions have \(2, 4\)"),
        ({"free": [True]}, TypeError, "free must be a torch.Tensor, got list"),
    ],
)
def test_what_does_not_fit(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Hungarian()(PREDICTIONS, TARGETS, **options)


# --- by key


ids = st.lists(st.integers(-2, 6), max_size=5)


@drawn(st.lists(st.tuples(ids, ids), min_size=1, max_size=4), st.sampled_from([torch.int64, torch.int32, torch.int8]))
@examples(60)
def test_each_query_has_the_target_of_its_id(images: Any, dtype: torch.dtype) -> None:
    images = [(list(dict.fromkeys(own)), queries) for own, queries in images]
    own, queries = (
        combine_data([torch.tensor(each[k], dtype=dtype) for each in images]).with_max_sample_size(7) for k in (0, 1)
    )
    garbage = [batch.with_padded_set_to(3) for batch in (own, queries)]
    for found in (match_by_key(own, queries), match_by_key(*garbage)):
        for at, (targets, keys) in enumerate(images):
            assert found.target_index[at, : len(keys)].tolist() == by_key(targets, keys)
            assert (found.target_index[at, len(keys) :] == IGNORED).all()
        assert torch.equal(found.num_targets, own.sample_sizes)
        assert torch.equal(found.quality, (found.target_index >= 0).float())


def test_two_targets_of_one_id_are_an_error() -> None:
    with pytest.raises(ValueError, match="different ids, got 5 for both 0 and 2 of sample 1"):
        match_by_key(combine_data([[1, 2], [5, 3, 5]]), combine_data([[1], [5]]))
    assert match_by_key(torch.tensor([[-1, -1]]), torch.tensor([[-1]])).target_index.tolist() == [[-1]]


def test_keys_of_layers_and_without_values() -> None:
    own, queries = torch.tensor([[4, 2], [7, 8]]), torch.tensor([[[2, 9], [7, 7]], [[4, 4], [8, -1]]])
    expected = [[[1, -1], [0, 0]], [[0, 0], [1, -1]]]
    assert match_by_key(own, queries).target_index.tolist() == expected
    compiled = torch.compile(match_by_key, backend="eager", fullgraph=True)
    assert compiled(own, queries).target_index.tolist() == expected
    assert match_by_key(own.to("meta"), queries.to("meta")).target_index.is_meta


def test_tracks_over_frames() -> None:
    """Queries of tracks have their targets by id; those of ended tracks stay background; the others are matched."""
    predictions, targets = scene([(5, 3), (4, 2)], 2)
    ids = combine_data([[11, 12, 13], [21, 22]])
    query_ids = combine_data([[12, 99, -1, -1, -1], [-1, 21, -1, -1]])
    tracks = match_by_key(ids, query_ids)
    found = Hungarian()(predictions, targets, given=tracks, free=query_ids < 0)
    assert found.target_index[0, :2].tolist() == [1, BACKGROUND]
    assert found.target_index[1, 1:2].tolist() == [0]
    assert sorted(found.target_index[0, 2:].tolist()) == [-1, 0, 2]
    assert sorted(found.target_index[1, [0, 2, 3]].tolist()) == [-1, -1, 1]
