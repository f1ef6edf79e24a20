"""Pairs of a target and a prediction that have the same key, such as the identity of a tracked object."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.assignments.parts import BACKGROUND, IGNORED
from ragged import RaggedBatch
from ragged.ops.indices import as_indices
from ragged.values.checks import STORED_INTEGER_DTYPES, check_same_device, check_values, sample_name

_NONE = -1


def match_by_key(target_ids: RaggedBatch | Tensor, query_ids: RaggedBatch | Tensor) -> Assignment:
    """The assignment of queries to targets with the same id, within each image.

    For example for tracks: a query that found an object keeps its id in the next frame. Give the result to a
    matcher as ``given``, and it matches the other queries with the other targets.

    Args:
        target_ids: Integers ``(*batch, G)``, of any size; a plain tensor means G targets in every image. A negative id
            means no object.
        query_ids: Integers ``(*batch, Q)``, likewise; can have extra leading dimensions, such as layers.

    Returns:
        An assignment of Q queries. A query is background if its id is below 0 or no target of its image has it, and
        ``IGNORED`` if it is filler. All queries of one id have the same target. The quality of a match is 1.

    Raises:
        TypeError: Ids are not integers.
        ValueError: Batch shapes or devices do not fit, or two targets of an image have the same id; the message names
            them.

    >>> match_by_key(combine_data([[7, 9], [4]]), combine_data([[9, 3, -1], [4]])).target_index
    tensor([[ 1, -1, -1],
            [ 0, -2, -2]])
    """
    targets, queries = _ids(target_ids, "target_ids"), _ids(query_ids, "query_ids")
    check_same_device(queries.device, targets.device, name="query_ids", reference="target_ids")
    batch, own = tuple(queries.batch_shape), tuple(targets.batch_shape)
    if batch[len(batch) - len(own) :] != own:
        raise ValueError(f"the batch shape {batch} of query_ids must end with the batch shape {own} of target_ids")
    keys, order = _sorted(targets)
    _check_no_duplicates(keys, order)
    keys, order = (each.expand(*batch, each.shape[-1]).contiguous() for each in (keys, order))
    wanted = queries.tensor.contiguous()
    place = torch.searchsorted(keys, wanted).clamp(max=keys.shape[-1] - 1)
    found = (keys.gather(-1, place) == wanted) & (wanted >= 0) & queries.mask
    other = torch.where(queries.mask, BACKGROUND, IGNORED)
    num_targets = targets.sample_sizes.expand(batch)
    return Assignment(
        torch.where(found, order.gather(-1, place), other),
        found.float(),
        num_targets,
        torch.zeros_like(num_targets),
        targets.max_sample_size,
        queries.max_sample_size,
    )


def _ids(ids: Any, name: str) -> RaggedBatch:
    """Ids as a ragged batch of int64; of a plain tensor, all count."""
    is_known = isinstance(ids, (RaggedBatch, Tensor))
    if not is_known or ids.dtype not in STORED_INTEGER_DTYPES:
        got = ids.dtype if is_known else type(ids).__name__
        raise TypeError(f"{name} must be integers (*batch, N), a RaggedBatch or a tensor, got {got}")
    num_batch_dims = ids.num_batch_dims if isinstance(ids, RaggedBatch) else ids.dim() - 1
    if num_batch_dims < 0 or ids.dim() != num_batch_dims + 1:
        raise ValueError(f"{name} must have shape (*batch, N), got {tuple(ids.shape)}")
    return as_indices(ids)


def _sorted(targets: RaggedBatch) -> tuple[Tensor, Tensor]:
    """Ids ``(*batch, G + 1)`` in ascending order, with the target of each; -1 first, which no query looks for."""
    ids = torch.where(targets.mask, targets.tensor.clamp(min=_NONE), _NONE)
    # One of no target more, so that there is something to read.
    nobody = ids.new_full((*ids.shape[:-1], 1), _NONE)
    keys, order = torch.cat([ids, nobody], -1).sort(dim=-1, stable=True)
    return keys, order


def _check_no_duplicates(keys: Tensor, order: Tensor) -> None:
    same = (keys[..., 1:] == keys[..., :-1]) & (keys[..., 1:] >= 0)
    check_values(
        ~same,
        lambda at: (
            f"targets must have different ids, got {int(keys[at])} for both {int(order[at])} and "
            f"{int(order[(*at[:-1], at[-1] + 1)])} of {sample_name(at[:-1])}"
        ),
        summary="match_by_key: two targets of a sample have the same id",
    )
