"""Denoising queries and the union of layers: against loops, over layouts, batch dims and ties."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import denoising as reference
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.denoising import denoising_assignment, denoising_indices, union_of_matches
from matchers.assignments.denoising_layout import denoising_attention_mask
from matchers.assignments.parts import BACKGROUND, IGNORED
from matchers.targets.targets import Targets
from ragged import RaggedBatch, combine_data
from ragged.testing import assert_no_host_sync

counts = st.lists(st.integers(0, 4), min_size=1, max_size=4)


def make_targets(sizes: list[int], *, slack: int = 0, filler: float = 0.0, ignore: Tensor | None = None) -> Targets:
    width = max(sizes, default=0) + slack
    number = torch.tensor(sizes)
    boxes = RaggedBatch(torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(sizes), width, 4), sample_sizes=number)
    labels = RaggedBatch(torch.zeros(len(sizes), width, dtype=torch.int64), sample_sizes=number)
    boxes = boxes.with_padded_set_to(filler)
    flags = None if ignore is None else RaggedBatch(ignore, sample_sizes=number)
    return Targets(boxes, labels.with_padded_set_to(-9), ignore=flags)


def make_meta(sizes: list[int], groups: int, slots: int | None = None) -> dict[str, Any]:
    slots = max(sizes) if slots is None else slots
    positive = [torch.tensor(reference.positive_queries(n, slots, groups), dtype=torch.int64) for n in sizes]
    return {"dn_positive_idx": positive, "dn_num_group": groups, "dn_num_split": [2 * slots * groups, 7]}


def expected_index(sizes: list[int], meta: dict[str, Any]) -> Tensor:
    total, groups = meta["dn_num_split"][0], meta["dn_num_group"]
    rows = [
        reference.from_positive_queries(positive.tolist(), n, groups, total)
        for n, positive in zip(sizes, meta["dn_positive_idx"], strict=True)
    ]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(sizes), total)


# --- denoising -----------------------------------------------------------------------------------------------------


@given(counts, st.integers(1, 3), st.integers(0, 2), st.sampled_from([0.0, math.nan, math.inf]))
def test_every_layout_gives_what_the_loops_give(sizes: list[int], groups: int, slack: int, filler: float) -> None:
    slots = max(sizes) + slack
    meta = make_meta(sizes, groups, slots)
    expected = expected_index(sizes, meta)
    targets = make_targets(sizes, slack=1, filler=filler)
    as_batch = combine_data(meta["dn_positive_idx"])
    as_batch = as_batch.with_max_sample_size(as_batch.max_sample_size + 2).with_padded_set_to(-5)
    for positive in (meta["dn_positive_idx"], as_batch, None):
        made = denoising_assignment({**meta, "dn_positive_idx": positive}, targets)
        assert torch.equal(made.target_index, expected)
        assert torch.equal(made.quality, (expected >= 0).float())
        assert made.max_num_targets == targets.max_num_targets and made.num_targets.tolist() == sizes
        assert made.num_positives.tolist() == [groups * n for n in sizes]
    assert torch.equal(denoising_indices(torch.tensor(sizes), groups, slots).target_index, expected)


@given(counts, st.integers(0, 3), st.integers(0, 2))
def test_queries_without_negatives_are_what_the_loops_give(sizes: list[int], groups: int, slack: int) -> None:
    slots = max(sizes) + slack
    made = denoising_indices(torch.tensor(sizes), groups, slots, negatives=False)
    rows = [[slot if slot < size else -1 for _ in range(groups) for slot in range(slots)] for size in sizes]
    assert torch.equal(made.target_index, torch.tensor(rows, dtype=torch.int64).reshape(len(sizes), groups * slots))
    assert made.num_positives.tolist() == [groups * size for size in sizes]
    pairs = made.pairs()
    assert pairs[0].sample_sizes.tolist() == [groups * size for size in sizes]


@given(counts, st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.booleans())
def test_which_query_sees_which_is_what_the_loops_say(
    sizes: list[int], groups: int, slack: int, num_queries: int, negatives: bool
) -> None:
    slots = max(sizes) + slack
    options: dict[str, Any] = {"negatives": negatives}
    made = denoising_attention_mask(groups, slots, num_queries, **options)
    total = groups * slots * (2 if negatives else 1) + num_queries

    def expected(size: int | None) -> Tensor:
        hidden = reference.hidden_queries(groups, slots, num_queries, negatives, size)
        return torch.tensor(hidden, dtype=torch.bool).reshape(total, total)

    assert torch.equal(made, expected(None))
    of_images = denoising_attention_mask(groups, slots, num_queries, num_targets=torch.tensor(sizes), **options)
    assert torch.equal(of_images, torch.stack([expected(size) for size in sizes]))
    assert not made.diagonal().any() and not of_images.diagonal(0, -2, -1).any()
    assigned = denoising_indices(torch.tensor(sizes), groups, slots, negatives=negatives)
    assert assigned.target_index.shape[-1] + num_queries == total


def test_attention_with_this_mask_leaks_nothing_and_is_finite() -> None:
    """No matched query depends on denoising queries, no image on the targets of others; in both torch's forms."""
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    sizes, groups, slots, matched = torch.tensor([2, 0]), 2, 3, 5
    queries = torch.randn(2, groups * 2 * slots + matched, 4)
    mask = denoising_attention_mask(groups, slots, matched, num_targets=sizes)
    made, _ = attention(queries, queries, queries, attn_mask=mask.repeat_interleave(2, 0))
    changed = queries.clone()
    changed[:, :-matched] = torch.randn(2, groups * 2 * slots, 4)
    other, _ = attention(changed, changed, changed, attn_mask=mask.repeat_interleave(2, 0))
    assert made.isfinite().all() and torch.equal(made[:, -matched:], other[:, -matched:])
    products = torch.nn.functional.scaled_dot_product_attention(
        *[queries.unsqueeze(1)] * 3, attn_mask=~mask.unsqueeze(1)
    )
    assert products.isfinite().all()
    # With two slots, an image of two targets has what it has with three.
    narrow = denoising_attention_mask(groups, 2, matched, num_targets=sizes[:1])
    kept = torch.tensor([slot for slot in range(12) if slot % 3 < 2] + list(range(12, 12 + matched)))
    fewer = queries[:1, kept]
    alone, _ = attention(fewer, fewer, fewer, attn_mask=narrow.repeat_interleave(2, 0))
    torch.testing.assert_close(alone, made[:1, kept], rtol=1e-4, atol=1e-5)


