"""Indexing reads and writes what is transposed in memory, as many a layer leaves it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ragged import (
    RaggedBatch,
    batched_indexing_access,
    batched_indexing_write,
    batched_inverse_indexing_access,
)

# Narrow and wide entries are read in ways of their own.
WIDTHS = (2, 64)


def transposed(tensor: Tensor) -> Tensor:
    """The same numbers, with the first two dimensions the other way round in memory."""
    changed = tensor.transpose(0, 1).contiguous().transpose(0, 1)
    assert not changed.is_contiguous()
    return changed


@pytest.mark.parametrize(("of_data", "of_index"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("width", WIDTHS)
def test_indexing_of_transposed_tensors(width: int, of_data: bool, of_index: bool) -> None:
    data = torch.rand(3, 4, width, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[3, 0], [1, 2], [2, 99]])
    lists = [[3, 0], [1, 2], [2]]
    batch = RaggedBatch(transposed(data) if of_data else data, sample_sizes=[4, 4, 4])
    where = RaggedBatch(transposed(index) if of_index else index, sample_sizes=[2, 2, 1])

    found = batched_indexing_access(batch, where)
    written = batched_indexing_write(found * 2, where, batch)
    back = batched_inverse_indexing_access(found, where, 4)

    for number, own in enumerate(lists):
        others = [each for each in range(4) if each not in own]
        assert torch.equal(found.split()[number], data[number, own])
        assert torch.equal(written.tensor[number, own], 2 * data[number, own])
        assert torch.equal(written.tensor[number, others], data[number, others])
        rows = back.tensor if isinstance(back, RaggedBatch) else back
        assert torch.equal(rows[number, own], data[number, own])
        assert not rows[number, others].any()
