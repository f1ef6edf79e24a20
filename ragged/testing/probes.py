"""Values that arguments are changed to, to see what an operation makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.testing.arguments import Position, batch_shape_of, has_samples, is_batch, map_batches, map_leaves

HALVES = (torch.float16, torch.bfloat16)


class Probe(NamedTuple):
    """A value, and the place that it is put at: a sample and one of its entries."""

    sample: Position
    entry: int
    value: float


def data_leaves(arguments: Any) -> list[Tensor]:
    """The data of ragged batches, and all other tensors."""
    leaves = pytree.tree_leaves(list(arguments), is_leaf=is_batch)
    data = [leaf.tensor if is_batch(leaf) else leaf for leaf in leaves]
    return [each for each in data if isinstance(each, Tensor)]


def floating(arguments: Any) -> list[Tensor]:
    """Those of ``data_leaves`` that are floating."""
    return [each for each in data_leaves(arguments) if each.is_floating_point()]


def is_integer(tensor: Tensor) -> bool:
    """Whether a tensor holds whole numbers, flags excepted."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)


def batches_in(arguments: Any) -> list[Any]:
    """The ragged batches."""
    return [leaf for leaf in pytree.tree_leaves(list(arguments), is_leaf=is_batch) if is_batch(leaf)]


def copied(tree: Any) -> Any:
    """With tensors of its own, sizes and masks of ragged batches included."""
    return pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, tree)


def in_float32(tree: Any) -> Any:
    """Half-precision numbers in float32."""
    return pytree.tree_map(lambda leaf: leaf.float() if getattr(leaf, "dtype", None) in HALVES else leaf, tree)


def largest_sample(arguments: Any) -> tuple[Position, int]:
    """The sample with the most entries, and how many of them every batch has there; without a batch, the first one."""
    batches = [each for each in batches_in(arguments) if each.sample_sizes.numel()]
    if not batches:
        return (0,) * len(batch_shape_of(arguments)), 0
    sizes = torch.stack([each.sample_sizes for each in batches]).amin(0)
    place = int(sizes.argmax())
    position = []
    for size in reversed(sizes.shape):
        position.append(place % size)
        place //= size
    return tuple(reversed(position)), int(sizes.max())


def with_entry(arguments: Any, probe: Probe, *, one_number: bool = False) -> Any:
    """A value in one entry of all floating batches, or in the first number of it; of tensors, in the whole sample."""
    batch_shape = batch_shape_of(arguments)

    def change(leaf: Any) -> Any:
        data = leaf.tensor if is_batch(leaf) else leaf
        if not isinstance(data, Tensor) or not data.is_floating_point() or not has_samples(leaf, batch_shape):
            return leaf
        changed = data.detach().clone()
        place = changed[probe.sample]
        place = place.select(leaf.ragged_axis, probe.entry) if is_batch(leaf) else place
        if one_number and place.numel():
            place[(0,) * place.dim()] = probe.value
        elif is_batch(leaf):
            place.fill_(probe.value)
        return leaf.create_with_sample_sizes_like_self(changed) if is_batch(leaf) else changed

    return map_leaves(change, list(arguments))


def map_data(change: Callable[[Tensor], Tensor], arguments: Any) -> Any:
    """Change the data of ragged batches, and all other tensors."""

    def one(leaf: Any) -> Any:
        if is_batch(leaf):
            return leaf.create_with_sample_sizes_like_self(change(leaf.tensor.detach()))
        return change(leaf.detach()) if isinstance(leaf, Tensor) else leaf

    return map_leaves(one, arguments)


def map_floating_batches(change: Callable[[Tensor], Tensor], arguments: Any) -> Any:
    """Change the data of floating ragged batches."""

    def one(batch: Any) -> Any:
        if not batch.tensor.is_floating_point():
            return batch
        return batch.create_with_sample_sizes_like_self(change(batch.tensor.detach()))

    return map_batches(one, list(arguments))


def nudged(arguments: Any, distance: float | None = None, seed: int = 0, *, both_ways: bool = False) -> Any:
    """Floating numbers a little further from 0, or moved both ways; by default by half of the digits of their dtype."""
    generator = torch.Generator().manual_seed(seed)

    def change(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        far = 4 * torch.finfo(tensor.dtype).eps ** 0.5 if distance is None else distance
        share = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
        share = share * 2 - 1.1 if both_ways else share
        return tensor + far * (0.1 + share) * torch.where(tensor < 0, -1, 1) * (tensor.abs() + 0.1)

    return map_data(change, arguments)
