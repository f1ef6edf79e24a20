"""Bugs in operations of ``ragged``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ragged import RaggedBatch
from tests.mutation.planting import Case, Mutant

REDUCTIONS, INDEXING, ROWS, MASKS = "ragged.reductions", "ragged.indexing", "ragged.rows", "ragged.masks"
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
    "average": Case(function("average_over_targets"), lambda: [(batch(2),)], mean_of_sample),
    "average of large values": Case(
        function("average_over_targets"), lambda: [(batch(2).apply(lambda tensor: tensor.sign() * 100 + 4e4),)]
    ),
    "weighted average": Case(function("average_over_targets"), weighted),
    "max": Case(function("max_over_targets"), lambda: [(-(batch(2) ** 2) - 1,)]),
    "argmax": Case(
        function("argmax_over_targets"),
        lambda: [(batch().apply(lambda tensor: tensor > 9),)],
    ),
    "logsumexp": Case(function("logsumexp_over_targets"), far_apart),
    "softmax": Case(function("softmax_over_targets"), one_batch),
    "cumsum": Case(function("cumsum_over_targets"), one_batch),
    "sort": Case(function("sort_over_targets"), one_batch),
    "topk": Case(function("topk_over_targets", k=5), one_batch),
    "any": Case(function("any_over_targets"), flags),
    "access": Case(function("batched_indexing_access", INDEXING), data_and_indices),
    "write": Case(function("batched_indexing_write", INDEXING), write),
    "mapping": Case(function("batched_index_mapping", INDEXING), mapping, mapped_sample),
    "mask from indices": Case(
        lambda code: lambda given: code(MASKS).get_mask_from_indices(4, given), lambda: [data_and_indices()[0][1:]]
    ),
    "indices from mask": Case(
        function("get_indices_from_mask", MASKS, max_size=4),
        flags,
        lambda mask: mask.nonzero().squeeze(-1),
    ),
    "logarithm": Case(
        lambda code: lambda data: code("ragged.elementwise").call_elementwise(torch.log, (data,), {}, RaggedBatch),
        lambda: [(batch(2) ** 2 + 0.5,)],
    ),
}

_MEAN = "return torch.where(count > 0, total / count.clamp(min=1), empty).to(dtype)"
_SUM = "return _filled(data, 0).sum(data.non_uniform_dim)"
_TOTAL = "total = _computable(_filled(data, 0), dtype).sum(dim)"
_WEIGHTED = "total / torch.where(weightless, 1, mass)).to("
_LOGSUMEXP = "result = torch.where(empty.unsqueeze(dim), 0, values).logsumexp(dim)"

MUTANTS = [
    Mutant("mask dropped", "sum of the padded tensor", REDUCTIONS, _SUM, "return data.tensor.sum(data.non_uniform_dim)", "sum", "filler"),
    Mutant("mask dropped", "filler sorted along", REDUCTIONS, "by_value.gather(dim, to_front)", "by_value", "sort", "filler"),
    Mutant("mask dropped", "filler of a mask counts", MASKS, "return mask.tensor & mask.mask", "return mask.tensor", "indices from mask", "filler"),
    Mutant("mask dropped", "weights of filler in the divisor", REDUCTIONS, "_computable(_filled(aligned, 0), _float", "_computable(aligned.tensor, _float", "weighted average", "filler"),
    Mutant("mask dropped", "any is true of padding", REDUCTIONS, "return _filled(data, 0).any", "return _filled(data, 1).any", "any", "padding"),
    Mutant("wrong dim", "sum over the first dimension of data", REDUCTIONS, _SUM, "return _filled(data, 0).sum(data.num_batch_dims)", "sum, ragged last", "padding"),
    Mutant("0 * inf", "mask multiplied", REDUCTIONS, "return data.tensor.masked_fill(~data.aligned_mask, value)", "return data.tensor * data.aligned_mask", "sum", "filler"),
    Mutant("NaN gradient", "filler not protected from the logarithm", "ragged.elementwise", "return protected(operand) if protect_all", "return operand.tensor if protect_all", "logarithm", "filler"),
    Mutant("off by one", "one entry too many", REDUCTIONS, "data.sample_sizes.clamp(max=k)", "(data.sample_sizes + 1).clamp(max=min(k, data.max_sample_size))", "topk", "padding"),
    Mutant("off by one", "slot of filler inside the mask", MASKS, "place = torch.where(indices.mask, indices.tensor, mask_num_targets)", "place = torch.where(indices.mask, indices.tensor, mask_num_targets - 1)", "mask from indices", "padding"),
    Mutant("off by one", "rank counted from one", MASKS, "true.cumsum(-1) - 1", "true.cumsum(-1)", "indices from mask", "reference"),
    Mutant("sum instead of mean", "not divided", REDUCTIONS, _MEAN, _MEAN.replace(" / count.clamp(min=1)", ""), "average", "reference"),
    Mutant("size with padding", "divided by the padded size", REDUCTIONS, "count = _along_kept_dims(data.sample_sizes, total", "count = _along_kept_dims(torch.full_like(data.sample_sizes, data.max_sample_size), total", "average", "padding"),
    Mutant("filler read", "the entry behind", INDEXING, "take_rows(data, safe, ~", "take_rows(data, (safe + 1).clamp(max=data.shape[dim] - 1), ~", "access", "filler"),
    Mutant("filler read", "softmax of zeros in the filler", REDUCTIONS, '_computable(_filled(data, float("-inf")), data.dtype), data.non', "_computable(_filled(data, 0), data.dtype), data.non", "softmax", "padding"),
    Mutant("filler read", "filler is 0, and so the maximum", REDUCTIONS, 'return float("-inf")\n    return False', "return 0.0\n    return False", "max", "padding"),
    Mutant("batch-global", "count of the whole batch", REDUCTIONS, "count = _along_kept_dims(data.sample_sizes, total", "count = _along_kept_dims(data.sample_sizes.sum().expand_as(data.sample_sizes), total", "average", "independence"),
    Mutant("batch-global", "maximum of the whole batch", REDUCTIONS, _LOGSUMEXP, "top = data.tensor.where(data.aligned_mask, 0).max().detach()\n    result = (torch.where(empty.unsqueeze(dim), 0, values) - top).exp().sum(dim).log() + top", "logsumexp", "independence"),
    Mutant("wrong gradient", "divisor detached", REDUCTIONS, _WEIGHTED, "total / torch.where(weightless, 1, mass.detach())).to(", "weighted average", "gradients"),
    Mutant("wrong gradient", "result detached", REDUCTIONS, _TOTAL, _TOTAL + ".detach()", "average", "reference"),
    Mutant("filler in order", "sums from the padded end", REDUCTIONS, "summed = _filled(data, 0).cumsum(data.non_uniform_dim)", "summed = data.tensor.flip(data.non_uniform_dim).cumsum(data.non_uniform_dim).flip(data.non_uniform_dim)", "cumsum", "filler"),
    Mutant("tie broken by padding", "last of several", REDUCTIONS, "values, indices = extreme(_filled(_non_empty(data), identity(data.dtype)), data.non_uniform_dim)", "values, indices = extreme(_filled(_non_empty(data), identity(data.dtype)).flip(data.non_uniform_dim), data.non_uniform_dim)\n    indices = max(data.max_sample_size, 1) - 1 - indices", "argmax", "padding"),
    Mutant("host synchronisation", "item in the middle", REDUCTIONS, _SUM, "return _filled(data, 0).sum(data.non_uniform_dim) * (data.sample_sizes.max().item() >= 0)", "sum", "synchronisation"),
    Mutant("host synchronisation", "boolean mask as index", REDUCTIONS, _TOTAL, "total = torch.zeros_like(data.tensor).index_put((data.mask,), data.tensor[data.mask]).sum(dim)", "average", "synchronisation"),
    Mutant("half precision", "sums in the dtype of the data", REDUCTIONS, "return tensor.to(torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype)", "return tensor.to(dtype)", "average of large values", "precision"),
    Mutant("stale cache", "mask of an earlier call", REDUCTIONS, "return data.tensor.masked_fill(~data.aligned_mask, value)", "return data.tensor.masked_fill(~vars(_filled).setdefault(data.shape, data.aligned_mask), value)", "sum", "order"),
    Mutant("writes in place", "filler of the argument", REDUCTIONS, "return data.tensor.masked_fill(~", "return data.tensor.masked_fill_(~", "sum", "purity"),
    Mutant("argument order", "source and target swapped", INDEXING, "mapped = batched_indexing_access(source_data, source_indices.with_max_sample_size(size))\n    return batched_indexing_write(\n        mapped, target_indices", "mapped = batched_indexing_access(source_data, target_indices.with_max_sample_size(size))\n    return batched_indexing_write(\n        mapped, source_indices", "mapping", "reference"),
    Mutant("wrong broadcast", "rows of sample 0 for all", ROWS, "torch.arange(0, num_samples * size, size, device=index.device)", "torch.zeros(num_samples, dtype=torch.int64, device=index.device)", "write", "order", (INDEXING,)),
    Mutant("index not masked", "filler of an index is used", INDEXING, "safe = index.masked_fill(~mask, 0)", "safe = index.clamp(min=0)", "access", "filler"),
    Mutant("index not masked", "filler is written to row 0", ROWS, "flat = torch.where(valid.reshape(-1), _row_numbers(index, moved.shape[nb]), num_rows)", "flat = _row_numbers(index.masked_fill(~valid, 0), moved.shape[nb])", "write", "filler", (INDEXING,)),
    Mutant("wrong when compiled", "a branch for the compiler", REDUCTIONS, _SUM, "return _filled(data, 0 if not torch.compiler.is_compiling() else 1).sum(data.non_uniform_dim)", "sum, ragged last", "compilation"),
    Mutant("recompiles", "a loop over the slots", REDUCTIONS, _SUM, "return sum((_filled(data, 0).select(data.non_uniform_dim, place) for place in range(data.max_sample_size)), _filled(data, 0).sum(data.non_uniform_dim) * 0)", "sum, ragged last", "compilation"),
]
