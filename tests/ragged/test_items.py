"""What stands in brackets: data dimensions give a batch of the same samples, all else is what the tensor gives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ragged import RaggedBatch
from ragged.testing import ragged_batches

PARTS: list[Any] = [slice(None), 0, -1, slice(0, 1), slice(None, None, 2), None, [0], np.int64(0), torch.tensor([0])]


def is_whole(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


@given(ragged_batches(dtypes=[torch.float32]), st.data())
def test_items_of_data_dimensions_are_those_of_samples(batch: RaggedBatch, draw: st.DataObject) -> None:
    """One part for each dimension: batch and ragged ones whole, of the others anything."""
    nb, parts = batch.num_batch_dims, []
    advanced = 0
    for dim in range(nb, batch.dim()):
        if dim == batch.non_uniform_dim or batch.shape[dim] == 0:
            parts.append(slice(None))
            continue
        part = draw.draw(st.sampled_from(PARTS[:5] if advanced else PARTS))
        advanced += isinstance(part, (list, torch.Tensor))
        parts += [part, slice(None)] if part is None else [part]
    made = batch[(slice(None),) * nb + tuple(parts)]
    assert isinstance(made, RaggedBatch) and made.sample_sizes is batch.sample_sizes
    for found, sample in zip(made.flatten_batch_dims().split(), batch.flatten_batch_dims().split(), strict=True):
        assert torch.equal(found, sample[tuple(parts)])


@pytest.mark.parametrize(
    ("sizes", "dim"), [([2, 0], 1), ([2, 0], 2), ([[2, 0, 1], [1, 3, 2]], 2), ([[2, 0, 1], [1, 3, 2]], 3)]
)
def test_every_item_is_a_batch_where_samples_stay_whole_and_else_what_the_tensor_gives(sizes: Any, dim: int) -> None:
    shape = [*torch.tensor(sizes).shape, 4, 5, 2]
    shape[dim] = 3
    tensor = torch.rand(shape)
    batch = RaggedBatch(tensor, sample_sizes=sizes, non_uniform_dim=dim)
    kinds = set()
    for count in range(4):
        for item in itertools.product(PARTS[:6], repeat=count):
            for places in (item, (..., *item), (*item, ...)):
                found = batch[places]
                taken = tensor[places]
                made = found.tensor if isinstance(found, RaggedBatch) else found
                assert torch.equal(made, taken)
                expected = keeps_samples(places, batch)
                assert isinstance(found, RaggedBatch) == expected, places
                if isinstance(found, RaggedBatch):
                    # The constructor knows whether mask and sizes fit.
                    RaggedBatch(found.tensor, found.mask, found.sample_sizes, found.non_uniform_dim)
                kinds.add(expected)
    assert kinds == {True, False}


def keeps_samples(item: tuple[Any, ...], batch: RaggedBatch) -> bool:
    """Dimension after dimension, from the front up to the dots, from the end back to them."""
    at = item.index(...) if ... in item else len(item)
    front, back = list(item[:at]), list(item[at + 1 :])
    dim = 0
    for part in front:
        if part is None:
            if dim < batch.num_batch_dims:
                return False
            continue
        if (dim < batch.num_batch_dims or dim == batch.non_uniform_dim) and not is_whole(part):
            return False
        dim += 1
    dim = batch.dim()
    for part in reversed(back):
        if part is None:
            if dim < batch.num_batch_dims:
                return False
            continue
        dim -= 1
        if (dim < batch.num_batch_dims or dim == batch.non_uniform_dim) and not is_whole(part):
            return False
    return True


def test_items_that_no_dimension_has_are_errors_of_the_tensor() -> None:
    batch = RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[3, 1])
    for item in ((..., 4), (0, 0, 0, 0), (..., ..., 0)):
        with pytest.raises(IndexError):
            batch[item]
    mask = batch[batch.mask]
    assert isinstance(mask, torch.Tensor) and mask.shape == (4, 4)
    assert isinstance(batch[..., torch.tensor([[0, 1]])], torch.Tensor)
    assert isinstance(batch[..., [[0, 1]]], torch.Tensor)


def test_gradients_and_filler_of_a_slice() -> None:
    batch = RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[3, 1]).with_padded_set_to(torch.nan).requires_grad_()
    (torch.log(batch[..., :2]) * batch[..., 2:3]).with_padded_set_to(0).tensor.sum().backward()
    gradient = batch.tensor.grad
    assert gradient is not None and not gradient[~batch.mask].any() and gradient[batch.mask][:, :3].all()


def test_batches_are_written_into_slices() -> None:
    batch = RaggedBatch(torch.ones(2, 3, 4), sample_sizes=[3, 1])
    batch[..., :2] *= 3
    batch[..., 2] = batch[..., 0] + 1
    batch[..., 3:] = 7.0
    assert batch.split()[0].tolist() == [[3, 3, 4, 7]] * 3
    with pytest.raises(TypeError, match=r"assigned to whole samples .*batch\[...\] = other, batch\[..., :2\] = other"):
        batch[0] = batch
    with pytest.raises(ValueError, match="sample sizes differ"):
        batch[..., :2] = RaggedBatch(torch.ones(2, 3, 2), sample_sizes=[2, 1])
    with pytest.raises(ValueError, match="do not line up"):
        batch[..., 0] = batch


@pytest.mark.graphs
def test_a_slice_compiles() -> None:
    batch = RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[3, 1])

    def centres(boxes: RaggedBatch) -> RaggedBatch:
        return (boxes[..., :2] + boxes[..., 2:]) / 2

    compiled = torch.compile(centres, fullgraph=True, backend="eager", dynamic=True)
    assert compiled(batch).equal(centres(batch))
