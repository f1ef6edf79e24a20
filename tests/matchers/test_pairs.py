"""Rows of targets: packed or static, whole or in blocks, what is reduced over the targets of an image is the same."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER, scene
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from matchers import Pairs, Predictions, Problem, Targets
from matchers.pairs import pairs as module
from matchers.pairs import reading
from matchers.pairs.groups import grouped

REDUCE = {"amin": 1 << 40, "amax": -1, "sum": 0}


def problem(sizes: list[int], num_predictions: int, *, at_once: int | None = None) -> Problem:
    """``at_once`` pairs fit a block."""
    generator = torch.Generator().manual_seed(0)
    boxes = [torch.rand(size, 4, generator=generator).cumsum(-1) for size in sizes]
    targets = Targets.of((boxes, [torch.arange(size) for size in sizes]))
    predictions = Predictions(boxes=torch.rand(len(sizes), num_predictions, 4, generator=generator).cumsum(-1))
    return Problem.of(predictions, targets, max_pairwise_bytes=None if at_once is None else 64 * at_once)


def values_of(pairs: Pairs) -> torch.Tensor:
    """A number for each pair, which says where it is; filler changes nothing."""
    place = torch.arange(pairs.problem.num_predictions)
    return 1 + (pairs.sample * 7 + pairs.target * 3).unsqueeze(-1) + place * pairs.target.unsqueeze(-1)


def over_targets(pairs: Pairs, reduce: str) -> torch.Tensor | None:
    found = None
    for block in pairs.blocks():
        values = values_of(block).masked_fill(~block.valid.unsqueeze(-1), REDUCE[reduce])
        found = block.over_targets(values, reduce, none=REDUCE[reduce], into=found)
    return found


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("sizes", [[3, 0, 5, 1], [0, 0], [4], [1, 2, 2, 1, 0, 2]])
@pytest.mark.parametrize("at_once", [None, 1, 6, 9, 16, 40, 100])
def test_static_rows_reduce_as_packed_ones(
    monkeypatch: Any, reduce: str, sizes: list[int], at_once: int | None
) -> None:
    packed = Pairs.of(problem(sizes, 3))
    expected = torch.full((len(sizes), 3), REDUCE[reduce])
    for sample, row in zip(packed.sample.tolist(), values_of(packed), strict=True):
        kind = {"amin": torch.minimum, "amax": torch.maximum, "sum": torch.add}[reduce]
        expected[sample] = kind(expected[sample], row)
    for is_readable in (True, False):
        monkeypatch.setattr(module, "values_are_readable", lambda _, given=is_readable: given)
        pairs = Pairs.of(problem(sizes, 3, at_once=at_once))
        assert pairs.packed == is_readable
        found = over_targets(pairs, reduce)
        assert found is not None
        assert torch.equal(found, expected)


@pytest.mark.parametrize("at_once", [1, 6, 9, 16, 40])
@pytest.mark.parametrize("is_known", [False, True])
def test_static_blocks_are_whole_images_or_part_of_one(monkeypatch: Any, at_once: int, is_known: bool) -> None:
    pairs = static_pairs(monkeypatch, [3, 0, 7, 1], is_known=is_known, at_once=at_once)
    assert (pairs.order is not None) == is_known
    blocks = list(pairs.blocks())
    assert torch.equal(torch.cat([block.row for block in blocks]), pairs.row)
    assert max(len(block) for block in blocks) <= max(at_once // 3, 1)
    for block in blocks:
        assert sum(group.rows for group in block.groups) == len(block)
        images = torch.cat([torch.arange(4)[block.images_of(group)] for group in block.groups])
        assert block.sample.unique_consecutive().tolist() == images.tolist()


def static_pairs(monkeypatch: Any, sizes: list[int], *, is_known: bool, at_once: int | None = None) -> Pairs:
    """As on an accelerator, where the host knows sizes or not."""
    monkeypatch.setattr(module, "values_are_readable", lambda _: False)
    monkeypatch.setattr(module, "_FILLER", 0)
    own = replace(problem(sizes, 3, at_once=at_once), known_sizes=tuple(sizes) if is_known else None)
    return Pairs.of(own)


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("sizes", [[3, 0, 9, 1], [0, 12], [0, 0], [1, 2, 20, 1, 0, 2]])
@pytest.mark.parametrize("at_once", [None, 1, 9, 40])
def test_known_sizes_change_no_result(monkeypatch: Any, reduce: str, sizes: list[int], at_once: int | None) -> None:
    found = over_targets(static_pairs(monkeypatch, sizes, is_known=True, at_once=at_once), reduce)
    expected = over_targets(static_pairs(monkeypatch, sizes, is_known=False, at_once=at_once), reduce)
    assert found is not None and expected is not None
    assert torch.equal(found, expected)


def test_runs_of_known_sizes(monkeypatch: Any) -> None:
    pairs = static_pairs(monkeypatch, [1, 0, 9, 2], is_known=True)
    for image, (start, count) in enumerate(zip(*pairs.runs(), strict=True)):
        assert pairs.sample[start : start + count].eq(image).all()
        assert pairs.valid[start : start + count].sum() == [1, 0, 9, 2][image]


@pytest.mark.parametrize("name", EVERY_MATCHER)
def test_matchers_say_the_same_where_the_host_knows_sizes(monkeypatch: Any, name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    predictions, targets = scene(1, 0, 30, 2, 1)
    monkeypatch.setattr(module, "values_are_readable", lambda _: False)
    expected = matcher(predictions, targets, priors)
    monkeypatch.setattr(reading, "values_are_readable", lambda _: False)
    monkeypatch.setattr(module, "_FILLER", 0)
    found = matcher(predictions, targets, priors)
    for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(one, other)


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12), allowed=st.integers(0, 60))
def test_groups_hold_every_image_once(sizes: list[int], allowed: int) -> None:
    ordered = sorted(sizes, reverse=True)
    groups = grouped(ordered, allowed)
    assert [at for group in groups for at in range(group.first, group.first + group.images)] == list(range(len(sizes)))
    assert all(group.most == ordered[group.first] for group in groups)
    assert sum(group.rows for group in groups) - sum(sizes) <= allowed


def test_targets_know_their_sizes_where_they_were_moved_or_read() -> None:
    targets = Targets.of([{"boxes": torch.zeros(count, 4), "labels": torch.zeros(count).long()} for count in (2, 0, 5)])
    assert targets.to("meta").known_sizes == (2, 0, 5)
    assert targets.to("meta").with_max_num_targets(9).known_sizes == (2, 0, 5)
    assert pickle.loads(pickle.dumps(targets)).known_sizes == (2, 0, 5)
    boxes = [torch.zeros(count, 4, device="meta") for count in (1, 3)]
    assert Targets.of((boxes, [box[:, 0].long() for box in boxes])).known_sizes == (1, 3)
    padded = Targets(targets.to("meta").boxes, targets.to("meta").labels)
    assert padded.known_sizes is None
