"""What rules do where the host cannot look, as on an accelerator: rows of images are (N, G, P), and nothing collides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import EVERY_MATCHER
from cases.scenes import scene
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from losses.core.positives import Positives
from matchers import Assignment
from matchers.assignments.selection import BestTarget
from matchers.dense.rule import Rule


class Names(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func._schema.name.partition("::")[2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name, (matcher, _) in EVERY_MATCHER.items() if isinstance(matcher, Rule)])
def test_rules_reduce_over_targets_without_atomics(name: str) -> None:
    matcher, priors = EVERY_MATCHER[name]
    on_meta = pytree.tree_map(lambda leaf: leaf.to("meta"), (*scene(5, 0, 3), priors))
    with Names() as names:
        matcher(*on_meta)
    assert not names.seen & {"index_reduce_", "index_reduce"}


@pytest.mark.parametrize("highest", [False, True])
def test_pairs_that_do_not_count_stay_at_their_own_predictions(highest: bool) -> None:
    best = BestTarget(2, 5, torch.device("cpu"), highest=highest)
    index = torch.tensor([[4, 0], [1, 2]])
    slots = best.see_pairs(
        torch.ones(2, 2), torch.tensor([0, 1]), torch.tensor([3, 1]), index, torch.zeros(2, 2).bool()
    )
    assert slots.tolist() == [4, 0, 6, 7]
    assert best.result()[0].eq(-1).all()


def test_rows_of_filler_read_different_predictions() -> None:
    index = torch.full((2, 40), -1)
    index[0, 7], index[0, 3], index[1, 5] = 1, 0, 2
    assignment = Assignment.from_index(index, num_targets=torch.tensor([2, 3]), per_target=4)
    positives = Positives._static(assignment)
    assert positives.valid is not None and positives.valid.sum() == 3
    slots = positives.slots[positives.valid].tolist()
    assert sorted(slots) == [3, 7, 45]
    assert dict(zip(slots, positives.target[positives.valid].tolist(), strict=True)) == {3: 0, 7: 1, 45: 2}
    assert len(positives.slots.unique()) == len(positives) == 2 * assignment.max_pairs
    values = torch.rand(2, 40, 3)
    rows = positives.of_predictions(values)
    assert torch.equal(rows[positives.valid], values.flatten(0, 1)[slots]) and not rows[~positives.valid].any()
