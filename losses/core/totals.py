"""The totals of counts, over all images and all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from losses.core.normalizer import Normalizer
from ragged.values.checks import all_equal, check_has_values, check_not_negative, check_weights
from ragged.values.keys import KnownKeys


def totals_of(
    counts: Mapping[str, Tensor],
    normalizer: Normalizer,
    global_count: Any,
    layers: int,
    counted: Sequence[str],
    *,
    every: bool = False,
) -> dict[str, Tensor]:
    """Totals of counts over all images and ranks, in one reduction; or those given.

    Args:
        counts, layers: ``(*layers, *images)`` each, by name; how many dimensions the layers are.
        normalizer, global_count, counted: See ``reduce_terms``.
        every: Whether to count all of ``counted``, also on one rank.
    """
    local = _over_images({name: count.detach() for name, count in counts.items()}, layers)
    if global_count is not None:
        given = {name: _given(global_count, name, value) for name, value in local.items()}
        if isinstance(global_count, Mapping):
            KnownKeys(tuple(dict.fromkeys((*local, *counted)))).check(global_count, "global_count")
        return given
    if local and counted and (normalizer.num_ranks > 1 or every):
        # One number, as ranks have it that count something: layers may have counts of their own.
        nothing = next(iter(local.values())).new_zeros((1,) * layers)
        local = {name: local.get(name, nothing) for name in dict.fromkeys((*counted, *local))}
    if normalizer.num_ranks == 1:
        return local
    joined = normalizer.sum_over_ranks(torch.cat([value.reshape(-1) for value in local.values()]))
    pieces = joined.split([value.numel() for value in local.values()])
    return {name: piece.view(value.shape) for (name, value), piece in zip(local.items(), pieces, strict=True)}


def _given(global_count: Any, name: str, local: Tensor) -> Tensor:
    if isinstance(global_count, Mapping):
        if name not in global_count:
            raise KeyError(f"global_count has no {name!r}, but {list(global_count)}")
        global_count = global_count[name]
    if isinstance(global_count, Tensor):
        if global_count.shape not in ((), (1,), local.shape):
            raise ValueError(
                f"global_count of {name!r} must be a number or have shape {tuple(local.shape)}, "
                f"got {tuple(global_count.shape)}"
            )
        check_has_values(global_count, "a global_count")
        check_weights(global_count, f"global_count of {name!r}")
        return global_count.detach().to(local).reshape(local.shape if global_count.shape == local.shape else ())
    check_not_negative(global_count, "global_count")
    return torch.full_like(local, global_count)


def _over_images(counts: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Sums of counts over the images, at once where they are alike."""
    values = list(counts.values())
    if len(values) > 2 and all_equal(each.shape for each in values) and len({each.dtype for each in values}) == 1:
        return dict(zip(counts, torch.stack(values).flatten(layers + 1).sum(-1).unbind(), strict=True))
    return {name: count.flatten(layers).sum(-1) for name, count in counts.items()}
