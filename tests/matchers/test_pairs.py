"""Rows of targets: packed or static, whole or in blocks, what is reduced over the targets of an image is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from matchers import Pairs, Predictions, Problem, Targets
from matchers.pairs import pairs as module

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
def test_static_blocks_are_whole_images_or_part_of_one(monkeypatch: Any, at_once: int) -> None:
    monkeypatch.setattr(module, "values_are_readable", lambda _: False)
    pairs = Pairs.of(problem([3, 0, 5, 1], 3, at_once=at_once))
    blocks = list(pairs.blocks())
    assert torch.equal(torch.cat([block.row for block in blocks]), pairs.row)
    assert max(len(block) for block in blocks) <= max(at_once // 3, 1)
    for block in blocks:
        first, count = block.images
        assert block.sample.unique().tolist() == list(range(first, first + count))
        assert len(block) % count == 0
