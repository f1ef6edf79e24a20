"""Which parts of predictions are logits of classes, and which are boxes: told by their names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

LOGITS = ("pred_logits", "logits")
"""Names of class logits (B, …, C)."""
BOXES = ("pred_boxes", "boxes")
"""Names of boxes (B, …, 4) in the format and unit of the targets."""


def is_of_images(leaf: Any) -> bool:
    """Whether a leaf of predictions has a dimension of images."""
    return isinstance(leaf, Tensor) and leaf.dim() >= 2


def name_of(path: tuple[Any, ...]) -> Any:
    """The key of a dict, or the attribute, that a leaf stands under; None in a list."""
    last = path[-1] if path else None
    return getattr(last, "key", getattr(last, "name", None))


def map_named(
    change: Callable[[Tensor], Tensor], names: Collection[str] | None, predictions: Any, *, width: int | None = None
) -> Any:
    """Change the tensors of these names, or of all; those of ``width`` numbers in the last dimension if it is given."""

    def one(path: tuple[Any, ...], leaf: Any) -> Any:
        fits = is_of_images(leaf) and (names is None or name_of(path) in names) and width in (None, leaf.shape[-1])
        return change(leaf) if fits else leaf

    return pytree.tree_map_with_path(one, predictions)


def named(names: Collection[str], predictions: Any) -> list[Tensor]:
    """The tensors of these names."""
    leaves, _ = pytree.tree_flatten_with_path(predictions)
    return [leaf for path, leaf in leaves if is_of_images(leaf) and name_of(path) in names]


def are_queries(logits: Collection[str], boxes: Collection[str], predictions: Any) -> bool:
    """Whether predictions are logits and boxes (B, P, …) of the same P, and nothing else."""
    known = named((*logits, *boxes), predictions)
    every = [leaf for leaf in pytree.tree_leaves(predictions) if isinstance(leaf, Tensor) and leaf.dim()]
    return bool(known) and len(known) == len(every) and len({leaf.shape[:2] for leaf in known}) == 1


def in_order(predictions: Any, order: Tensor, dim: int = 1) -> Any:
    """Queries, (B, P, …) or with P in another dimension, in the order (P,)."""
    return pytree.tree_map(lambda leaf: leaf.index_select(dim, order) if is_of_images(leaf) else leaf, predictions)


def take(predictions: Any, images: Collection[int]) -> Any:
    """Predictions of some of the images, in that order."""
    where = torch.tensor(list(images), dtype=torch.int64)
    return pytree.tree_map(lambda leaf: leaf[where] if is_of_images(leaf) else leaf, predictions)
