"""Bugs that break a promise beside values: memory, state, random numbers, empty batches, large and infinite numbers."""

from __future__ import annotations

import torch

from ragged import RaggedBatch
from tests.mutation.operations.ragged_cases import REDUCTIONS, function, one_batch
from tests.mutation.planting import Case, Mutant

_SUM = "return _filled(data, 0).sum(data.non_uniform_dim)"
_MEAN = "mean = total / count.clamp(min=1)  # 0 for an empty sample"


def whole_numbers() -> list[tuple[RaggedBatch]]:
    return [(RaggedBatch(torch.randint(1, 9, (4, 4)), sample_sizes=[3, 0, 1, 2]),)]


CASES = {
    "sum of integers": Case(function("sum_over_targets"), whole_numbers),
    "large batch": Case(function("sum_over_targets"), one_batch),
}

# What is wrong, what stands in place of the sum, the property that finds it.
_OF_SUM = [
    ("seeds torch", f"torch.manual_seed(0)\n    {_SUM}", "randomness"),
    ("draws from torch", f"torch.rand(1)\n    {_SUM}", "randomness"),
    ("shuffles and undoes it", f"torch.randperm(data.max_sample_size)\n    {_SUM}", "randomness"),
    ("seeds NumPy", f'__import__("numpy").random.seed(0)\n    {_SUM}', "randomness"),
    ("draws from Python", f'__import__("random").random()\n    {_SUM}', "randomness"),
    ("changes the default dtype", f"torch.set_default_dtype(torch.float64)\n    {_SUM}", "purity"),
    (
        "stops recording gradients",
        "total = _filled(data, 0).sum(data.non_uniform_dim)\n    torch.set_grad_enabled(False)\n    return total",
        "purity",
    ),
    ("sets the filler of its argument", f"data.set_padded_to(0)\n    {_SUM}", "purity"),
    ("clamps the sizes of its argument", f"data.sample_sizes.clamp_(min=1)\n    {_SUM}", "purity"),
    ("adds to its argument", f"data.tensor.add_(1)\n    {_SUM}", "purity"),
    ("fills the mask of its argument", f"data.mask.fill_(True)\n    {_SUM}", "purity"),
    (
        "strides of contiguous data",
        "made = torch.as_strided(data.tensor, data.shape, torch.empty(data.shape).stride())\n"
        "    return made.where(data.aligned_mask, 0).sum(data.non_uniform_dim)",
        "padding",
    ),
    (
        "stacks samples",
        "return torch.stack([each.sum(data.non_uniform_dim - 1) for each in _filled(data, 0)])",
        "empty",
    ),
    (
        "needs its dimensions in order",
        "torch.empty(0) if data.tensor.stride(-1) <= data.tensor.stride(0) else data.tensor.view(-1).where(data.mask, 0)\n"
        f"    {_SUM}",
        "layout",
    ),
    ("maximum of all sizes", f"{_SUM} * (data.sample_sizes.max() >= 0)", "empty"),
    ("reshapes with -1", "return _filled(data, 0).reshape(data.shape[0], -1, *data.shape[1:])[:, 0].sum(data.non_uniform_dim)", "independence"),
    ("adds nothing of all samples", f"{_SUM} + 0 * _filled(data, 0).sum()", "nonfinite"),
    ("subtracts the batch from itself", f"{_SUM} + (_filled(data, 0) - _filled(data, 0)).sum()", "nonfinite"),
    (
        "ten entries alone",
        "return _filled(data, 0).narrow(data.non_uniform_dim, 0, min(10, data.max_sample_size)).sum(data.non_uniform_dim)",
        "sizes",
    ),
    (
        "the last 12 slots forgotten in wide batches",
        "return _filled(data, 0).narrow(data.non_uniform_dim, 0, data.max_sample_size - 12 * (data.max_sample_size > 20)).sum(data.non_uniform_dim)",
        "sizes",
    ),
    ("gradient twice", f"{_SUM} + (_filled(data, 0) - _filled(data, 0).detach()).sum(data.non_uniform_dim)", "gradients"),
    ("float64 cut down", "return _filled(data, 0).float().sum(data.non_uniform_dim)", "gradients"),
    ("float16 multiplied", "return (_filled(data, 0) * 1000).sum(data.non_uniform_dim) / 1000", "precision"),
]  # fmt: skip
_OF_INTEGERS = [
    ("detour over float32", "return _filled(data, 0).float().sum(data.non_uniform_dim).long()", "integers"),
    ("detour over float64", "return _filled(data, 0).double().sum(data.non_uniform_dim).long()", "integers"),
    ("detour over 32 bits", "return _filled(data, 0).int().sum(data.non_uniform_dim)", "integers"),
]

MUTANTS = [
    *(Mutant("broken promise", what, REDUCTIONS, _SUM, new, "large batch", by) for what, new, by in _OF_SUM),
    *(Mutant("lost digits", what, REDUCTIONS, _SUM, new, "sum of integers", by) for what, new, by in _OF_INTEGERS),
    Mutant(
        "filler read",
        "zeros taken for filler",
        REDUCTIONS,
        _MEAN,
        "mean = total / (_filled(data, 0) != 0).sum(dim).clamp(min=1)",
        "average",
        "zeros",
    ),
]
