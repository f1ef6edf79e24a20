"""Whatever is passed in, a public function works or raises one of the documented exceptions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

import ragged
from ragged import RaggedBatch

FUNCTIONS = [name for name in ragged.__all__ if name not in ("RaggedBatch", "collate")]
TAKES_A_SEQUENCE = {"combine_data", "cat_batches", "stack_batches", "cat_targets"}
DTYPES = (torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64)


@st.composite
def tensors(draw: st.DrawFn, min_dims: int = 0) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 3), min_size=min_dims, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    return (torch.randn(shape, generator=generator) * 2).to(draw(st.sampled_from(DTYPES)))


@st.composite
def batches(draw: st.DrawFn) -> RaggedBatch:
    tensor = draw(tensors(min_dims=1))
    num_batch_dims = draw(st.integers(0, tensor.dim() - 1))
    dim = draw(st.integers(num_batch_dims, tensor.dim() - 1))
    size = draw(st.integers(0, tensor.shape[dim]))
    return RaggedBatch(tensor, sample_sizes=torch.full(tensor.shape[:num_batch_dims], size), non_uniform_dim=dim)


ANYTHING = st.one_of(tensors(), batches(), batches(), st.integers(-1, 3), st.none(), st.just("text"), st.just([1, 2]))


@pytest.mark.parametrize("name", FUNCTIONS)
@given(data=st.data())
@examples(60)
def test_arguments_of_any_kind(name: str, data: st.DataObject) -> None:
    function: Callable[..., Any] = getattr(ragged, name)
    required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    arguments = [data.draw(ANYTHING) for _ in required]
    if name in TAKES_A_SEQUENCE:
        arguments = [data.draw(st.lists(ANYTHING, max_size=3))]
    message = None
    try:
        function(*arguments)
    except (ValueError, TypeError, IndexError) as error:
        message = str(error)
    assert message != ""


@pytest.mark.parametrize(
    "name", [name for name in FUNCTIONS if name.endswith("_over_targets") and name != "topk_over_targets"]
)
def test_reductions_say_how_to_wrap_a_tensor(name: str) -> None:
    with pytest.raises(TypeError, match=r"data must be a RaggedBatch, got Tensor; wrap it with RaggedBatch"):
        getattr(ragged, name)(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: ragged.batched_indexing_access(b, None), "indices must be a RaggedBatch or a tensor, got NoneType"),
        (lambda b: ragged.batched_indexing_access([1], b.long()), "input_data must be a RaggedBatch or a tensor, got list"),
        (lambda b: ragged.batched_indexing_write(1, b.long(), b), "the data to write must be a RaggedBatch or a tensor, got int"),
        (lambda b: ragged.get_mask_from_indices(2.0, b.long()), "mask_num_targets must be an integer, got float"),
        (lambda b: ragged.get_indices_from_mask(b.bool(), max_size=True), "max_size must be an integer, got bool"),
        (lambda b: ragged.apply_mask_to_tensor(b, b.mask), r"data must be a torch.Tensor, got RaggedBatch"),
        (lambda b: ragged.topk_over_targets(b, None), "k must be an integer, got NoneType"),
        (lambda b: ragged.cat_batches([b, b.tensor]), "each argument of cat_batches must be a RaggedBatch, got Tensor; wrap"),
        (lambda b: ragged.stack_batches([b, None]), "each argument of stack_batches must be a RaggedBatch, got NoneType"),
        (lambda b: ragged.get_compact_from_named_tuple(b.mask, [b.tensor]), "data must be a named tuple, got list"),
        (lambda b: ragged.unpack(torch.ones(1), None), "sample_sizes must be a tensor or a .* list of integers"),
        (lambda b: b.equal(b.tensor), "other must be a RaggedBatch, got Tensor"),
        (lambda b: b.with_max_sample_size(2.5), "max_size must be an integer, got float"),
        (lambda b: b.create_with_sample_sizes_like_self(b), r"tensor must be a torch.Tensor, got RaggedBatch"),
    ],
)  # fmt: skip
def test_wrong_types(call: Callable[[RaggedBatch], Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call(ragged.combine_data([[0.0], []]))


def test_batches_that_cannot_be_joined() -> None:
    batch = ragged.combine_data([[1, 2], [3]])
    with pytest.raises(
        ValueError, match=r"cat_batches needs entries of one shape, got tensors of shapes \[\(2, 2\), \(2, 2, 1\)\]"
    ):
        ragged.cat_batches([batch, batch.unsqueeze_data_dim(-1)])
    with pytest.raises(ValueError, match=r"agree except in dimension 0, got \[\(1, 2\), \(2, 1\)\]"):
        ragged.cat_batches([batch.unsqueeze_batch_dim(0), batch.unsqueeze_batch_dim(1)])
