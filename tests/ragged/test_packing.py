"""Packed values and nested tensors: every layout, sizes with zeros, gradients, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from ragged import RaggedBatch, combine_data, from_nested, pack, to_nested, unpack
from ragged.testing import ragged_batches

SAMPLES = [torch.arange(6.0).view(2, 3), torch.empty(0, 3), torch.arange(12.0).view(4, 3)]


def garbage_filled(samples: list[Tensor]) -> RaggedBatch:
    return combine_data(samples).with_padded_set_to(float("nan"))


def test_packed_values_are_those_of_the_samples() -> None:
    values, sizes = pack(garbage_filled(SAMPLES))
    assert torch.equal(values, torch.cat(SAMPLES))
    assert sizes.tolist() == [2, 0, 4]


def test_packing_moves_the_ragged_dimension_to_the_front() -> None:
    batch = garbage_filled(SAMPLES).get_non_uniform_dimension_transposed_to(2)
    assert batch.shape == (3, 3, 4)
    assert torch.equal(pack(batch)[0], torch.cat(SAMPLES))


@pytest.mark.parametrize(
    ("sizes", "batch_shape"),
    [([0, 0], (2,)), ([], (0,)), ([[1, 2], [0, 3]], (2, 2)), (torch.tensor([[[6]]]), (1, 1, 1)), (6, ()), ((6, 0), (2,))],
)  # fmt: skip
def test_sizes_of_any_shape(sizes: Any, batch_shape: tuple[int, ...]) -> None:
    total = int(torch.as_tensor(sizes).sum())
    values = torch.arange(2.0 * total).view(total, 2)
    batch = unpack(values, sizes)
    assert batch.batch_shape == batch_shape and batch.shape[-1] == 2
    assert batch.max_sample_size == batch.largest_sample_size()
    assert torch.equal(pack(batch)[0], values)
    assert not batch.tensor[~batch.mask].any()


def test_sizes_of_a_small_dtype() -> None:
    sizes = torch.tensor([100, 150], dtype=torch.uint8)  # their sum does not fit
    assert unpack(torch.arange(250), sizes).split()[1].tolist() == list(range(100, 250))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.complex64])
def test_values_of_any_dtype(dtype: torch.dtype) -> None:
    values = torch.tensor([1, 0, 1]).to(dtype)
    batch = unpack(values, [1, 2], max_size=4)
    assert batch.dtype == dtype and batch.shape == (2, 4)
    assert torch.equal(pack(batch)[0], values)


def test_gradients_reach_the_packed_values_and_no_filler() -> None:
    batch = garbage_filled(SAMPLES).requires_grad_()
    pack(batch)[0].square().sum().backward()
    expected = torch.where(batch.aligned_mask, 2 * batch.tensor.detach(), 0)
    assert torch.equal(batch.tensor.grad, expected)
    values = torch.arange(6.0, requires_grad=True)
    # What arrives for filler does not leak into the value that happens to be read there.
    unpack(values, [1, 0, 5], max_size=7).tensor.backward(torch.full((3, 7), 2.0))
    assert values.grad is not None and values.grad.tolist() == [2.0] * 6


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.parametrize("max_size", [None, 4, 9])
def test_nested_tensors_of_both_layouts(layout: torch.layout, max_size: int | None) -> None:
    batch = from_nested(torch.nested.nested_tensor(SAMPLES, layout=layout), max_size=max_size)
    assert batch.equal(combine_data(SAMPLES))
    assert batch.max_sample_size == max(max_size or 0, 4)


@given(ragged_batches(dtypes=(torch.float32,), max_data_dims=2))
def test_batches_survive_the_way_through_a_nested_tensor(batch: RaggedBatch) -> None:
    flat = batch.flatten_batch_dims()
    again = from_nested(to_nested(flat))
    assert again.non_uniform_dim == 1
    for one, other in zip(again.split(), flat.split(), strict=True):
        assert torch.equal(one, other.movedim(flat.ragged_axis, 0))


@pytest.mark.parametrize("batch", [RaggedBatch.empty(3, (2,)), RaggedBatch.empty(0, (2,))])
def test_nothing_is_nested_too(batch: RaggedBatch) -> None:
    again = from_nested(to_nested(batch))
    assert again.shape == batch.shape and again.sample_sizes.equal(batch.sample_sizes)


def test_samples_of_a_nested_tensor_may_be_apart_in_memory() -> None:
    values = torch.arange(12.0).view(3, 4)
    starts, lengths = torch.tensor([0, 1, 2]), torch.tensor([2, 3, 0])
    holes = torch.nested.narrow(values, 1, starts, lengths, layout=torch.jagged)
    assert [sample.tolist() for sample in from_nested(holes).split()] == [[0, 1], [5, 6, 7], []]
    assert from_nested(holes, max_size=5).shape == (3, 5)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_gradients_pass_through_nested_tensors(layout: torch.layout) -> None:
    samples = [sample.clone().requires_grad_() for sample in SAMPLES]
    nested = torch.nested.as_nested_tensor(samples, layout=layout)
    (from_nested(nested) * 3).with_padded_set_to(0).tensor.sum().backward()
    assert all(sample.grad is not None and sample.grad.eq(3).all() for sample in samples)


def test_gradients_pass_into_nested_tensors() -> None:
    batch = garbage_filled(SAMPLES).requires_grad_()
    (to_nested(batch) * 2).values().sum().backward()
    assert torch.equal(batch.tensor.grad, 2.0 * batch.aligned_mask.expand(batch.shape))


@pytest.mark.parametrize(
    ("values", "sizes", "max_size", "error", "words"),
    [
        (torch.ones(3), [2, 2], None, ValueError, "sample_sizes must add up to the 3 values, got sum 4"),
        (torch.ones(3), [], None, ValueError, "sample_sizes must add up to the 3 values, got sum 0"),
        (torch.ones(3), [2, 1], 1, ValueError, "between 0 and 1, .* got 2 for sample 0"),
        (torch.ones(3), [2, 1], 0, ValueError, "between 0 and 0, .* got 2 for sample 0"),
        (torch.ones(0), [0], -1, ValueError, "max_size must not be negative, got -1"),
        (torch.ones(2), [1.0, 1.0], None, TypeError, r"sample_sizes must be integers, got torch\.float32"),
        (torch.ones(2), torch.ones(2, dtype=torch.bool), None, TypeError, r"must be integers, got torch\.bool"),
        (torch.ones(2), torch.ones(2, dtype=torch.int64, device="meta"), 2, ValueError, "must be on the device of values"),
        (torch.tensor(1.0), [1], None, ValueError, "values must have shape .*, got a tensor without dimensions"),
    ],
)  # fmt: skip
def test_unpacking_errors(values: Tensor, sizes: Any, max_size: int | None, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        unpack(values, sizes, max_size=max_size)


@pytest.mark.parametrize(
    ("sizes", "max_size"), [([-1, 3], None), ([3, -1], None), ([[2, 1], [-1, 0]], 2), ([1, 3, -2], 3)]
)
def test_negative_sizes_are_named(sizes: Any, max_size: int | None) -> None:
    with pytest.raises(ValueError, match=r"sample_sizes must .*got -\d for sample"):
        unpack(torch.ones(2), sizes, max_size=max_size)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_nested_errors(layout: torch.layout) -> None:
    with pytest.raises(
        ValueError, match="max_size must be at least 4, the size of sample 2, got 3|between 0 and 3, .* got 4"
    ):
        from_nested(torch.nested.nested_tensor(SAMPLES, layout=layout), max_size=3)
    transposed = torch.nested.nested_tensor(SAMPLES, layout=layout).transpose(1, 2)
    with pytest.raises(ValueError, match=r"samples must have the shape \(n, 2\) and differ in n alone"):
        from_nested(transposed)
    with pytest.raises(ValueError, match="to_nested needs one batch dimension, got 0"):
        to_nested(RaggedBatch(torch.ones(3), sample_sizes=2))