def test_pairs_are_those_of_the_method_up_to_order() -> None:
    sizes, groups = [3, 0, 1], 2
    meta = make_meta(sizes, groups)
    gt, pred = denoising_assignment(meta, make_targets(sizes)).pairs()
    for image, (targets, queries) in enumerate(zip(gt.split(), pred.split(), strict=True)):
        method = list(zip(meta["dn_positive_idx"][image].tolist(), list(range(sizes[image])) * groups, strict=True))
        assert sorted(zip(queries.tolist(), targets.tolist(), strict=True)) == sorted(method)
    every = denoising_indices(torch.tensor([2, 1]), 3, 2)
    assert every.pairs()[1].sample_sizes.tolist() == [6, 3]
    assert every.predictions_per_target().tensor.tolist() == [[3, 3], [3, 0]]


def test_any_layout_can_be_given_by_its_positive_queries() -> None:
    positive = [torch.tensor([5, 0, 3, 4]), torch.tensor([2, 1])]
    meta = {"dn_positive_idx": positive, "dn_num_group": 2, "dn_num_split": (6, 10)}
    made = denoising_assignment(meta, make_targets([2, 1]))
    assert made.target_index.tolist() == [[1, -1, -1, 0, 1, 0], [-1, 0, 0, -1, -1, -1]]


def test_an_image_does_not_depend_on_the_others() -> None:
    made = denoising_assignment(make_meta([2, 4, 0], 2), make_targets([2, 4, 0])).target_index
    order = [2, 0, 1]
    permuted = denoising_assignment(make_meta([0, 2, 4], 2), make_targets([0, 2, 4])).target_index
    assert torch.equal(permuted, made[order])


