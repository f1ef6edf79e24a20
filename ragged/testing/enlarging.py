"""Arguments with larger samples, made of the entries that are there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import is_batch, map_leaves
from ragged.testing.probes import is_integer


def enlarged(arguments: Any, count: int, *, unused: bool = False, exactly: bool = False) -> Any:
    """The samples with ``count`` entries more, or exactly so many; empty ones stay empty.

    Args:
        arguments, count: What, and by how much.
        unused: Integers that are all different in each sample go on with numbers that it has not.
        exactly: All samples with entries have as many.
    """
    generator = torch.Generator().manual_seed(0)

    def change(leaf: Any) -> Any:
        if not is_batch(leaf) or not leaf.sample_sizes.numel():
            return leaf
        sizes = torch.where(leaf.sample_sizes > 0, count if exactly else leaf.sample_sizes + count, 0)
        width = max(int(sizes.max()), leaf.max_sample_size)
        # Entries are (*batch, width, …) in here.
        entries = leaf.tensor.detach().movedim(leaf.non_uniform_dim, leaf.num_batch_dims)
        made = _more_entries(entries, leaf, width, unused, generator)
        moved = made.movedim(leaf.num_batch_dims, leaf.non_uniform_dim)
        return RaggedBatch(moved, sample_sizes=sizes, non_uniform_dim=leaf.non_uniform_dim)

    return map_leaves(change, list(arguments))


def _more_entries(entries: Tensor, batch: RaggedBatch, width: int, unused: bool, generator: torch.Generator) -> Tensor:
    """Those that are there, and behind them mixtures, repetitions, or numbers not used so far."""
    dims = batch.num_batch_dims
    places = torch.arange(width)
    own = places % batch.sample_sizes.clamp(min=1).unsqueeze(-1)
    other = torch.randint(2**20, own.shape, generator=generator) % batch.sample_sizes.clamp(min=1).unsqueeze(-1)
    if not entries.shape[dims]:
        return entries.new_zeros((*entries.shape[:dims], width, *entries.shape[dims + 1 :]))
    one, two = rows_at(entries, own, dims), rows_at(entries, other, dims)
    is_new = aligned(places >= batch.sample_sizes.unsqueeze(-1), one)
    if entries.is_floating_point() or entries.is_complex():
        share, shrink = (aligned(torch.rand(own.shape, generator=generator), one).to(one.dtype) for _ in range(2))
        mixed = (one * (0.2 + 0.6 * share) + two * (0.8 - 0.6 * share)) * (1 - 0.1 * shrink)
        return torch.where(is_new, mixed, one)
    if unused and is_integer(entries) and entries.dim() == dims + 1 and _are_different(entries, batch):
        return torch.where(is_new, _not_used(one, is_new), one)
    return one


def rows_at(entries: Tensor, index: Tensor, dims: int) -> Tensor:
    """Entries ``(*batch, N, …)`` at indices ``(*batch, M)``."""
    return entries.gather(dims, aligned(index, entries).expand(*index.shape, *entries.shape[dims + 1 :]))


def aligned(values: Tensor, like: Tensor) -> Tensor:
    """With dimensions of size 1 behind, up to the number that ``like`` has."""
    return values.reshape(*values.shape, *(1,) * (like.dim() - values.dim()))


def _are_different(entries: Tensor, batch: RaggedBatch) -> bool:
    samples = zip(entries.flatten(0, -2), batch.sample_sizes.flatten(), strict=True)
    return all(int(size) == len(sample[: int(size)].unique()) for sample, size in samples)


def _not_used(values: Tensor, is_new: Tensor) -> Tensor:
    """For each new place the next number, from 0, that its sample does not have."""
    made = values.clone()
    for sample, new in zip(made.flatten(0, -2), is_new.flatten(0, -2), strict=True):
        seen = set(sample[~new].tolist())
        fresh = (number for number in range(2 * len(sample) + 1) if number not in seen)
        for place in new.nonzero().flatten().tolist():
            sample[place] = next(fresh)
    return made
