"""Masks, indices from masks and boolean indexing against loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import loops
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ragged import (
    RaggedBatch,
    apply_mask_to_tensor,
    batched_bool_indexing,
    batched_bool_indexing_write,
    combine_data,
    get_indices_from_mask,
    get_mask_from_indices,
    squeeze_except_batch_and_sample,
)
from ragged.testing import DTYPES, index_batches, ragged_batches

MASK = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])


@given(st.data())
def test_mask_from_indices_and_back(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 5))
    indices = data.draw(index_batches(torch.full((2, 3), size)))
    mask = get_mask_from_indices(size, indices)
    expected = loops.mask_from_indices(size, loops.entries(indices))
    assert torch.equal(mask.reshape(6, size), torch.stack(expected))
    back = get_indices_from_mask(mask)
    for found, true in zip(loops.entries(back), loops.indices_from_mask(expected), strict=True):
        assert torch.equal(found, true)
    assert torch.equal(get_mask_from_indices(size, back), mask)
    assert get_indices_from_mask(mask, max_size=size).equal(back)
    assert not back.tensor[~back.mask].any()


@given(st.data())
def test_bool_indexing_reads_and_writes_back(data: st.DataObject) -> None:
    batch = data.draw(ragged_batches(dtypes=DTYPES))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 100)))
    drawn = torch.rand(batch.mask.shape, generator=generator) > 0.5
    mask = batch.create_with_sample_sizes_like_self(drawn, batch.num_batch_dims)
    kept = batched_bool_indexing(batch, mask)
    pairs = zip(loops.entries(kept), loops.entries(batch), loops.entries(mask), strict=True)
    for result, sample, true in pairs:
        torch.testing.assert_close(result, sample[true], rtol=0, atol=0)
    assert batched_bool_indexing(batch, mask.tensor, max_size=batch.max_sample_size).equal(kept)
    written = batched_bool_indexing_write(kept, mask, batch.apply(torch.zeros_like))
    for result, sample, true in zip(loops.entries(written), loops.entries(batch), loops.entries(mask), strict=True):
        expected = torch.zeros_like(sample)
        expected[true] = sample[true]
        torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_bool_indexing_of_tensors_and_its_gradients() -> None:
    data = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    source = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)

    def read(data: Tensor) -> Tensor:
        return batched_bool_indexing(data, MASK, max_size=3).tensor

    def write(source: Tensor, data: Tensor) -> Tensor:
        return batched_bool_indexing_write(RaggedBatch(source, sample_sizes=[2, 0, 3]), MASK, data)

    assert gradcheck(read, (data,)) and gradgradcheck(read, (data,))
    assert gradcheck(write, (source, data)) and gradgradcheck(write, (source, data))
    assert write(source, data).shape == data.shape


def test_filler_of_a_mask_is_false() -> None:
    mask = RaggedBatch(torch.ones(2, 3, dtype=torch.bool), sample_sizes=[1, 3])
    assert [index.tolist() for index in get_indices_from_mask(mask).split()] == [[0], [0, 1, 2]]
    data = combine_data([[1, 2], [3]])
    kept = batched_bool_indexing(data, torch.ones(2, 2, dtype=torch.bool))
    assert [sample.tolist() for sample in kept.split()] == [[1, 2], [3]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_empty_masks(shape: tuple[int, int]) -> None:
    mask = torch.ones(shape, dtype=torch.bool)
    indices = get_indices_from_mask(mask)
    assert indices.batch_shape == shape[:1]
    assert torch.equal(get_mask_from_indices(shape[1], indices), mask)


def test_apply_mask_to_tensor_stops_gradients() -> None:
    data = torch.tensor([[torch.nan, 1.0], [2.0, 3.0]], requires_grad=True)
    result = apply_mask_to_tensor(data, torch.tensor([[False, True], [True, False]]), 9)
    assert result.tolist() == [[9, 1], [2, 9]]
    result.sum().backward()
    assert data.grad is not None
    assert data.grad.tolist() == [[0, 1], [1, 0]]
    assert apply_mask_to_tensor(torch.ones(2, 2, 3), torch.tensor([True, False])).sum() == 6


@given(ragged_batches(max_data_dims=3))
def test_squeeze_keeps_batch_and_ragged_dimensions(batch: RaggedBatch) -> None:
    squeezed = squeeze_except_batch_and_sample(batch)
    assert squeezed.batch_shape == batch.batch_shape
    assert squeezed.shape[squeezed.non_uniform_dim] == batch.max_sample_size
    assert 1 not in [
        n for d, n in enumerate(squeezed.shape) if d >= batch.num_batch_dims and d != squeezed.non_uniform_dim
    ]
    for sample, reference in zip(loops.entries(squeezed), loops.entries(batch), strict=True):
        assert torch.equal(sample, reference.reshape(sample.shape))


def test_squeeze_of_a_tensor() -> None:
    assert squeeze_except_batch_and_sample(torch.zeros(1, 1, 1, 5, 1)).shape == (1, 1, 5)


def test_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match="max_size must be at least 3, the number of true entries of sample 2, got 2"):
        get_indices_from_mask(MASK, max_size=2)
    with pytest.raises(TypeError, match=r"mask must be boolean, got torch\.int64"):
        get_indices_from_mask(MASK.long())
    with pytest.raises(
        IndexError, match="get_mask_from_indices: index 3 at position 0 of sample 1 is out of range for"
    ):
        get_mask_from_indices(3, torch.tensor([[0], [3]]))
    with pytest.raises(ValueError, match="mask_num_targets must not be negative, got -1"):
        get_mask_from_indices(-1, torch.tensor([[0]]))
    with pytest.raises(ValueError, match=r"mask must have shape \(3, 4\), .*got \(3, 3\)"):
        batched_bool_indexing(torch.zeros(3, 4), MASK)
    with pytest.raises(ValueError, match="sample sizes differ, 1 and 2 for sample 0"):
        batched_bool_indexing_write(RaggedBatch(torch.zeros(3, 3), sample_sizes=[1, 0, 3]), MASK, torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"data must begin with the shape \(3, 3\) of mask, got \(3,\)"):
        apply_mask_to_tensor(torch.zeros(3), MASK)
    with pytest.raises(TypeError, match="mask must be boolean"):
        apply_mask_to_tensor(torch.zeros(3, 3), MASK.float())
    with pytest.raises(ValueError, match="must be representable in"):
        apply_mask_to_tensor(torch.zeros(3, 3, dtype=torch.int64), MASK, float("nan"))