def test_nothing_to_denoise() -> None:
    for meta in (None, {"dn_num_group": 3, "dn_num_split": [0, 300]}, make_meta([0, 0], 1)):
        made = denoising_assignment(meta, make_targets([0, 0]))
        assert made.target_index.shape == (2, 0) and made.target_index.dtype == torch.int64
        assert made.pairs()[0].sample_sizes.tolist() == [0, 0]
    # A step without denoising may have targets all the same.
    assert denoising_assignment(None, make_targets([2, 1])).target_index.shape == (2, 0)
    lists = {"dn_num_group": 1, "dn_num_split": [2, 3], "dn_positive_idx": [[], []]}
    assert denoising_assignment(lists, make_targets([0, 0])).target_index.tolist() == [[-1, -1]] * 2
    assert denoising_indices(torch.tensor([0, 0]), 2, 0).target_index.shape == (2, 0)
    assert denoising_indices(torch.zeros(0, dtype=torch.int64), 2, 3).target_index.shape == (0, 12)


def test_ignored_targets_have_ignored_positives() -> None:
    targets = make_targets([2, 2], ignore=torch.tensor([[False, True], [False, False]]))
    for meta in (make_meta([2, 2], 2), {"dn_num_group": 2, "dn_num_split": [8, 0]}):
        made = denoising_assignment(meta, targets)
        ignored, background = IGNORED, BACKGROUND
        assert made.target_index[0].tolist() == [0, ignored, background, background] * 2
        assert made.target_index[1].tolist() == [0, 1, background, background] * 2
        assert made.quality[0].tolist() == [1, 0, 0, 0] * 2
    # Of the first target, too: what has none stays background.
    first = make_targets([2, 1], ignore=torch.tensor([[True, False], [True, False]]))
    made = denoising_assignment(make_meta([2, 1], 1), first)
    assert made.target_index.tolist() == [[IGNORED, 1, BACKGROUND, BACKGROUND], [IGNORED, *[BACKGROUND] * 3]]


def test_several_batch_dims() -> None:
    sizes = torch.tensor([[2, 0], [1, 2]])
    made = denoising_indices(sizes, 2, 2).target_index
    flat = denoising_indices(sizes.flatten(), 2, 2).target_index
    assert torch.equal(made, flat.view(2, 2, -1))
    boxes = RaggedBatch(torch.zeros(2, 2, 2, 4), sample_sizes=sizes)
    targets = Targets(boxes, RaggedBatch(torch.zeros(2, 2, 2, dtype=torch.int64), sample_sizes=sizes))
    positive = make_meta(sizes.flatten().tolist(), 2)["dn_positive_idx"]
    meta = {"dn_positive_idx": [positive[:2], positive[2:]], "dn_num_group": 2, "dn_num_split": [8, 5]}
    assert torch.equal(denoising_assignment(meta, targets).target_index, made)


