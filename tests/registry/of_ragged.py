"""The functions of ``ragged``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import ragged
from ragged import RaggedBatch
from registry.entries import (
    GIVEN_SIZE,
    NESTED_SIZES,
    NO_SAMPLE,
    ON_THE_HOST,
    SIZES,
    SLOTS,
    SYNCHRONISES,
    Elsewhere,
    Operation,
    data,
    integers,
    uniform,
    wrapped,
)

ROOM = 6


class Pair(NamedTuple):
    boxes: Tensor
    name: str


def nested(*shape: int) -> RaggedBatch:
    """Two batch dimensions."""
    return data(*shape, sizes=NESTED_SIZES)


def places(limit: int = ROOM, seed: int = 0, sizes: Any = (2, 0, 1)) -> RaggedBatch:
    """Distinct indices below a limit, which every sample has room for."""
    order = torch.stack([torch.randperm(limit, generator=torch.Generator().manual_seed(seed + k)) for k in range(3)])
    return wrapped(order[:, :3], sizes)


def flags(*, seed: int = 0, sizes: Any = SIZES) -> RaggedBatch:
    return wrapped(integers(2, 3, SLOTS, seed=seed).bool(), sizes)


def full(*shape: int, seed: int = 0) -> RaggedBatch:
    """Six entries in every sample but the last."""
    return wrapped(uniform(3, ROOM + 1, *shape, seed=seed), (6, 6, 5))


def written(source: Tensor, index: Tensor, target: Tensor) -> Tensor:
    return target.index_put((index,), source)


def kept(sample: Tensor, mask: Tensor) -> Tensor:
    return sample[mask]


def extreme(sample: Tensor, bound: float, name: str) -> Tensor:
    """With the value for an empty sample as one entry more."""
    return getattr(torch.cat([sample, sample.new_full((1, *sample.shape[1:]), bound)]), name)(0)


def arg_extreme(sample: Tensor, name: str) -> Tensor:
    return getattr(sample, name)(0) if len(sample) else torch.full(sample.shape[1:], -1)


def sorted_sample(sample: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = sample.sort(stable=True, dim=0)
    return values, indices


def two_largest(sample: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = sample.topk(min(2, len(sample)), 0)
    return values, indices


def mean(sample: Tensor, weights: Tensor | None = None) -> Tensor:
    if weights is None:
        return sample.sum(0) / max(len(sample), 1)
    mass = weights.sum() if len(weights) else 1
    return (sample * weights.unsqueeze(-1)).sum(0) / mass


OF_REDUCTIONS = {
    "sum_over_targets": Operation(ragged.sum_over_targets, lambda: (nested(2),), reference=lambda s: s.sum(0)),
    "average_over_targets": Operation(ragged.average_over_targets, lambda: (nested(2),), reference=mean),
    "average_over_targets[weights]": Operation(
        ragged.average_over_targets, lambda: (data(2), data(seed=1)), reference=mean
    ),
    "max_over_targets": Operation(
        ragged.max_over_targets, lambda: (nested(2),), reference=lambda s: extreme(s, -torch.inf, "amax")
    ),
    "max_over_targets[empty]": Operation(
        lambda b: ragged.max_over_targets(b, empty=0.0), lambda: (data(2),), reference=lambda s: extreme(s, 0, "amax")
    ),
    "min_over_targets": Operation(
        ragged.min_over_targets, lambda: (nested(2),), reference=lambda s: extreme(s, torch.inf, "amin")
    ),
    "argmax_over_targets": Operation(
        ragged.argmax_over_targets, lambda: (nested(2),), reference=lambda s: arg_extreme(s, "argmax")
    ),
    "argmin_over_targets": Operation(
        ragged.argmin_over_targets, lambda: (nested(2),), reference=lambda s: arg_extreme(s, "argmin")
    ),
    "any_over_targets": Operation(ragged.any_over_targets, lambda: (flags(),), reference=lambda s: s.any(0)),
    "all_over_targets": Operation(ragged.all_over_targets, lambda: (flags(),), reference=lambda s: s.all(0)),
    "count_over_targets": Operation(
        ragged.count_over_targets, lambda: (flags(),), reference=lambda s: s.count_nonzero(0)
    ),
    "logsumexp_over_targets": Operation(
        ragged.logsumexp_over_targets, lambda: (nested(2),), reference=lambda s: s.logsumexp(0)
    ),
    "softmax_over_targets": Operation(
        ragged.softmax_over_targets, lambda: (nested(2),), reference=lambda s: s.softmax(0)
    ),
    "log_softmax_over_targets": Operation(
        ragged.log_softmax_over_targets, lambda: (nested(2),), reference=lambda s: s.log_softmax(0)
    ),
    "cumsum_over_targets": Operation(ragged.cumsum_over_targets, lambda: (nested(2),), reference=lambda s: s.cumsum(0)),
    "sort_over_targets": Operation(ragged.sort_over_targets, lambda: (nested(2),), reference=sorted_sample),
    "topk_over_targets": Operation(
        lambda b: ragged.topk_over_targets(b, 2), lambda: (nested(2),), reference=two_largest
    ),
}

OF_INDEXING = {
    "batched_indexing_access": Operation(
        ragged.batched_indexing_access, lambda: (full(2), places(5)), reference=lambda s, i: s[i]
    ),
    "batched_indexing_access[tensor]": Operation(
        ragged.batched_indexing_access, lambda: (uniform(3, ROOM, 96), places()), reference=lambda s, i: s[i]
    ),
    "batched_inverse_indexing_access": Operation(
        lambda s, i: ragged.batched_inverse_indexing_access(s, i, ROOM),
        lambda: (wrapped(uniform(3, 3, 2), (2, 0, 1)), places()),
        reference=lambda s, i: written(s, i, s.new_zeros(ROOM, 2)),
    ),
    "batched_indexing_write": Operation(
        ragged.batched_indexing_write,
        lambda: (wrapped(uniform(3, 3, 2), (2, 0, 1)), places(5), full(2, seed=1)),
        reference=written,
    ),
    "batched_indexing_write[tensor]": Operation(
        lambda s, i, t: ragged.batched_indexing_write(s, i, t, check_duplicates=True),
        lambda: (wrapped(uniform(3, 3, 2), (2, 0, 1)), places(), uniform(3, ROOM, 2, seed=1)),
        reference=written,
    ),
    "batched_index_mapping": Operation(
        ragged.batched_index_mapping,
        lambda: (full(2), places(5), places(5, seed=7), full(2, seed=1)),
        reference=lambda s, i, j, t: written(s[i], j, t),
    ),
    "get_mask_from_indices": Operation(
        lambda i: ragged.get_mask_from_indices(ROOM, i),
        lambda: (places(),),
        reference=lambda i: written(torch.tensor(True), i, torch.zeros(ROOM, dtype=torch.bool)),
    ),
    "get_indices_from_mask": Operation(
        lambda m: ragged.get_indices_from_mask(m, max_size=m.max_sample_size),
        lambda: (flags(),),
        reference=lambda m: m.nonzero().squeeze(-1),
    ),
    "get_indices_from_mask[reading]": Operation(
        ragged.get_indices_from_mask,
        lambda: (flags(),),
        reference=lambda m: m.nonzero().squeeze(-1),
        without=SYNCHRONISES,
    ),
    "batched_bool_indexing": Operation(
        lambda b, m: ragged.batched_bool_indexing(b, m, max_size=m.max_sample_size),
        lambda: (data(2), flags()),
        reference=kept,
    ),
    "batched_bool_indexing_write": Operation(
        lambda m, b: ragged.batched_bool_indexing_write(
            ragged.batched_bool_indexing(b, m, max_size=m.max_sample_size) * 2, m, b
        ),
        lambda: (flags(), data(2)),
        reference=lambda m, s: torch.where(m.unsqueeze(-1), s * 2, s),
    ),
    "apply_mask_to_tensor": Operation(
        lambda b: ragged.apply_mask_to_tensor(b.tensor, b.mask).sum(1), lambda: (data(2),), reference=lambda s: s.sum(0)
    ),
    "squeeze_except_batch_and_sample": Operation(
        ragged.squeeze_except_batch_and_sample, lambda: (data(1, 2),), reference=lambda s: s.squeeze(1)
    ),
}


def attended(batch: RaggedBatch) -> Tensor:
    """Self-attention of two heads, and the sum of what it gives the entries."""
    heads = batch.apply(lambda tensor: tensor.unflatten(-1, (2, -1))).with_padded_set_to(0).tensor.transpose(-2, -3)
    found = scaled_dot_product_attention(heads, heads, heads, attn_mask=ragged.attention_mask(batch))
    return ragged.sum_over_targets(batch.create_with_sample_sizes_like_self(found.transpose(-2, -3).flatten(-2)))


def attended_sample(sample: Tensor) -> Tensor:
    """In plain matrices, a head at a time."""
    heads = sample.reshape(len(sample), 2, 2).unbind(1)
    found = [((head @ head.mT) / 2**0.5).softmax(-1) @ head for head in heads]
    return torch.cat(found, -1).sum(0)


def ignored(count: Tensor) -> Tensor:
    batch = RaggedBatch(count.new_zeros(*count.shape, SLOTS), sample_sizes=count)
    return ragged.key_padding_mask(batch)


OF_ATTENTION = {
    "key_padding_mask": Operation(
        ignored,
        lambda: (torch.tensor(NESTED_SIZES[0]),),
        reference=lambda count: torch.arange(SLOTS) >= count.clamp(min=1),
    ),
    "attention_mask": Operation(attended, lambda: (nested(4),), reference=attended_sample),
}

OF_COMBINING = {
    "cat_batches": Operation(
        lambda a, b: ragged.cat_batches([a.unsqueeze_batch_dim(1), b.unsqueeze_batch_dim(1)], 1),
        lambda: (data(2), full(2)),
    ),
    "stack_batches": Operation(lambda a, b: ragged.stack_batches([a, b], 1), lambda: (data(2), full(2))),
    "cat_targets": Operation(
        lambda a, b: ragged.cat_targets([a, b]), lambda: (data(2), full(2)), reference=lambda a, b: torch.cat([a, b])
    ),
    "combine_data": Operation(
        lambda t: ragged.combine_data(list(t.unbind())),
        lambda: (uniform(3, 4, 2),),
        reference=lambda s: s,
        without=NO_SAMPLE,
    ),
    "combine_data[split]": Operation(
        lambda b: ragged.combine_data(b.split()),
        lambda: (data(2),),
        reference=lambda s: s,
        without={**ON_THE_HOST, **NO_SAMPLE},
    ),
    "collate": Operation(
        lambda b: ragged.collate([{"boxes": sample} for sample in b.split()]),
        lambda: (data(2),),
        reference=lambda s: {"boxes": s},
        without={**ON_THE_HOST, **NO_SAMPLE},
    ),
    "pack": Operation(
        ragged.pack,
        lambda: (data(2),),
        without={
            **SYNCHRONISES,
            "order": "its values are those of all samples, one after the other",
            "independence": "its values are those of all samples, one after the other",
        },
    ),
    "unpack": Operation(
        lambda t: ragged.unpack(t.flatten(0, 1), torch.full_like(t[:, 0, 0], 4).long(), max_size=4),
        lambda: (uniform(3, 4, 2),),
        reference=lambda s: s,
    ),
    "unpack[pack]": Operation(
        lambda b: ragged.unpack(*ragged.pack(b)), lambda: (nested(2),), reference=lambda s: s, without=ON_THE_HOST
    ),
    "to_nested": Operation(
        lambda b: ragged.to_nested(b).to_padded_tensor(0.0).sum(1),
        lambda: (data(2),),
        reference=lambda s: s.sum(0),
        without=SYNCHRONISES,
    ),
    "from_nested": Operation(
        lambda b: ragged.from_nested(ragged.to_nested(b), max_size=SLOTS),
        lambda: (data(2),),
        reference=lambda s: s,
        without={**ON_THE_HOST, **GIVEN_SIZE},
    ),
    "get_compact_lists": Operation(
        lambda b, m: ragged.get_compact_lists(
            m.with_padded_set_to(False).tensor, [b.tensor, "name"], max_size=m.max_sample_size
        )[0],
        lambda: (data(2), flags()),
        reference=kept,
    ),
    "get_compact_from_named_tuple": Operation(
        lambda b, m: (
            ragged.get_compact_from_named_tuple(
                m.with_padded_set_to(False).tensor, Pair(b.tensor, "name"), max_size=m.max_sample_size
            ).boxes
        ),
        lambda: (data(2), flags()),
        reference=kept,
    ),
}

PACKAGE = "ragged"
ENTRIES: dict[str, Operation | Elsewhere] = {**OF_REDUCTIONS, **OF_INDEXING, **OF_ATTENTION, **OF_COMBINING}
