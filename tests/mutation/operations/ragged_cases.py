"""Operations of ``ragged`` that bugs are planted into, and what they are checked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ragged import RaggedBatch
from tests.mutation.operations import relations
from tests.mutation.planting import Case

REDUCTIONS, ORDERING, INDEXING, ROWS, MASKS = (
    "ragged.ops.reductions",
    "ragged.ops.ordering",
    "ragged.ops.indexing",
    "ragged.ops.rows",
    "ragged.ops.masks",
)
SIZES = [3, 0, 1, 2]


def batch(*data_shape: int, axis: int = 0, sizes: Any = SIZES, scale: float = 1.0) -> RaggedBatch:
    """Normal values, one slot of padding more than needed."""
    counts = torch.tensor(sizes)
    shape = (*counts.shape, *data_shape[:axis], int(counts.max()) + 1, *data_shape[axis:])
    values = torch.randn(shape) * scale
    return RaggedBatch(values, sample_sizes=counts, non_uniform_dim=counts.dim() + axis)


def indices(*lists: list[int]) -> RaggedBatch:
    width = max(map(len, lists)) + 1
    padded = torch.tensor([each + [-1] * (width - len(each)) for each in lists])
    return RaggedBatch(padded, sample_sizes=[len(each) for each in lists])


def one_batch() -> list[tuple[RaggedBatch]]:
    """Two layouts: the ragged dimension first, with two batch dimensions; and last."""
    return [(batch(2, sizes=[[3, 0], [1, 2], [0, 3]]),), (batch(2, axis=1),)]


def function(name: str, module: str = REDUCTIONS, **options: Any) -> Callable[[Callable[[str], Any]], Any]:
    """A case's operation: a function of a module, called with options."""

    def operation(code: Callable[[str], Any]) -> Callable[..., Any]:
        found = getattr(code(module), name)
        return lambda *arguments: found(*arguments, **options)

    return operation


def mean_of_sample(sample: Tensor) -> Tensor:
    return sample.sum(0) / max(len(sample), 1)


def weighted() -> list[tuple[RaggedBatch, RaggedBatch]]:
    data = batch(2)
    return [(data, data.create_with_sample_sizes_like_self(torch.rand(data.shape[:2]) + 0.5))]


def cancelling() -> list[tuple[RaggedBatch, RaggedBatch]]:
    weights = torch.tensor([1.0, -1.0, 0.0, 7.0]).expand(4, 4)
    data = RaggedBatch(torch.rand(4, 4), sample_sizes=[3, 0, 1, 2])
    return [(data, data.create_with_sample_sizes_like_self(weights))]


def weighted_mean_of_sample(sample: Tensor, weights: Tensor) -> Tensor:
    return (sample * weights).sum() / weights.sum() if weights.any() else sample.new_zeros(())


def far_apart() -> list[tuple[RaggedBatch]]:
    data = batch(2)
    return [(data + torch.tensor([0.0, 0.0, -300.0, 300.0]).view(-1, 1, 1),)]


def data_and_indices() -> list[tuple[RaggedBatch, RaggedBatch]]:
    return [(batch(2), indices([2, 0, 1], [], [0], [1, 0])), (batch(2), indices([1], [], [], [0, 1]))]


def write() -> list[tuple[RaggedBatch, RaggedBatch, RaggedBatch]]:
    where = indices([2, 0], [], [0], [1])
    return [(where.create_with_sample_sizes_like_self(torch.randn(4, 3, 2)), where, batch(2))]


def mapping() -> list[tuple[RaggedBatch, RaggedBatch, RaggedBatch, RaggedBatch]]:
    source = indices([2, 0], [], [0], [0])
    return [(batch(2), source, indices([1, 0], [], [0], [1]), batch(2))]


def mapped_sample(source: Tensor, here: Tensor, there: Tensor, target: Tensor) -> Tensor:
    return target.index_put((there,), source[here])


def flags() -> list[tuple[RaggedBatch]]:
    given = batch()
    return [(given.create_with_sample_sizes_like_self(given.tensor > 0),)]


CASES = {
    "sum": Case(function("sum_over_targets"), one_batch),
    "sum, ragged last": Case(function("sum_over_targets"), lambda: [(batch(2, axis=1),)]),
    "average": Case(
        function("average_over_targets"),
        lambda: [(batch(2),)],
        mean_of_sample,
        relations=(relations.constant_is_kept, relations.is_differentiated),
    ),
    "average of large values": Case(
        function("average_over_targets"), lambda: [(batch(2).apply(lambda tensor: tensor.sign() * 100 + 4e4),)]
    ),
    "weighted average": Case(function("average_over_targets"), weighted),
    # The quotient has no derivative where it is infinite.
    "weights that cancel": Case(
        function("average_over_targets"),
        cancelling,
        weighted_mean_of_sample,
        without=frozenset({"gradients"}),
        relations=(relations.cancelling_is_not_nothing,),
    ),
    "max": Case(function("max_over_targets"), lambda: [(-(batch(2) ** 2) - 1,)]),
    "argmax": Case(
        function("argmax_over_targets"),
        lambda: [(batch().apply(lambda tensor: tensor > 9),)],
    ),
    "logsumexp": Case(function("logsumexp_over_targets"), far_apart),
    "softmax": Case(function("softmax_over_targets"), one_batch),
    "cumsum": Case(function("cumsum_over_targets"), one_batch),
    "sort": Case(function("sort_over_targets", ORDERING), one_batch),
    "topk": Case(function("topk_over_targets", ORDERING, k=5), one_batch),
    "any": Case(function("any_over_targets"), flags),
    "access": Case(function("batched_indexing_access", INDEXING), data_and_indices),
    "write": Case(function("batched_indexing_write", INDEXING), write),
    "mapping": Case(
        function("batched_index_mapping", INDEXING),
        mapping,
        mapped_sample,
        relations=(relations.others_are_left_alone,),
    ),
    "mask from indices": Case(
        lambda code: lambda given: code(MASKS).get_mask_from_indices(4, given), lambda: [data_and_indices()[0][1:]]
    ),
    "indices from mask": Case(
        function("get_indices_from_mask", MASKS, max_size=4),
        flags,
        lambda mask: mask.nonzero().squeeze(-1),
        without=("sizes",),  # there is room for four
        relations=(relations.every_index_is_a_flag,),
    ),
    "layer": Case(
        lambda code: lambda data, weight: code("ragged.batch.layers").linear(torch.log(data), weight.to(data.dtype)),
        lambda: [(batch(2) ** 2 + 0.5,)],
        shared=lambda: (torch.randn(3, 2),),
    ),
    "applied function": Case(
        lambda code: (
            lambda data, weight: code("ragged.batch.per_entry").apply(
                torch.log(data), lambda tensor: tensor @ weight.mT.to(tensor.dtype)
            )
        ),
        lambda: [(batch(2) ** 2 + 0.5,)],
        shared=lambda: (torch.randn(3, 2),),
    ),
    "logarithm": Case(
        lambda code: (
            lambda data: code("ragged.batch.elementwise").call_elementwise(torch.log, (data,), {}, RaggedBatch)
        ),
        lambda: [(batch(2) ** 2 + 0.5,)],
    ),
}
