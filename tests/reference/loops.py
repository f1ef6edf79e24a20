"""The core operations for one sample at a time, in plain loops: what the batched ones must agree with."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ragged import RaggedBatch


def entries(data: RaggedBatch) -> list[Tensor]:
    """The valid entries of each sample, batch dimensions flattened, the ragged dimension first."""
    dense = rows(data.tensor, data.num_batch_dims, data.non_uniform_dim)
    return [sample[:size] for sample, size in zip(dense, data.sample_sizes.reshape(-1).tolist(), strict=True)]


def rows(tensor: Tensor, num_batch_dims: int, dim: int) -> list[Tensor]:
    """The samples of a dense tensor, the indexed dimension first."""
    moved = tensor.movedim(dim, num_batch_dims)
    return list(moved.reshape(math.prod(moved.shape[:num_batch_dims]), *moved.shape[num_batch_dims:]))


def access(data: list[Tensor], indices: list[Tensor]) -> list[Tensor]:
    return [sample[index] for sample, index in zip(data, indices, strict=True)]


def write(sources: list[Tensor], indices: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
    results = []
    for source, index, target in zip(sources, indices, targets, strict=True):
        result = target.to(torch.promote_types(source.dtype, target.dtype)).clone()
        for j, place in enumerate(index.tolist()):
            result[place] = source[j]
        results.append(result)
    return results


def mask_from_indices(size: int, indices: list[Tensor]) -> list[Tensor]:
    return [torch.tensor([n in index.tolist() for n in range(size)], dtype=torch.bool) for index in indices]


def indices_from_mask(masks: list[Tensor]) -> list[Tensor]:
    return [torch.tensor([n for n, true in enumerate(mask.tolist()) if true], dtype=torch.int64) for mask in masks]


def reduced(data: list[Tensor], function: Callable[[Tensor], Tensor], empty: float) -> list[Tensor]:
    """A reduction over the first dimension of each sample; ``empty`` for samples without entries."""
    return [function(sample) if len(sample) else sample.new_full(sample.shape[1:], empty) for sample in data]
