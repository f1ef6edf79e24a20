"""Assignments and plans: the forms agree with each other, with plain loops, and with what they say in words."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers import Assignment, Hungarian, Plan, Predictions, Targets, detr_costs
from ragged import RaggedBatch
from ragged.testing import FILLERS, assert_no_host_sync, filler_value


@st.composite
def assignments(draw: st.DrawFn, one_to_one: bool = False) -> Assignment:
    """Any: several batch dimensions, no targets, no predictions, background and ignored ones."""
    shape = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    count = draw(st.sampled_from([0, 1, 2, 7]))
    num_targets = torch.randint(0, draw(st.sampled_from([1, 2, 6])), shape, generator=generator)
    low = draw(st.sampled_from([-2, 0]))
    drawn = low + (torch.rand(*shape, count, generator=generator) * (num_targets.unsqueeze(-1) - low)).long()
    index = torch.where(drawn < num_targets.unsqueeze(-1), drawn, -1)
    if one_to_one:
        rows = (
            [
                [g if g < 0 or g not in row[:p] else -1 for p, g in enumerate(row)]
                for row in index.reshape(-1, count).tolist()
            ]
            if count
            else []
        )
        index = torch.tensor(rows, dtype=torch.int64).reshape(*shape, count)
    quality = torch.rand(index.shape, generator=generator)
    width = int(num_targets.max()) + draw(st.sampled_from([0, 2]))
    return Assignment.from_index(index, num_targets=num_targets, quality=quality, max_num_targets=width)


def rows_of(assignment: Assignment) -> list[list[int]]:
    count = assignment.target_index.shape[-1]
    return [row.tolist() for row in assignment.target_index.reshape(assignment.num_targets.numel(), count)]


@given(assignments())
def test_pairs(assignment: Assignment) -> None:
    gt, pred = assignment.pairs()
    expected = [sorted((g, p) for p, g in enumerate(row) if g >= 0) for row in rows_of(assignment)]
    found = [
        list(zip(a.tolist(), b.tolist(), strict=True))
        for a, b in zip(flat(gt).split(), flat(pred).split(), strict=True)
    ]
    assert found == expected
    assert gt.dtype == pred.dtype == torch.int64
    assert gt.shape[-1] == assignment.max_pairs or not gt.shape[-1]
    assert assignment.num_positives.flatten().tolist() == [len(pairs) for pairs in expected]
    again = Assignment.from_pairs(
        gt,
        pred,
        num_predictions=assignment.target_index.shape[-1],
        num_targets=assignment.num_targets,
        max_num_targets=assignment.max_num_targets,
    )
    assert torch.equal(again.target_index, torch.where(assignment.is_ignored, -1, assignment.target_index))


def flat(batch: RaggedBatch) -> RaggedBatch:
    return batch.flatten_batch_dims() if batch.num_batch_dims > 1 else batch


@given(assignments())
def test_what_it_says(assignment: Assignment) -> None:
    index = assignment.target_index
    assert torch.equal(assignment.is_positive, index >= 0)
    assert torch.equal(assignment.is_background, index == -1)
    assert torch.equal(assignment.is_ignored, index == -2)
    assert (assignment.quality[index < 0] == 0).all()
    counts = assignment.predictions_per_target()
    assert counts.shape == (*assignment.num_targets.shape, assignment.max_num_targets)
    sizes = assignment.num_targets.flatten().tolist()
    for found, size, row in zip(flat(counts).split(), sizes, rows_of(assignment), strict=True):
        assert found.tolist() == [row.count(g) for g in range(size)]
    lines = assignment.describe().splitlines()
    assert len(lines) == len(sizes)
    for line, size, row in zip(lines, sizes, rows_of(assignment), strict=True):
        without = sum(g not in row for g in range(size))
        assert f": {size} target" in line
        positive = sum(g >= 0 for g in row)
        assert f"{positive} positive, {row.count(-1)} background, {row.count(-2)} ignored; {without} target" in line


@given(assignments())
def test_plan_and_back(assignment: Assignment) -> None:
    plan = assignment.plan()
    shape = (*assignment.target_index.shape, assignment.max_num_targets)
    assert plan.weights.shape == shape
    assert plan.weights.non_uniform_dim == len(shape) - 1
    assert torch.equal(plan.num_targets, assignment.num_targets)
    weights = plan.weights.with_padded_set_to(0).tensor
    total = weights.sum(-1) + plan.background
    assert torch.equal(total, (~assignment.is_ignored).float())
    for p, row in enumerate(weights.flatten(0, -2)):
        assert row.nonzero().flatten().tolist() == [g for g in [assignment.target_index.flatten()[p].item()] if g >= 0]
    back = plan.assignment()
    assert torch.equal(back.target_index, assignment.target_index)
    assert torch.equal(back.num_targets, assignment.num_targets)
    assert back.max_num_targets == assignment.max_num_targets
    garbage = Plan(plan.weights.with_padded_set_to(math.nan), plan.background, plan.num_invalid)
    assert torch.equal(garbage.assignment().target_index, assignment.target_index)


@given(assignments(), st.sampled_from(FILLERS), st.sampled_from([(), (1,), (2, 3)]), st.sampled_from([0, -7]))
def test_gather(assignment: Assignment, filler: str, rest: tuple[int, ...], fill: int) -> None:
    shape = (*assignment.num_targets.shape, assignment.max_num_targets, *rest)
    values = RaggedBatch(torch.rand(shape), sample_sizes=assignment.num_targets)
    values = values.with_padded_set_to(filler_value(filler, torch.float32))
    source = values.tensor.clone().requires_grad_()
    found = assignment.gather(values.create_with_sample_sizes_like_self(source), fill)
    assert found.shape == (*assignment.target_index.shape, *rest)
    rows = rows_of(assignment)
    for place, row in enumerate(rows):
        data = values.tensor.reshape(len(rows), assignment.max_num_targets, *rest)[place]
        own = found.reshape(len(rows), len(row), *rest)[place]
        for p, g in enumerate(row):
            assert torch.equal(own[p], data[g] if g >= 0 else torch.full(rest, float(fill)))
    if found.requires_grad:
        (gradient,) = torch.autograd.grad(found.sum(), source)
        assert gradient.isfinite().all()
        assert (gradient[~values.mask] == 0).all()


def test_gather_over_layers() -> None:
    index = torch.tensor([[[0, 1], [-1, 0]], [[-2, 1], [0, 0]]])
    assignment = Assignment.from_index(index, num_targets=torch.tensor([2, 1]).expand(2, 2))
    values = RaggedBatch(torch.tensor([[5.0, 6.0], [7.0, math.nan]]), sample_sizes=[2, 1])
    assert assignment.gather(values, fill=0).tolist() == [[[5, 6], [0, 7]], [[0, 6], [7, 7]]]
    labels = RaggedBatch(torch.tensor([[5, 6], [7, -99]]), sample_sizes=[2, 1])
    assert assignment.gather(labels, fill=80).tolist() == [[[5, 6], [80, 7]], [[80, 6], [7, 7]]]
    assert assignment.gather(labels, fill=80).dtype == torch.int64


def test_stacked_layers_keep_all_their_pairs() -> None:
    """A layer that is matched one to one says that it has few pairs, and another one may have many."""
    few, many = (
        Assignment.from_index(torch.tensor([row]), num_targets=torch.tensor([count]))
        for row, count in (([-1, 0, -1, -1], 1), ([1, 0, -1, 1], 2))
    )
    few = replace(few, max_pairs=1)
    for layers in ([few, many], [many, few]):
        stacked = Assignment.stack(layers)
        assert stacked.max_num_targets == 2
        for which, found in enumerate(stacked.pairs()):
            own = [layer.pairs()[which].split()[0].tolist() for layer in layers]
            assert [layer.tolist() for layer in flat(found).split()] == own


def test_unstacked_layers_are_as_they_were() -> None:
    layer = Assignment.from_index(torch.tensor([[1, 0, -1], [0, -2, -1]]), num_targets=torch.tensor([2, 1]))
    layers = [replace(layer, max_pairs=2), replace(layer, target_index=layer.target_index.flip(-1), max_pairs=2)]
    for found, own in zip(Assignment.stack(layers).unstack(), layers, strict=True):
        for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(own), strict=True):
            assert torch.equal(one, other)
        assert (found.max_num_targets, found.max_pairs) == (2, 2)


def test_words() -> None:
    assignment = Assignment.from_index(
        torch.tensor([[0, -1, 0, -2], [-1, -1, -1, -1]]),
        num_targets=torch.tensor([2, 0]),
        quality=torch.tensor([[0.5, 1, 0.25, 1], [1, 1, 1, 1]]),
    )
    assert assignment.describe() == (
        "sample 0: 2 targets, 2 positive, 1 background, 1 ignored; 1 target without a prediction\n"
        "sample 1: 0 targets, 0 positive, 4 background, 0 ignored; 0 targets without a prediction"
    )
    costs = {"class": torch.arange(16.0).reshape(2, 2, 4), "box": torch.ones(2, 2, 4)}
    assert assignment.explain(0, costs=costs).splitlines()[1:] == [
        "  target 0: prediction 0 (quality 0.5, class 0, box 1); prediction 2 (quality 0.25, class 2, box 1)",
        "  target 1: none",
    ]
    assert assignment.explain(1).count("\n") == 0
    with pytest.raises(IndexError, match=r"sample must have 1 indices, one for each batch dimension, got \(0, 0\)"):
        assignment.explain(0, 0)
    with pytest.raises(IndexError, match=r"got \(\)"):
        assignment.explain()


def test_words_of_a_matcher() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [math.nan, 0, 1, 1]]]).expand(2, 1, 2, 4)
    targets = Targets.of([{"boxes": torch.tensor([[0.0, 0, 4, 4], [1, 1, 2, 2]]), "labels": torch.tensor([0, 1])}])
    predictions = Predictions(torch.zeros(2, 1, 2, 3), boxes)
    matcher = Hungarian(detr_costs())
    assignment = matcher(predictions, targets)
    text = assignment.explain(1, 0, costs=matcher.costs(predictions, targets))
    assert text.startswith("sample (1, 0): 2 targets, 2 positive") and "2 costs not finite" in text
    assert "target 0: prediction 0 (quality 1, class -0.1733, l1 0, giou" in text
    assert "target 1: prediction 1 (quality 1, class -0.1733, l1 nan, giou nan)" in text


def test_plan_to_assignment() -> None:
    weights = torch.tensor([[[0.7, 0.1, 9.0], [0.2, 0.3, 9.0], [0.4, 0.4, 9.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0]]])
    background = torch.tensor([[0.2, 0.5, 0.2, 0.3, 0.0]])
    plan = Plan(
        RaggedBatch(weights, sample_sizes=[2], non_uniform_dim=2), background, torch.zeros(1, dtype=torch.int64)
    )
    hard = plan.assignment()
    assert hard.target_index.tolist() == [[0, -1, 0, -1, -2]]  # a tie goes to the lowest target
    torch.testing.assert_close(hard.quality, torch.tensor([[0.7, 0, 0.4, 0, 0]]))
    assert plan.assignment(threshold=0.3).target_index.tolist() == [[0, 1, 0, -1, -2]]
    assert plan.assignment(threshold=0.5).target_index.tolist() == [[0, -1, -1, -1, -2]]
    assert plan.explain(0) == (
        "sample 0: 2 targets, background 1.2\n"
        "  target 0: total 1.3; prediction 0 (0.7), prediction 2 (0.4), prediction 1 (0.2)\n"
        "  target 1: total 0.8; prediction 2 (0.4), prediction 1 (0.3), prediction 0 (0.1)"
    )
    equal = Plan(
        RaggedBatch(torch.full((1, 1, 1), 0.5), sample_sizes=[1], non_uniform_dim=2),
        torch.full((1, 1), 0.5),
        hard.num_invalid,
    )
    assert equal.assignment().target_index.tolist() == [[-1]]


@given(assignments())
def test_copies(assignment: Assignment) -> None:
    for item in (assignment, assignment.plan()):
        for other in (
            copy.deepcopy(item),
            pickle.loads(pickle.dumps(item)),
            pytree.tree_map(lambda leaf: leaf.clone(), item),
        ):
            assert type(other) is type(item)
            leaves = zip(pytree.tree_leaves(other), pytree.tree_leaves(item), strict=True)
            assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in leaves)


METHODS: dict[str, Callable[[Assignment], Any]] = {
    "pairs": lambda a: a.pairs(),
    "plan": lambda a: a.plan(),
    "plan and back": lambda a: a.plan().assignment(),
    "threshold": lambda a: a.plan().assignment(threshold=0.5),
    "counts": lambda a: (a.predictions_per_target(), a.num_positives),
    "gather": lambda a: a.gather(a.predictions_per_target(), -1),
    "from_index": lambda a: Assignment.from_index(a.target_index, num_targets=a.num_targets, max_num_targets=3),
    "from_pairs": lambda a: Assignment.from_pairs(
        *a.pairs(), num_predictions=4, num_targets=a.num_targets, max_num_targets=3
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_no_synchronisation_and_one_graph(name: str) -> None:
    torch._dynamo.reset()
    assignment = Assignment.from_index(
        torch.tensor([[0, -1, 0, -2], [-1, 2, 1, -1]]), num_targets=torch.tensor([1, 3]), max_num_targets=3
    )
    assert_no_host_sync(METHODS[name], assignment)
    found = torch.compile(METHODS[name], backend="eager", fullgraph=True)(assignment)
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(METHODS[name](assignment)), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


# --- bad input -------------------------------------------------------------------------------------------------------


def index_batch(*rows: list[int], sizes: list[int] | None = None) -> RaggedBatch:
    return RaggedBatch(torch.tensor(rows), sample_sizes=sizes or [len(row) for row in rows])


def test_bad_input() -> None:
    index, counts = torch.tensor([[0, -1], [1, 3]]), torch.tensor([1, 3])
    with pytest.raises(ValueError, match=r"got 3 for prediction 1 of sample 1, which has 3 targets"):
        Assignment.from_index(index, num_targets=counts)
    with pytest.raises(ValueError, match=r"got 1 for prediction 1 of sample 0, which has 1 targets"):
        Assignment.from_index(torch.tensor([[0, 1], [1, 2]]), num_targets=counts)
    with pytest.raises(ValueError, match=r"got -3 for prediction 0 of sample 0"):
        Assignment.from_index(index - 3, num_targets=counts)
    with pytest.raises(TypeError, match="target_index must be an int64 tensor, got torch.int32"):
        Assignment.from_index(index.int(), num_targets=counts)
    with pytest.raises(TypeError, match="target_index must be an int64 tensor, got list"):
        Assignment.from_index([[0]], num_targets=counts)
    with pytest.raises(ValueError, match=r"num_targets must have the shape \(2,\), got \(3,\)"):
        Assignment.from_index(index, num_targets=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"quality must have shape \(2, 2\), got \(2,\)"):
        Assignment.from_index(index.clamp(max=0), num_targets=counts, quality=torch.zeros(2))
    with pytest.raises(ValueError, match=r"num_targets must be on the device of target_index \(cpu\), got meta"):
        Assignment.from_index(index, num_targets=counts.to("meta"))


def test_quality_of_the_background_is_zero_whatever_was_given() -> None:
    quality = torch.tensor([[0.5, math.nan, math.inf]])
    assignment = Assignment.from_index(torch.tensor([[0, -1, -2]]), num_targets=torch.tensor([1]), quality=quality)
    assert assignment.quality.tolist() == [[0.5, 0, 0]]


def test_width_must_hold_the_targets() -> None:
    with pytest.raises(ValueError, match="max_num_targets"):
        Assignment.from_index(torch.tensor([[2]]), num_targets=torch.tensor([3]), max_num_targets=1)


@pytest.mark.parametrize(
    ("gt", "pred"),
    [
        (index_batch([0, 1]), index_batch([0, 5])),  # one beyond the predictions: dropped
        (index_batch([0, 1]), index_batch([0, 6])),
        (index_batch([0, 1]), index_batch([0, -1])),
        (index_batch([0, 1], sizes=[1]), index_batch([0, 3])),  # reads filler
        (index_batch([0, 1, 1]), index_batch([0, 3])),
        (index_batch([0, 1]), index_batch([3, 3])),  # one prediction, two targets: one is lost
        (index_batch([0, -1]), index_batch([2, 3])),
    ],
)
def test_bad_pairs(gt: RaggedBatch, pred: RaggedBatch) -> None:
    with pytest.raises((ValueError, IndexError), match="sample 0|sizes"):
        Assignment.from_pairs(gt, pred, num_predictions=5, num_targets=torch.tensor([2]))


def test_pairs_with_a_target_too_many() -> None:
    with pytest.raises(IndexError, match=r"matched_gt_indices: index 2 .* sample 1"):
        Assignment.from_pairs(
            index_batch([0, 2], [0, 2]),
            index_batch([0, 3], [0, 3]),
            num_predictions=5,
            num_targets=torch.tensor([3, 2]),
        )


def test_gather_from_other_targets() -> None:
    assignment = Assignment.from_index(torch.tensor([[2]]), num_targets=torch.tensor([3]))
    with pytest.raises(ValueError, match="sizes"):
        assignment.gather(RaggedBatch(torch.tensor([[5.0, 6.0, math.nan]]), sample_sizes=[1]))


def test_targets_of_fewer_dimensions_serve_all_layers() -> None:
    index = torch.tensor([[[0, -1]], [[-1, 1]]])
    assignment = Assignment.from_index(index, num_targets=torch.tensor([2]))
    assert assignment.num_targets.tolist() == [[2], [2]]
    assert assignment.num_positives.tolist() == [[1], [1]]


def test_what_is_gathered_of_no_target_is_part_of_the_graph() -> None:
    assignment = Assignment.from_index(torch.full((1, 2), -1), num_targets=torch.tensor([0]))
    values = torch.zeros(1, 0, 3, requires_grad=True)
    gathered = assignment.gather(RaggedBatch(values, sample_sizes=[0]), fill=7)
    assert torch.equal(gathered, torch.full((1, 2, 3), 7.0))
    (gradient,) = torch.autograd.grad(gathered.sum(), values)
    assert gradient.shape == values.shape
