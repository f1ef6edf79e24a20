"""Batched indexing against loops, and its promises about filler, gradients and errors."""

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
    batched_bool_indexing_write,
    batched_index_mapping,
    batched_indexing_access,
    batched_indexing_write,
    batched_inverse_indexing_access,
    combine_data,
)
from ragged.ops import rows
from ragged.testing import DTYPES, FLOATS, draw_values, index_batches, ragged_batches

INDICES = RaggedBatch(torch.tensor([[4, 4, 1], [0, -100, 99], [7, 7, 7]]), sample_sizes=[3, 1, 0])


@pytest.fixture(params=[1, 64], ids=["as rows", "by gather"])
def _both_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WIDE_ENTRY", request.param)


def assert_samples_equal(results: list[Tensor], expected: list[Tensor]) -> None:
    assert len(results) == len(expected)
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference, rtol=0, atol=0, equal_nan=True)


@given(st.data())
def test_access_reads_what_a_loop_reads(data: st.DataObject) -> None:
    batch = data.draw(ragged_batches(dtypes=DTYPES))
    indices = data.draw(index_batches(batch.sample_sizes))
    result = batched_indexing_access(batch, indices, filler_value=1)
    assert result.sample_sizes is indices.sample_sizes
    assert result.dtype == batch.dtype
    assert_samples_equal(loops.entries(result), loops.access(loops.entries(batch), loops.entries(indices)))
    assert torch.equal(result.with_padded_set_to(1).tensor, result.tensor)


@given(st.data())
def test_access_to_a_tensor_along_any_dimension(data: st.DataObject) -> None:
    batch_shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    shape = batch_shape + tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    dim = data.draw(st.integers(len(batch_shape), len(shape) - 1))
    tensor = draw_values(shape, torch.float32, "integers", torch.Generator().manual_seed(0))
    indices = data.draw(index_batches(torch.full(batch_shape, shape[dim])))
    result = batched_indexing_access(tensor, indices, dim_to_index_in=dim)
    assert result.non_uniform_dim == dim
    expected = loops.access(loops.rows(tensor, len(batch_shape), dim), loops.entries(indices))
    assert_samples_equal(loops.entries(result), expected)


def test_access_along_a_dense_dimension_hides_the_filler_of_the_data() -> None:
    tensor = torch.arange(12.0).view(2, 3, 2)
    tensor[1, 1:] = torch.nan
    batch = RaggedBatch(tensor.requires_grad_(), sample_sizes=[3, 1])
    picked = batched_indexing_access(batch, torch.tensor([[1, 0], [1, 1]]), filler_value=-1, dim_to_index_in=2)
    assert picked.tensor[1].tolist() == [[7, 7], [-1, -1], [-1, -1]]
    picked.tensor.sum().backward()
    assert tensor.grad is not None
    assert torch.equal(tensor.grad, torch.tensor([[[1.0, 1]] * 3, [[0.0, 2], [0, 0], [0, 0]]]))


@given(st.data())
def test_write_equals_a_loop_and_the_last_duplicate_wins(data: st.DataObject) -> None:
    into = data.draw(ragged_batches(dtypes=DTYPES))
    indices = data.draw(index_batches(into.sample_sizes))
    axis, width = into.non_uniform_dim, indices.max_sample_size
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = (*into.shape[:axis], width, *into.shape[axis + 1 :])
    source = indices.create_with_sample_sizes_like_self(
        draw_values(shape, dtype, "integers", torch.Generator().manual_seed(1)), axis
    )
    result = batched_indexing_write(source, indices, into)
    assert isinstance(result, RaggedBatch)
    expected = loops.write(loops.entries(source), loops.entries(indices), loops.entries(into))
    assert_samples_equal(loops.entries(result), expected)
    assert batched_indexing_write(source, indices, into.tensor, axis).dtype == result.dtype