# --- union ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.lists(st.integers(0, 3), min_size=1, max_size=3), st.integers(0, 6), st.integers(0, 1000))
def test_union_counts_pairs_as_the_loops_do(num_layers: int, sizes: list[int], queries: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    number = torch.tensor(sizes)
    index = torch.stack(
        [torch.randint(-2, n, (num_layers, queries), generator=generator) for n in sizes], 1
    )  # few values: many ties
    layers = Assignment.from_index(index, num_targets=number.expand(num_layers, -1), max_num_targets=max(sizes) + 2)
    made = union_of_matches(layers)
    expected = [reference.union(index[:, image].tolist()) for image in range(len(sizes))]
    assert made.target_index.tolist() == expected
    assert made.num_targets.tolist() == sizes and made.max_num_targets == max(sizes) + 2
    assert torch.equal(made.quality, (made.target_index >= 0).float())
    pairs = made.pairs()
    assert torch.equal(pairs[0].sample_sizes, made.num_positives)
    separate = [Assignment.from_index(layer, num_targets=number, max_num_targets=max(sizes) + 2) for layer in index]
    assert torch.equal(union_of_matches(separate).target_index, made.target_index)
    assert torch.equal(union_of_matches(separate[::-1]).target_index, made.target_index)


def test_ties_go_to_the_lowest_target_and_a_target_may_keep_several_queries() -> None:
    index = torch.tensor([[3, 1, 0], [1, 3, 0], [2, -1, 0], [2, -2, -1]])
    made = union_of_matches(Assignment.from_index(index, num_targets=torch.full((4,), 4)))
    assert made.target_index.tolist() == [2, 1, 0]
    both = torch.tensor([[0, -1], [-1, 0]])
    assert union_of_matches(Assignment.from_index(both, num_targets=torch.tensor([1, 1]))).target_index.tolist() == [
        0,
        0,
    ]


def test_union_of_one_to_one_matches_holds_all_its_pairs() -> None:
    """Layers that match one to one say in ``max_pairs`` how many pairs they have; the union has more."""
    layers = Assignment.from_index(torch.eye(3).long() - 1, num_targets=torch.ones(3).long())
    layers = replace(layers, max_pairs=1)
    made = union_of_matches(layers)
    assert made.target_index.tolist() == [0, 0, 0]
    assert made.pairs()[1].tensor.tolist() == [0, 1, 2]


def test_quality_is_the_mean_over_the_layers_that_agree() -> None:
    index, number = torch.tensor([[[0, 1]], [[0, -1]], [[1, 0]]]), torch.full((3, 1), 2)
    quality = torch.tensor([[[0.5, 0.25]], [[1.0, 9.0]], [[0.125, 0.75]]])
    layers = Assignment.from_index(index, num_targets=number, quality=quality)
    layers = replace(layers, num_invalid=torch.tensor([[1], [0], [4]]))
    made = union_of_matches(layers)
    assert made.target_index.tolist() == [[0, 0]]
    assert made.quality.tolist() == [[0.75, 0.75]]
    assert made.num_invalid.tolist() == [5]


# --- in graphs, on devices -----------------------------------------------------------------------------------------


def everything(number: Tensor, positive: Tensor, layers: Tensor) -> tuple[Tensor, ...]:
    boxes = RaggedBatch(torch.zeros(*number.shape, 3, 4, device=number.device), sample_sizes=number)
    targets = Targets(
        boxes, RaggedBatch(torch.zeros_like(boxes.tensor[..., 0], dtype=torch.int64), sample_sizes=number)
    )
    meta = {"dn_num_group": 2, "dn_num_split": [12, 4]}
    listed = {**meta, "dn_positive_idx": RaggedBatch(positive, sample_sizes=number * 2)}
    made = [
        denoising_indices(number, 2, 3),
        denoising_indices(number, 2, 3, negatives=False),
        denoising_assignment(meta, targets),
        denoising_assignment(listed, targets),
        union_of_matches(Assignment.from_index(layers, num_targets=number.expand(4, -1), max_num_targets=3)),
    ]
    masks = (denoising_attention_mask(2, 3, 4, num_targets=number),)
    parts = [part for each in made for part in (each.target_index, each.pairs()[1].tensor, each.quality)]
    return (*masks, *parts)


def arguments() -> tuple[Tensor, ...]:
    number = torch.tensor([3, 0, 1])
    positive = torch.tensor([[0, 1, 2, 6, 7, 8], [-9] * 6, [0, 6, 99, 99, 99, 99]])
    layers = torch.randint(-2, 1, (4, 3, 5), generator=torch.Generator().manual_seed(0))
    return number, positive, layers.clamp(max=number.sub(1).unsqueeze(-1))


def test_nothing_waits_for_the_device() -> None:
    assert_no_host_sync(everything, *arguments())


@pytest.mark.graphs
def test_compiled_graphs_give_the_same() -> None:
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    for made, expected in zip(compiled(*arguments()), everything(*arguments()), strict=True):
        assert torch.equal(made, expected)


# --- bad input -----------------------------------------------------------------------------------------------------

META = {"dn_num_group": 2, "dn_num_split": [8, 5]}
TWO = make_targets([2, 1])
ONE_LAYER = Assignment.from_index(torch.zeros(2, 3, dtype=torch.int64), num_targets=torch.tensor([1, 1]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: denoising_indices([2], 1, 2), TypeError, "num_targets must be a torch.Tensor, got list"),
        (lambda: denoising_indices(torch.ones(2), 1, 2), TypeError, "num_targets must be integers, got torch.float32"),
        (lambda: denoising_indices(torch.tensor([2]), -1, 2), ValueError, "num_groups must not be negative, got -1"),
        (
            lambda: denoising_indices(torch.tensor([[2, 3]]), 1, 2),
            ValueError,
            r"sample \(0, 1\) has 3 targets, but there are slots for 2 only",
        ),
        (
            lambda: denoising_indices(torch.tensor([2]), 1, 2, negatives=0),
            TypeError,
            "negatives must be True or False, got 0",
        ),
        (lambda: denoising_attention_mask(1, 2, -3), ValueError, "num_queries must not be negative, got -3"),
        (lambda: denoising_attention_mask(1.5, 2, 3), TypeError, "num_groups must be an integer, got float"),
        (lambda: denoising_attention_mask(1, 2, 3, negatives=None), TypeError, "negatives must be True or False"),
        (
            lambda: denoising_attention_mask(1, 2, 3, num_targets=torch.tensor([1, 3])),
            ValueError,
            "sample 1 has 3 targets, but there are slots for 2 only",
        ),
        (
            lambda: denoising_attention_mask(1, 2, 3, num_targets=torch.ones(2)),
            TypeError,
            "num_targets must be integers, got torch.float32",
        ),
        (lambda: denoising_assignment([1], TWO), TypeError, "dn_meta must be a mapping or None, got list"),
        (lambda: denoising_assignment({"dn_num_group": 2}, TWO), ValueError, "dn_meta needs 'dn_num_split'"),
        (
            lambda: denoising_assignment({**META, "dn_num_group": torch.tensor(2)}, TWO),
            TypeError,
            "dn_num_group must be an integer, got Tensor",
        ),
        (
            lambda: denoising_assignment({**META, "dn_num_split": 8}, TWO),
            ValueError,
            r"dn_num_split must be \[denoising queries, other queries\], got 8",
        ),
        (
            lambda: denoising_assignment({**META, "dn_num_split": [9, 5]}, TWO),
            ValueError,
            "9 denoising queries are not 2 groups of positives and as many negatives",
        ),
        (
            lambda: denoising_assignment({**META, "dn_num_split": [4, 5]}, TWO),
            ValueError,
            "sample 0 has 2 targets, but there are slots for 1 only",
        ),
        (
            lambda: denoising_assignment({**META, "dn_positive_idx": 3}, TWO),
            TypeError,
            "dn_positive_idx must be a list of tensors, one per image, or a RaggedBatch, got int",
        ),
        (
            lambda: denoising_assignment({**META, "dn_positive_idx": [torch.arange(4)]}, TWO),
            ValueError,
            r"dn_positive_idx has the batch shape \(1,\), targets have \(2,\)",
        ),
        (
            lambda: denoising_assignment({**META, "dn_positive_idx": [torch.arange(4), torch.arange(3)]}, TWO),
            ValueError,
            "sample 1 has 1 targets in 2 groups, but 3 positive queries",
        ),
        (
            lambda: denoising_assignment({**META, "dn_positive_idx": [torch.arange(4), torch.tensor([0, 8])]}, TWO),
            IndexError,
            "index 8 at position 1 of sample 1 is out of range for size 8",
        ),
        (
            lambda: denoising_assignment({**META, "dn_positive_idx": [torch.arange(4), torch.tensor([3, 3])]}, TWO),
            ValueError,
            "query 3 occurs more than once in dn_positive_idx of sample 1",
        ),
        (
            lambda: denoising_assignment({**META, "dn_positive_idx": [torch.rand(4), torch.rand(2)]}, TWO),
            TypeError,
            "indices must be integers, got torch.float32",
        ),
        (lambda: union_of_matches([]), ValueError, "the assignments of one layer at least, got none"),
        (lambda: union_of_matches([ONE_LAYER, 3]), TypeError, "expected an Assignment, or a sequence of them, got int"),
        (
            lambda: union_of_matches(Assignment.from_index(torch.tensor([0]), num_targets=torch.tensor(1))),
            ValueError,
            r"expected an assignment of shape \(layers, \*batch, P\) with one layer at least, got \(1,\)",
        ),
        (
            lambda: union_of_matches(
                [ONE_LAYER, replace(ONE_LAYER, target_index=torch.zeros(2, 4).long(), quality=torch.ones(2, 4))]
            ),
            ValueError,
            r"the assignments of all layers must have the same shape, got \[\(2, 3\), \(2, 4\)\]",
        ),
        (
            lambda: union_of_matches([ONE_LAYER, replace(ONE_LAYER, num_targets=torch.tensor([1, 2]))]),
            ValueError,
            "layer 1 has 2 targets in sample 1, layer 0 has 1",
        ),
    ],
)
def test_bad_arguments_say_what_was_expected(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
