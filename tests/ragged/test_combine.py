"""Ways in and out: lists of samples, compact lists, joined batches, packed values, nested tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from reference import loops
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ragged import (
    RaggedBatch,
    cat_batches,
    cat_targets,
    combine_data,
    from_nested,
    get_compact_from_named_tuple,
    get_compact_lists,
    pack,
    stack_batches,
    to_nested,
    unpack,
)
from ragged.testing import DTYPES, ragged_batches


@given(ragged_batches(dtypes=DTYPES))
def test_combining_split_samples_gives_the_batch_back(batch: RaggedBatch) -> None:
    again = combine_data(batch.split(), flatten_batch_dims=False, non_uniform_dim=batch.non_uniform_dim)
    assert again.equal(batch)
    assert again.max_sample_size == batch.largest_sample_size()
    assert not again.tensor[~again.aligned_mask.expand(again.shape)].any()
    assert torch.equal(again.mask, batch.mask[..., : again.max_sample_size])
    shared = combine_data(batch.split(), batch, flatten_batch_dims=False, non_uniform_dim=batch.non_uniform_dim)
    assert shared.equal(batch) and shared.mask is batch.mask and shared.sample_sizes is batch.sample_sizes


@given(ragged_batches(dtypes=DTYPES))
def test_unpacking_packed_values_gives_the_batch_back(batch: RaggedBatch) -> None:
    values, sizes = pack(batch)
    assert torch.equal(values, torch.cat(loops.entries(batch)))
    moved = RaggedBatch(batch.tensor.movedim(batch.non_uniform_dim, batch.num_batch_dims), sample_sizes=sizes)
    assert unpack(values, sizes).equal(moved)
    assert unpack(values, sizes, max_size=9).max_sample_size == 9


@pytest.mark.parametrize("empty", [(0,), (1, 0), (0, 4), (0, 7), (2, 0, 3)])
def test_empty_samples_of_any_shape(empty: tuple[int, ...]) -> None:
    batch = combine_data([torch.ones(2, 4), torch.empty(empty, dtype=torch.float64)])
    assert (batch.shape, batch.dtype, batch.sample_sizes.tolist()) == ((2, 2, 4), torch.float32, [2, 0])
    assert combine_data([torch.empty(empty)] * 2).sample_sizes.tolist() == [0, 0]


def test_all_empty_samples_keep_the_shape_of_their_data() -> None:
    assert combine_data([torch.empty(0, 4), torch.empty(0)]).shape == (2, 0, 4)
    assert combine_data([[], []]).shape == (2, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            [[[1, 2], [3]], [[4], [5]]],
            "sample 0 .* got a list of lists of unequal length; .* give num_batch_dims, the number",
        ),
        ([[1, 2], [1, [2]]], "sample 1 .* got a list of lists of unequal length"),
        ([{"boxes": 1}], "sample 0 must be a tensor, .* got a dict; ragged.collate takes a list of dicts"),
        ([[{"boxes": 1}]], "sample 0 must be a tensor, .* got a list of dicts; ragged.collate takes a list of dicts"),
        ([["a"]], "sample 0 must be a tensor, an array or a list of numbers, got list: "),
    ],
)
def test_what_is_no_sample_is_named(data: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        combine_data(data)
    assert combine_data([[[1, 2], [3]], [[4], [5]]], num_batch_dims=2).sample_sizes.tolist() == [2, 1, 1, 1]


def test_entries_without_data_are_possible_if_sizes_are_known() -> None:
    sizes = combine_data([[1, 2, 3], [4]])
    assert combine_data([torch.empty(3, 0), torch.empty(1, 0)], sizes).shape == (2, 3, 0)


def test_plain_numbers_and_arrays() -> None:
    assert [s.tolist() for s in combine_data([[1, 2], [2.5], []]).split()] == [[1, 2], [2.5], []]
    assert combine_data([[[1, 2, 3, 4]], []]).shape == (2, 1, 4)
    assert combine_data([[[1, 2], [3]], [[4], []]], num_batch_dims=2).shape == (4, 2)
    assert combine_data([np.ones((2, 4), dtype=np.float32), np.ones((0, 4))]).dtype == torch.float32
    assert combine_data([[1], [2]], dtype=torch.float16).dtype == torch.float16
    assert combine_data(([True], [])).dtype == torch.bool


def test_nested_lists_become_batch_dimensions_or_one() -> None:
    nested = [[torch.ones(1), torch.ones(2)], [torch.ones(0), torch.ones(3)]]
    assert combine_data(nested).batch_shape == (4,)
    batch = combine_data(nested, flatten_batch_dims=False)
    assert batch.sample_sizes.tolist() == [[1, 2], [0, 3]]
    assert combine_data([[torch.ones(1)], [torch.ones(1), torch.ones(1)]]).batch_shape == (3,)


def test_nesting_of_any_depth() -> None:
    nested = [[[torch.ones(n + 3 * m, 2)] for n in range(3)] for m in range(2)]
    batch = combine_data(nested, flatten_batch_dims=False)
    assert batch.shape == (2, 3, 1, 5, 2) and batch.sample_sizes.tolist() == [[[0], [1], [2]], [[3], [4], [5]]]
    assert combine_data(nested).sample_sizes.tolist() == list(range(6))
    assert combine_data([[], [torch.ones(2)]]).sample_sizes.tolist() == [2]
    numbers = combine_data([[[1], [2, 3]], [[], [4]]], num_batch_dims=2, flatten_batch_dims=False)
    assert numbers.sample_sizes.tolist() == [[1, 2], [0, 1]] and numbers.dtype == torch.int64


def test_the_ragged_dimension_may_be_another() -> None:
    samples = [torch.rand(3, 2), torch.rand(3, 0), torch.rand(3, 5), torch.empty(0)]
    batch = combine_data(samples, non_uniform_dim=2)
    assert batch.shape == (4, 3, 5) and batch.non_uniform_dim == 2
    assert all(torch.equal(one, other) for one, other in zip(batch.split(), samples[:3], strict=False))
    assert batch.split()[3].shape == (3, 0)
    assert combine_data([torch.rand(3, 0)] * 2, non_uniform_dim=2).shape == (2, 3, 0)
    shared = combine_data([torch.rand(n) for n in (2, 0, 5, 0)], batch)
    assert shared.sample_sizes is batch.sample_sizes and shared.non_uniform_dim == 1


def test_shared_sizes_may_come_with_more_padding() -> None:
    padded = combine_data([[1, 2], [], [3]]).with_max_sample_size(6)
    labels = combine_data([torch.ones(2, 4), torch.empty(0), torch.ones(1, 4)], other_with_same_sample_sizes=padded)
    assert labels.shape == (3, 6, 4) and labels.mask is padded.mask
    assert not labels.tensor[~labels.mask].any()
    with pytest.raises(ValueError, match="must be on the device of other_with_same_sample_sizes"):
        combine_data([[1, 2], [], [3]], padded, device="meta")


def test_device_and_dtype_may_be_given() -> None:
    batch = combine_data([torch.ones(1), torch.ones(2, dtype=torch.float64)], device="meta", dtype=torch.float16)
    assert (batch.device.type, batch.mask.device.type, batch.dtype) == ("meta", "meta", torch.float16)


def test_gradients_pass_through() -> None:
    samples = [torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (2, 0, 3)]

    def combine(*samples: Tensor) -> Tensor:
        return combine_data(list(samples)).tensor

    def repack(values: Tensor) -> Tensor:
        return unpack(values, [2, 0, 1]).tensor

    assert gradcheck(combine, samples) and gradgradcheck(combine, samples)
    assert gradcheck(repack, (samples[2],)) and gradgradcheck(repack, (samples[2],))


@pytest.mark.parametrize(
    ("error", "words", "data", "options"),
    [
        (ValueError, r"samples must have the shape \(n, 4\) .*; sample 1 has shape \(2, 5\)", [torch.ones(1, 4), torch.ones(2, 5)], {}),
        (ValueError, r"sample 1 has shape \(\)", [torch.ones(1), torch.tensor(1.0)], {}),
        (ValueError, r"sample 0 has shape \(\)", [torch.tensor(1.0)], {}),
        (ValueError, "at least one sample, got an empty list", [], {}),
        (TypeError, r"one dtype.*; sample 1 has torch\.int64, sample 0 has torch\.float32", [torch.ones(1), torch.ones(1).long()], {}),
        (ValueError, r"one device.*; sample 1 has meta, sample 0 has cpu", [torch.ones(1), torch.ones(1, device="meta")], {}),
        (TypeError, "expected a list of samples, got Tensor", torch.ones(2, 3), {}),
        (TypeError, "sample 1 must be a tensor, an array or a list of numbers, got list", [[1.0], ["x"]], {}),
        (TypeError, "sample 0 must be a tensor, an array or a list of numbers, got a dict", [{}], {}),
        (TypeError, "expected a list of samples, got str", "text", {}),
        (TypeError, "expected a list of samples, got ndarray", np.ones((2, 3)), {}),
        (TypeError, "expected a list of samples, got dict", {0: torch.ones(1)}, {}),
        (TypeError, "data_list must have lists at every batch level, got Tensor next to lists", [[torch.ones(1)], torch.ones(1)], {}),
        (TypeError, "data_list must have lists at every batch level, got int next to lists", [[1]], {"num_batch_dims": 3}),
        (ValueError, r"samples must have the shape \(n\) .*; sample 1 has shape \(1, 2\)", [[1], [[1, 2]]], {}),
        (ValueError, "at least one sample, got an empty list", [[], []], {"num_batch_dims": 2}),
        (IndexError, "imension", [torch.ones(1, 2)], {"non_uniform_dim": 5}),
        (ValueError, "nested lists must have equal length", [[torch.ones(1)], [torch.ones(1)] * 2], {"flatten_batch_dims": False}),
        (IndexError, "non_uniform_dim must come after the 1 batch dimensions, got 0", [torch.ones(1)], {"non_uniform_dim": 0}),
        (ValueError, "sample 1 must have 0 entries, as in other_with_same_sample_sizes, got 1", [[1, 2], [3]], {"other_with_same_sample_sizes": combine_data([[1, 2], []])}),
        (ValueError, r"batch shape \(2,\), as other_with_same_sample_sizes, got \(1,\)", [[1, 2]], {"other_with_same_sample_sizes": combine_data([[1, 2], []])}),
    ],
)  # fmt: skip
def test_errors(error: type[Exception], words: str, data: Any, options: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        combine_data(data, **options)


class Targets(NamedTuple):
    boxes: Tensor
    labels: Tensor
    source: str


def test_compact_lists_and_named_tuples() -> None:
    mask = torch.tensor([[False, True, True], [False, False, False]])
    targets = Targets(torch.arange(24.0).view(2, 3, 4), torch.arange(6).view(2, 3), "camera")
    boxes, labels, source = get_compact_lists(mask, targets)
    assert labels.sample_sizes is boxes.sample_sizes and source == "camera"
    assert labels.split()[0].tolist() == [1, 2] and boxes.shape == (2, 2, 4)
    compact = get_compact_from_named_tuple(mask, targets)
    assert isinstance(compact, Targets) and compact.labels.equal(labels)


def test_joining_batches() -> None:
    one, other = combine_data([[1, 2], []]), combine_data([[3], [4, 5, 6]])
    assert [s.tolist() for s in cat_batches([one, other]).split()] == [[1, 2], [], [3], [4, 5, 6]]
    assert [[s.tolist() for s in row] for row in stack_batches([one, other], 1).split()] == [
        [[1, 2], [3]],
        [[], [4, 5, 6]],
    ]
    assert [s.tolist() for s in cat_targets([one, other, one]).split()] == [[1, 2, 3, 1, 2], [4, 5, 6]]
    dirty = one.float().with_padded_set_to(float("nan")).requires_grad_()
    cat_targets([dirty, other.float()]).with_padded_set_to(0).tensor.sum().backward()
    assert dirty.tensor.grad is not None and dirty.tensor.grad.tolist() == [[1, 1], [0, 0]]
    with pytest.raises(ValueError, match="cat_batches needs at least one batch"):
        cat_batches([])
    with pytest.raises(ValueError, match="cat_batches needs batches of equal num_batch_dims and non_uniform_dim"):
        cat_batches([one, one.unsqueeze_batch_dim(0)])
    with pytest.raises(ValueError, match=r"cat_targets needs one batch shape, got \[\(2,\), \(1,\)\]"):
        cat_targets([one, combine_data([[1]])])


def test_joined_samples_are_as_wide_as_they_must_be() -> None:
    queries, others = (
        RaggedBatch.from_full_tensor(torch.randn(4, 300, 2)),
        combine_data([[1.0] * n for n in (19, 0, 3, 7)]),
    )
    others = others.unsqueeze_data_dim(2).apply(lambda tensor: tensor.expand(-1, -1, 2))
    assert cat_targets([queries, others]).shape == (4, 319, 2)
    assert cat_targets([others.with_max_sample_size(500), queries]).shape == (4, 319, 2)
    assert cat_targets([queries.to(device="meta"), others.to(device="meta")]).shape == (4, 319, 2)
    assert cat_targets([RaggedBatch.empty(0), RaggedBatch.empty(0)]).batch_shape == (0,)
    assert cat_targets([RaggedBatch.empty((2, 3), (4,))] * 2).shape == (2, 3, 0, 4)
    assert cat_targets([others, others.to_dtype(torch.float64)]).dtype == torch.float64


def test_joining_is_differentiated_twice() -> None:
    first, second = (torch.randn(2, n, 2, dtype=torch.float64, requires_grad=True) for n in (3, 2))

    def joined(first: Tensor, second: Tensor) -> Tensor:
        one, other = RaggedBatch(first, sample_sizes=[1, 3]), RaggedBatch(second, sample_sizes=[2, 0])
        return cat_targets([one, other]).with_padded_set_to(0).tensor ** 2

    assert gradcheck(joined, (first, second), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(joined, (first, second))


def test_one_sample_is_copied() -> None:
    sample = torch.randn(3, 4, requires_grad=True)
    batch = combine_data([sample])
    assert batch.shape == (1, 3, 4) and batch.sample_sizes.tolist() == [3] and batch.mask.all()
    batch.tensor.detach().zero_()
    assert sample.all()
    batch.tensor.sum().backward()
    assert sample.grad is not None and sample.grad.eq(1).all()
    nested = combine_data([[sample.T]], flatten_batch_dims=False, non_uniform_dim=3)
    assert nested.shape == (1, 1, 4, 3) and nested.sample_sizes.tolist() == [[3]]
    assert nested.split()[0][0].equal(sample.T)


@given(ragged_batches(dtypes=DTYPES, batch_shape=(2,)), ragged_batches(dtypes=DTYPES, batch_shape=(2,)))
def test_joined_batches_have_the_samples_of_both(one: RaggedBatch, other: RaggedBatch) -> None:
    other = one.repeat_samples(2).to_dtype(other.dtype)  # another dtype, the same shape of entries
    dtype = torch.promote_types(one.dtype, other.dtype)
    joined = cat_batches([one, other])
    assert joined.dtype == dtype
    for sample, expected in zip(joined.split(), [*one.split(), *other.split()], strict=True):
        assert torch.equal(sample, expected.to(dtype))
    reverse = RaggedBatch(
        one.tensor.flip(0), sample_sizes=one.sample_sizes.flip(0), non_uniform_dim=one.non_uniform_dim
    )
    longer = cat_targets([one, reverse, one])
    for sample, *parts in zip(longer.split(), one.split(), reverse.split(), one.split(), strict=True):
        assert torch.equal(sample, torch.cat(parts, one.ragged_axis))
    stacked = stack_batches([one, reverse], dim=1)
    assert stacked.batch_shape == (2, 2) and stacked.sample_sizes[:, 1].equal(reverse.sample_sizes)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_nested_tensors_both_ways(layout: torch.layout) -> None:
    samples = [torch.rand(2, 3), torch.rand(0, 3), torch.rand(4, 3)]
    batch = from_nested(torch.nested.nested_tensor(samples, layout=layout))
    assert batch.equal(combine_data(samples))
    nested = to_nested(batch)
    assert nested.layout == torch.jagged
    assert from_nested(nested, max_size=6).max_sample_size == 6
    assert from_nested(nested).equal(batch)


def test_nested_tensors_with_holes() -> None:
    values, offsets, lengths = torch.arange(6.0), torch.tensor([0, 3, 6]), torch.tensor([2, 1])
    holes = torch.nested.nested_tensor_from_jagged(values, offsets, lengths)
    assert [s.tolist() for s in from_nested(holes).split()] == [[0, 1], [3]]


def test_packing_errors() -> None:
    with pytest.raises(ValueError, match="sample_sizes must add up to the 3 values, got sum 4"):
        unpack(torch.ones(3), [2, 2])
    with pytest.raises(ValueError, match="between 0 and 1"):
        unpack(torch.ones(3), [2, 1], max_size=1)
    with pytest.raises(ValueError, match="to_nested needs one batch dimension, got 2"):
        to_nested(RaggedBatch.empty((2, 3)))
    with pytest.raises(TypeError, match="nested must be a nested tensor, got a dense one"):
        from_nested(torch.ones(2))
