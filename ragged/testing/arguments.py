"""The same arguments in other forms: other filler, more padding, one sample, other order, no entries.

Arguments are any pytree. Every ``RaggedBatch`` in it, and every tensor that begins with the same batch shape, holds
samples; all other leaves are left as they are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.filler import refilled

Position = tuple[int, ...]


class UnknownLeaf(TypeError):
    """A container whose tensors torch does not see."""


def is_batch(node: Any) -> bool:
    """Whether a node of a pytree is a ragged batch, which counts as one leaf."""
    return isinstance(node, RaggedBatch)


def named_leaves(tree: Any, name: str) -> dict[str, Any]:
    """Leaves by path, a ragged batch being one leaf."""
    leaves, _ = pytree.tree_flatten_with_path(tree, is_leaf=is_batch)
    named = {f"{name}{pytree.keystr(path)}": leaf for path, leaf in leaves}
    for where, leaf in named.items():
        _check_is_known(leaf, where)
    return named


def _check_is_known(leaf: Any, where: str) -> None:
    """What torch takes for one constant leaf would never be changed, and hardly be compared."""
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type) and not is_batch(leaf):
        fields = [getattr(leaf, field.name) for field in dataclasses.fields(leaf)]
        if any(isinstance(each, (Tensor, RaggedBatch)) for each in pytree.tree_leaves(fields, is_leaf=is_batch)):
            name = type(leaf).__name__
            raise UnknownLeaf(f"{where} is a {name}, whose tensors torch does not see: register {name} as a pytree")


def map_leaves(change: Callable[[Any], Any], arguments: Any) -> Any:
    """Change every leaf."""
    return pytree.tree_map(change, arguments, is_leaf=is_batch)


def map_batches(change: Callable[[RaggedBatch], RaggedBatch], arguments: Any) -> Any:
    """Change every ragged batch."""
    return map_leaves(lambda leaf: change(leaf) if is_batch(leaf) else leaf, arguments)


def batch_shape_of(arguments: Any) -> Position:
    """The batch shape of the ragged batches; without any, the first dimension of the first tensor.

    Raises:
        ValueError: Nothing has a batch dimension, or batches differ in their batch shape.
    """
    named = (named_leaves(argument, f"argument {place}") for place, argument in enumerate(arguments))
    leaves = [leaf for each in named for leaf in each.values()]
    shapes = {tuple(leaf.batch_shape) for leaf in leaves if is_batch(leaf)}
    if len(shapes) > 1:
        raise ValueError(f"all ragged batches must have the same batch shape, got {sorted(shapes)}")
    if shapes:
        return shapes.pop()
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.dim():
            return (leaf.shape[0],)
    raise ValueError("the arguments hold neither a ragged batch nor a tensor with a dimension")


def has_samples(leaf: Any, batch_shape: Position) -> bool:
    """Whether a leaf holds something for each sample."""
    return is_batch(leaf) or (isinstance(leaf, Tensor) and tuple(leaf.shape[: len(batch_shape)]) == batch_shape)


def positions(batch_shape: Position) -> Iterator[Position]:
    """Where the samples are in the batch dimensions."""
    return itertools.product(*map(range, batch_shape))


def map_samples(change: Callable[[Tensor], Tensor], arguments: Any, batch_shape: Position | None = None) -> Any:
    """Change the batch dimensions of everything that holds samples; results may have more of them."""
    batch_shape = batch_shape_of(arguments) if batch_shape is None else batch_shape

    def one(leaf: Any) -> Any:
        if not has_samples(leaf, batch_shape):
            return leaf
        if not is_batch(leaf):
            return change(leaf)
        sizes = change(leaf.sample_sizes)
        return RaggedBatch(change(leaf.tensor), sample_sizes=sizes, non_uniform_dim=sizes.dim() + leaf.ragged_axis)

    return map_leaves(one, arguments)


def take(arguments: Any, position: Position, batch_shape: Position | None = None) -> Any:
    """One sample, as a batch with every batch dimension of size 1."""

    def pick(tensor: Tensor) -> Tensor:
        for dim, index in enumerate(position):
            tensor = tensor.narrow(dim, index, 1)
        return tensor

    return map_samples(pick, arguments, batch_shape)


def reordered(arguments: Any, dim: int, order: Sequence[int]) -> Any:
    """The samples in another order along one batch dimension."""
    return map_samples(lambda tensor: in_order(tensor, dim, order), arguments)


def in_order(tensor: Tensor, dim: int, order: Sequence[int]) -> Tensor:
    """Entries of one dimension in another order."""
    return tensor.index_select(dim, torch.tensor(order, dtype=torch.int64, device=tensor.device))


def refill(arguments: Any, kind: str) -> Any:
    """Another filler in every ragged batch."""
    return map_batches(lambda batch: refilled(batch, kind), arguments)


def widened(arguments: Any, slack: int, kind: str) -> Any:
    """``slack`` slots more in every ragged dimension, with a filler of that kind in all of them."""
    return refill(map_batches(lambda batch: batch.with_max_sample_size(batch.max_sample_size + slack), arguments), kind)


def trimmed(arguments: Any) -> Any:
    """No slot more than the largest sample needs."""
    return map_batches(lambda batch: batch.with_max_sample_size(batch.largest_sample_size()), arguments)


def emptied(arguments: Any, *, first_only: bool) -> Any:
    """All samples without entries, or the first one only."""

    def empty(batch: RaggedBatch) -> RaggedBatch:
        sizes = torch.zeros_like(batch.sample_sizes)
        if first_only and sizes.numel():
            sizes = batch.sample_sizes.clone()
            sizes.view(-1)[0] = 0
        return RaggedBatch(batch.tensor, sample_sizes=sizes, non_uniform_dim=batch.non_uniform_dim)

    return map_batches(empty, arguments)


def cast(arguments: Any, dtype: torch.dtype) -> Any:
    """Floating tensors in another dtype, data of ragged batches among them; complex ones, if float64 is asked for."""

    def change(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.is_complex() and dtype is torch.float64:
            return leaf.to(torch.complex128)
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return pytree.tree_map(change, arguments)


def sample_at(leaf: Any, position: Position, batch_shape: Position) -> Any:
    """What a leaf holds for one sample, without padding; the leaf itself if it holds nothing for samples."""
    if is_batch(leaf):
        return leaf.tensor[position].narrow(leaf.ragged_axis, 0, int(leaf.sample_sizes[position]))
    return leaf[position] if has_samples(leaf, batch_shape) else leaf