@given(st.data())
def test_inverse_access_is_a_write_into_filler(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 4))
    indices = data.draw(index_batches(torch.full((2, 2), size)))
    source = indices.create_with_sample_sizes_like_self(torch.rand(*indices.shape, 3))
    result = batched_inverse_indexing_access(source, indices, size, filler_value=-2)
    blank = [torch.full((size, 3), -2.0)] * 4
    assert_samples_equal(loops.rows(result, 2, 2), loops.write(loops.entries(source), loops.entries(indices), blank))


@given(st.data())
def test_mapping_is_access_then_write(data: st.DataObject) -> None:
    source = data.draw(ragged_batches(batch_shape=(3,), max_data_dims=0))
    target = data.draw(ragged_batches(batch_shape=(3,), max_data_dims=0))
    both = torch.minimum(source.sample_sizes, target.sample_sizes)
    source_indices = data.draw(index_batches(both))
    width = source_indices.max_sample_size
    target_indices = source_indices.create_with_sample_sizes_like_self(
        torch.where(source_indices.mask, (source_indices.tensor + 1) % both.clamp(min=1).unsqueeze(-1), -9)
    ).with_max_sample_size(width + 2)
    result = batched_index_mapping(source, source_indices, target_indices, target)
    assert isinstance(result, RaggedBatch)
    read = loops.access(loops.entries(source), loops.entries(source_indices))
    assert_samples_equal(loops.entries(result), loops.write(read, loops.entries(target_indices), loops.entries(target)))


@pytest.mark.usefixtures("_both_kernels")
def test_gradients_exist_twice() -> None:
    data = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    source = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)

    def read(data: Tensor) -> Tensor:
        return batched_indexing_access(data, INDICES).tensor

    def write(source: Tensor, data: Tensor) -> Tensor:
        return batched_indexing_write(source, INDICES, data)

    def map_(source: Tensor, data: Tensor) -> Tensor:
        return batched_index_mapping(source, INDICES.apply(lambda index: index % 2), INDICES, data)

    assert gradcheck(read, (data,), check_forward_ad=True)
    assert gradgradcheck(read, (data,))
    for function in (write, map_):
        assert gradcheck(function, (source, data), check_forward_ad=True)
        assert gradgradcheck(function, (source, data))


@pytest.mark.usefixtures("_both_kernels")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_filler_changes_no_value_and_gets_no_gradient(bad: float) -> None:
    clean = RaggedBatch(torch.randn(3, 5, 2), sample_sizes=[5, 2, 0])
    dirty = clean.with_padded_set_to(bad)
    outcomes = []
    for batch in (clean, dirty):
        leaf = batch.detach().clone().requires_grad_()
        read = batched_indexing_access(leaf, INDICES)
        written = batched_indexing_write(read * read, INDICES, leaf * 2)
        loss = (written * written).with_padded_set_to(0).tensor.sum()
        loss.backward()
        assert leaf.tensor.grad is not None
        assert not leaf.tensor.grad[~leaf.mask].any()
        outcomes.append((loss.detach(), leaf.tensor.grad))
    for one, other in zip(*outcomes, strict=True):
        assert torch.equal(one, other)


def test_upstream_gradient_of_filler_reaches_nothing() -> None:
    data = torch.randn(3, 5, requires_grad=True)
    result = batched_indexing_access(data, INDICES)
    result.tensor.backward(torch.full((3, 3), torch.nan).where(~result.mask, 1.0))
    assert data.grad is not None
    assert data.grad.tolist() == [[0, 1, 0, 0, 2], [1, 0, 0, 0, 0], [0] * 5]


def test_losers_of_a_duplicate_get_no_gradient() -> None:
    source = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    batched_indexing_write(source, torch.tensor([[0, 0, 1]]), torch.zeros(1, 2)).sum().backward()
    assert source.grad is not None
    assert source.grad.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("num_samples", [0, 2])
