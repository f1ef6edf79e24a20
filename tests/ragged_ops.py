"""Batches, indices and masks with samples of up to ``n`` entries: for tests of graphs, devices and transforms."""

from __future__ import annotations

import torch
from torch import Tensor

from ragged import RaggedBatch

BATCH = 3
GENERATOR = torch.Generator().manual_seed(0)


def batch(n: int, *data_shape: int) -> RaggedBatch:
    sizes = torch.randint(0, n + 1, (BATCH,), generator=GENERATOR)
    return RaggedBatch(torch.rand(BATCH, n, *data_shape, generator=GENERATOR) + 0.1, sample_sizes=sizes)


def indices(n: int) -> RaggedBatch:
    sizes = torch.randint(0, n + 1, (BATCH,), generator=GENERATOR)
    drawn = torch.stack([torch.randperm(n, generator=GENERATOR) for _ in range(BATCH)]).reshape(BATCH, n)
    return RaggedBatch(torch.where(torch.arange(n) < sizes.unsqueeze(-1), drawn, -7), sample_sizes=sizes)


def mask(n: int) -> Tensor:
    return torch.rand(BATCH, n, generator=GENERATOR) > 0.5