@pytest.mark.parametrize("width", [0, 3])
def test_nothing_to_read_and_nothing_to_read_from(num_samples: int, width: int) -> None:
    data = torch.zeros(num_samples, 0, 4, requires_grad=True)
    indices = RaggedBatch(
        torch.full((num_samples, width), -5), sample_sizes=torch.zeros(num_samples, dtype=torch.int64)
    )
    result = batched_indexing_access(data, indices, filler_value=3.0)
    assert torch.equal(result.tensor, torch.full((num_samples, width, 4), 3.0))
    result.tensor.sum().backward()
    assert data.grad is not None
    assert batched_indexing_write(result, indices, data).shape == (num_samples, 0, 4)


def test_a_single_sample_without_batch_dimensions() -> None:
    indices = RaggedBatch(torch.tensor([2, 0, 9]), sample_sizes=torch.tensor(2))
    assert batched_indexing_access(torch.tensor([1, 2, 3]), indices).split().tolist() == [3, 1]


def test_non_contiguous_and_expanded_data() -> None:
    data = torch.arange(6.0).view(3, 2).T.unsqueeze(-1).expand(2, 3, 70)
    indices = torch.tensor([[2, 2], [0, 1]])
    assert batched_indexing_access(data, indices).tensor[..., 0].tolist() == [[4, 4], [1, 3]]
    assert batched_indexing_write(torch.zeros(2, 2, 70), indices, data)[..., 0].tolist() == [[0, 2, 0], [0, 0, 5]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_integer_dtypes_of_indices(dtype: torch.dtype) -> None:
    data = torch.tensor([[1, 2, 3]], dtype=dtype)
    for index_dtype in (torch.int32, torch.int16, torch.uint8):
        assert batched_indexing_access(data, torch.tensor([[2]], dtype=index_dtype)).tensor.item() == 3


def test_errors_say_what_and_where() -> None:
    data = combine_data([[1, 2, 3], [4]])
    with pytest.raises(IndexError, match=r"index 1 at position 0 of sample 1 is out of range for size 1"):
        batched_indexing_access(data, torch.tensor([[2], [1]]))
    with pytest.raises(IndexError, match=r"index -1 at position 1 of sample 0 is out of range for size 3"):
        batched_indexing_access(data.tensor, torch.tensor([[2, -1], [1, 0]]))
    with pytest.raises(IndexError, match=r"batched_indexing_write: index 3 at position 0 of sample 0 is out of range"):
        batched_indexing_write(torch.tensor([[7], [7]]), torch.tensor([[3], [0]]), data)
    with pytest.raises(IndexError, match=r"position 0 of sample \(0, 1\) is out of range for size 2"):
        batched_indexing_access(torch.zeros(1, 2, 2), torch.tensor([[[0], [5]]]))
    with pytest.raises(TypeError, match=r"indices must be integers, got torch\.float32"):
        batched_indexing_access(data, torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"one list per sample; got \(2, 1, 1\) with 1 batch dimensions"):
        batched_indexing_access(data, RaggedBatch.from_full_tensor(torch.zeros(2, 1, 1, dtype=torch.int64)))
    with pytest.raises(
        ValueError, match=r"input_data of shape \(2, 3\) must have the batch shape of the indices, \(3,\)"
    ):
        batched_indexing_access(data, torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"a filler value must be representable in torch\.int64, got 0\.5"):
        batched_indexing_access(data, torch.tensor([[0], [0]]), filler_value=0.5)
    ragged = RaggedBatch(torch.zeros(2, 1, dtype=torch.int64), sample_sizes=[1, 0])
    assert batched_indexing_access(data, ragged, filler_value=-1.0).tensor[1].tolist() == [-1]
    with pytest.raises(IndexError, match="dim_to_index_in must be a dimension from 1 to 1"):
        batched_indexing_access(data, torch.tensor([[0], [0]]), dim_to_index_in=0)
    with pytest.raises(ValueError, match=r"got index 0 more than once in sample 1"):
        batched_indexing_write(
            torch.zeros(2, 2), torch.tensor([[0, 1], [0, 0]]), torch.zeros(2, 2), check_duplicates=True
        )
    with pytest.raises(ValueError, match=r"the data to write must have shape \(2, 1\), got \(2, 2\)"):
        batched_indexing_write(torch.zeros(2, 2), torch.tensor([[0], [0]]), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"sample sizes differ, 2 and 1 for sample 0"):
        batched_indexing_write(combine_data([[1, 2], [3]]), combine_data([[0], [0]]), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="output_num_targets must not be negative, got -1"):
        batched_inverse_indexing_access(torch.zeros(2, 1), torch.tensor([[0], [0]]), -1)
    with pytest.raises(ValueError, match="indices must have shape"):
        batched_indexing_access(data, torch.tensor(0))


def test_garbage_in_filler_is_no_duplicate() -> None:
    indices = RaggedBatch(torch.tensor([[0, 0, 0]]), sample_sizes=[1])
    written = batched_indexing_write(torch.tensor([[5, 6, 7]]), indices, torch.zeros(1, 2), check_duplicates=True)
    assert written.tolist() == [[5, 0]]


ROWS = RaggedBatch(torch.tensor([[[1.0, 2, 3], [4, 5, 6], [99, 99, 99]]]), sample_sizes=[2])


def test_data_that_is_ragged_elsewhere_is_written_into_what_is_ragged_so_too() -> None:
    into = RaggedBatch(torch.full((1, 2, 3), -1.0), sample_sizes=[2])
    written = batched_indexing_write(ROWS, torch.tensor([[2, 0, 1]]), into, 2)
    assert written.split()[0].tolist() == [[2, 3, 1], [5, 6, 4]]
    with pytest.raises(ValueError, match="the data to write and the data to write into: sample sizes differ, 2 and 1"):
        batched_indexing_write(ROWS, torch.tensor([[2, 0, 1]]), RaggedBatch(torch.zeros(1, 3, 3), sample_sizes=[1]), 2)


@pytest.mark.parametrize("bad", [99.0, float("nan")])
def test_filler_of_another_dimension_is_never_written(bad: float) -> None:
    """Whatever the filler holds, it is an error before it is read."""
    batch = ROWS.with_padded_set_to(bad)
    turned = RaggedBatch(torch.zeros(1, 3, 3), sample_sizes=[2]).get_non_uniform_dimension_transposed_to(2)
    message = "ragged along dimension 2, got dimension 1 .*: its filler would become data"
    two = RaggedBatch(torch.tensor([[1, 0, 0]]), sample_sizes=[2])
    for indices in (two, torch.tensor([[1, 0, 0]])[:, :2], combine_data([[1, 0]])):
        with pytest.raises(ValueError, match=message):
            batched_indexing_write(batch, indices, turned)
    with pytest.raises(ValueError, match=message):
        batched_bool_indexing_write(batch, torch.tensor([[True, True, False]]), turned)
    aligned = batch.get_non_uniform_dimension_transposed_to(2)
    written = batched_bool_indexing_write(aligned, torch.tensor([[True, True, False]]), turned)
    assert written.tensor[0, :, :2].tolist() == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize("bad", [99.0, float("nan")])
def test_inverse_access_of_data_that_is_ragged_elsewhere(bad: float) -> None:
    found = batched_inverse_indexing_access(ROWS.with_padded_set_to(bad), torch.tensor([[2, 0, 3]]), 4, -1.0, 2)
    assert found.tolist() == [[[2, -1, 1, 3], [5, -1, 4, 6], [-1, -1, -1, -1]]]


def test_mapping_between_different_dimensions() -> None:
    index = torch.tensor([[0, 1]])
    turned = ROWS.get_non_uniform_dimension_transposed_to(2)
    assert batched_index_mapping(ROWS, index, index, torch.zeros(1, 3, 3))[0, :2].tolist() == [[1, 2, 3], [4, 5, 6]]
    for target in (ROWS, torch.zeros(1, 3, 3)):
        with pytest.raises(
            ValueError, match="source_data and target_data must be indexed along the same dimension, got 2 and 1"
        ):
            batched_index_mapping(turned, index, index, target)
