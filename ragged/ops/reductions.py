"""Reductions over targets: along the ragged dimension, over the valid entries of each sample alone.

What a sample without entries gives is stated for each function. A NaN in a valid entry is never hidden, a NaN in the
filler never seen, and filler gets no gradient. Ties go to the lowest index. Half precision is computed in float32.
Without another word, a result has the dtype of the data, and its shape without the ragged dimension. All functions
raise ``TypeError`` for data that is not a RaggedBatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ragged.batch.layout import check_same_layout
from ragged.batch.ragged_batch import RaggedBatch, check_is_batch
from ragged.ops.ordering import require_order
from ragged.values.filler import Number, check_fits_dtype, highest_of, lowest_of
from ragged.values.masked import filled, has_product, product
from ragged.values.readable import has_own_derivatives, values_are_readable


def sum_over_targets(data: RaggedBatch) -> Tensor:
    """Sum of the valid entries; 0 for an empty sample. Integers and booleans give int64, as in ``torch.sum``.

    Returns:
        ``(*batch, …)``, the shape of ``data`` without the ragged dimension.

    >>> sum_over_targets(RaggedBatch(torch.tensor([[1.0, 2.0], [3.0, float("nan")]]), sample_sizes=[2, 1]))
    tensor([3., 3.])
    """
    return _filled(data, 0).sum(data.non_uniform_dim)


def average_over_targets(data: RaggedBatch, weights: RaggedBatch | None = None, *, empty: float = 0.0) -> Tensor:
    """Mean of the valid entries, or their weighted mean.

    Args:
        data: Shape ``(*batch, …, N, …)``. Integers and booleans give the default float dtype.
        weights: Weights with the sizes of ``data``: of its shape, or ``(*batch, N)``.
        empty: The result for a sample without entries, or with weights that are all zero.

    Returns:
        ``(*batch, …)``, the shape of ``data`` without the ragged dimension.

    Raises:
        TypeError: ``data`` or ``weights`` is not a RaggedBatch.
        ValueError: Sizes or shapes of data and weights differ.

    >>> average_over_targets(RaggedBatch(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), sample_sizes=[2, 1]))
    tensor([1.5000, 3.0000])
    """
    check_is_batch(data, "data")
    dim, dtype = data.non_uniform_dim, _float_dtype(data.dtype)
    if empty != 0:
        check_fits_dtype(empty, dtype)
    if weights is None:
        total = _computable(_filled(data, 0), dtype).sum(dim)
        count = _along_kept_dims(data.sample_sizes, total, data.num_batch_dims)
        mean = total / count.clamp(min=1)  # 0 for an empty sample
        return (mean if empty == 0 else torch.where(count > 0, mean, empty)).to(dtype)
    factors = _computable(_filled(_aligned_weights(data, weights), 0), _float_dtype(weights.dtype))
    values = _computable(data.tensor, dtype)
    if has_product(values, factors):
        total = product(values, factors, data.aligned_mask).sum(dim)
    else:
        total = (filled(values, data.aligned_mask, 0) * factors).sum(dim)
    mass, dtype = factors.sum(dim), torch.promote_types(dtype, weights.dtype)
    if values_are_readable(mass) and mass.all():
        return (total / mass).to(dtype)
    weightless = (factors == 0).all(dim)  # a mass of 0 can be that of weights that cancel
    return torch.where(weightless, empty, total / torch.where(weightless, 1, mass)).to(dtype)


def max_over_targets(data: RaggedBatch, *, empty: Number | None = None) -> Tensor:
    """Largest valid entry ``(*batch, …)``; on ties, the gradient goes to the first.

    Args:
        data: Real numbers or booleans.
        empty: The result for an empty sample; by default the lowest value of the dtype (``-inf`` for floats).

    Raises:
        TypeError: ``data`` is not a RaggedBatch, or is complex.

    >>> max_over_targets(RaggedBatch(torch.tensor([[1, 7], [3, 9]]), sample_sizes=[2, 1]))
    tensor([7, 3])
    """
    return _extreme(data, torch.max, lowest_of, empty)


def min_over_targets(data: RaggedBatch, *, empty: Number | None = None) -> Tensor:
    """Smallest valid entry ``(*batch, …)``; on ties, the gradient goes to the first.

    Args:
        data: Real numbers or booleans.
        empty: The result for an empty sample; by default the highest value of the dtype (``inf`` for floats).

    Raises:
        TypeError: ``data`` is not a RaggedBatch, or is complex.

    >>> min_over_targets(RaggedBatch(torch.tensor([[1, 7], [3, 0]]), sample_sizes=[2, 1]))
    tensor([1, 3])
    """
    return _extreme(data, torch.min, highest_of, empty)


def argmax_over_targets(data: RaggedBatch) -> Tensor:
    """Index of the largest valid entry, the first of several (of the first NaN, if any); -1 for an empty sample.

    Returns ``(*batch, …)``, int64. Raises ``TypeError`` for complex data.

    >>> argmax_over_targets(RaggedBatch(torch.tensor([[1, 7, 7], [3, 9, 9]]), sample_sizes=[3, 0]))
    tensor([ 1, -1])
    """
    return _arg_extreme(data, torch.max, lowest_of)


def argmin_over_targets(data: RaggedBatch) -> Tensor:
    """Index of the smallest valid entry, the first of several (of the first NaN, if any); -1 for an empty sample.

    Returns ``(*batch, …)``, int64. Raises ``TypeError`` for complex data.

    >>> argmin_over_targets(RaggedBatch(torch.tensor([[3, 1], [5, 0]]), sample_sizes=[2, 1]))
    tensor([1, 0])
    """
    return _arg_extreme(data, torch.min, highest_of)


def any_over_targets(data: RaggedBatch) -> Tensor:
    """Whether any valid entry is true (not zero): ``(*batch, …)``, bool; false for an empty sample.

    >>> any_over_targets(RaggedBatch(torch.tensor([[False, True], [False, True]]), sample_sizes=[2, 1]))
    tensor([ True, False])
    """
    return _filled(data, 0).any(data.non_uniform_dim)


def all_over_targets(data: RaggedBatch) -> Tensor:
    """Whether all valid entries are true (not zero): ``(*batch, …)``, bool; true for an empty sample.

    >>> all_over_targets(RaggedBatch(torch.tensor([[True, False], [True, False]]), sample_sizes=[2, 1]))
    tensor([False,  True])
    """
    return _filled(data, 1).all(data.non_uniform_dim)


def count_over_targets(data: RaggedBatch) -> Tensor:
    """Number of valid entries that are true (not zero): ``(*batch, …)``, int64; 0 for an empty sample.

    >>> count_over_targets(RaggedBatch(torch.tensor([[3, 0], [1, 1]]), sample_sizes=[2, 1]))
    tensor([1, 1])
    """
    return _filled(data, 0).ne(0).sum(data.non_uniform_dim)


def logsumexp_over_targets(data: RaggedBatch) -> Tensor:
    """Logarithm of the summed exponentials of the valid entries; ``-inf`` for an empty sample.

    Returns ``(*batch, …)``. Raises ``TypeError`` unless data is floating.

    >>> logsumexp_over_targets(RaggedBatch(torch.tensor([[0.0, 0.0], [5.0, 9.0]]), sample_sizes=[2, 1]))
    tensor([0.6931, 5.0000])
    """
    _require_float(data, "logsumexp_over_targets")
    values, dim = _computable(_filled(_non_empty(data), float("-inf")), data.dtype), data.non_uniform_dim
    empty = _along_kept_dims(data.sample_sizes, values.select(dim, 0), data.num_batch_dims) == 0
    # An empty sample is computed on zeros: the gradient of a logarithm of nothing would be NaN.
    result = torch.where(empty.unsqueeze(dim), 0, values).logsumexp(dim)
    return torch.where(empty, float("-inf"), result).to(data.dtype)


def softmax_over_targets(data: RaggedBatch) -> RaggedBatch:
    """Softmax over the valid entries of each sample; the filler of the result is 0.

    Returns a RaggedBatch of the shape, sizes and dtype of ``data``. Raises ``TypeError`` unless data is floating.

    >>> softmax_over_targets(RaggedBatch(torch.zeros(2, 3), sample_sizes=[2, 1])).tensor
    tensor([[0.5000, 0.5000, 0.0000],
            [1.0000, 0.0000, 0.0000]])
    """
    return _normalized(data, Tensor.softmax, "softmax_over_targets")


def log_softmax_over_targets(data: RaggedBatch) -> RaggedBatch:
    """Logarithm of the softmax over the valid entries of each sample; the filler of the result is 0.

    Returns a RaggedBatch of the shape, sizes and dtype of ``data``. Raises ``TypeError`` unless data is floating.

    >>> log_softmax_over_targets(RaggedBatch(torch.zeros(2, 2), sample_sizes=[2, 1])).tensor
    tensor([[-0.6931, -0.6931],
            [ 0.0000,  0.0000]])
    """
    return _normalized(data, Tensor.log_softmax, "log_softmax_over_targets")


def cumsum_over_targets(data: RaggedBatch) -> RaggedBatch:
    """Sum of each valid entry and the valid ones before it; the filler of the result is 0.

    Returns a RaggedBatch of the shape and sizes of ``data``; integers and booleans give int64.

    >>> cumsum_over_targets(RaggedBatch(torch.ones(2, 3), sample_sizes=[3, 2])).tensor
    tensor([[1., 2., 3.],
            [1., 2., 0.]])
    """
    summed = _filled(data, 0).cumsum(data.non_uniform_dim)
    return data._with(summed.masked_fill(~data.aligned_mask, 0))


def _filled(data: RaggedBatch, value: Number) -> Tensor:
    check_is_batch(data, "data")
    return filled(data.tensor, data.aligned_mask, value)


def _non_empty(data: RaggedBatch) -> RaggedBatch:
    """The batch with room for at least one entry: torch refuses to take the maximum of nothing."""
    return data.with_max_sample_size(1) if data.max_sample_size == 0 else data


def _along_kept_dims(per_sample: Tensor, reduced: Tensor, num_batch_dims: int) -> Tensor:
    """A value for each sample, shaped to broadcast against a reduced tensor."""
    return per_sample.reshape(*per_sample.shape, *(1,) * (reduced.dim() - num_batch_dims))


def _float_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point or dtype.is_complex else torch.get_default_dtype()


def _computable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype)


def _aligned_weights(data: RaggedBatch, weights: RaggedBatch) -> RaggedBatch:
    """Weights ``(*batch, N)`` with the data dimensions of ``data`` inserted, or weights of its rank as they are."""
    check_is_batch(weights, "weights")
    if weights.batch_shape == data.batch_shape and weights.dim() == data.num_batch_dims + 1 < data.dim():
        after = data.dim() - 1 - data.non_uniform_dim
        tensor = weights.tensor.reshape(
            *data.batch_shape, *(1,) * data.ragged_axis, weights.max_sample_size, *(1,) * after
        )
        weights = RaggedBatch._unchecked(tensor, weights.mask, weights.sample_sizes, data.ragged_axis)
    check_same_layout(data, weights, what="data and weights")
    return weights


Extreme = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Identity = Callable[[torch.dtype], Number]


# From this many numbers per entry on, finding the place of an extreme takes torch much longer than its value.
WIDE_ENTRY = 16


def _extreme(data: RaggedBatch, extreme: Extreme, identity: Identity, empty: Number | None) -> Tensor:
    require_order(data)
    bound, dim = identity(data.dtype), data.non_uniform_dim
    values = _filled(_non_empty(data), bound)
    by_value = not (values.requires_grad and torch.is_grad_enabled()) and has_own_derivatives(values)
    if by_value and math.prod(data.shape[dim + 1 :]) >= WIDE_ENTRY:
        result = (torch.amax if extreme is torch.max else torch.amin)(values, dim)
    else:
        result = extreme(values, dim)[0]
    if empty is None:  # which is what filler holds
        return result
    check_fits_dtype(empty, data.dtype)
    return result.masked_fill(_is_empty(data, result), empty)


def _arg_extreme(data: RaggedBatch, extreme: Extreme, identity: Identity) -> Tensor:
    require_order(data)
    # Filler holds the identity, and the first of equal entries is taken: a valid one wins even against equal filler.
    _, indices = extreme(_filled(_non_empty(data), identity(data.dtype)), data.non_uniform_dim)
    return indices.masked_fill(_is_empty(data, indices), -1)


def _is_empty(data: RaggedBatch, reduced: Tensor) -> Tensor:
    return _along_kept_dims(data.sample_sizes, reduced, data.num_batch_dims) == 0


def _require_float(data: RaggedBatch, what: str) -> None:
    check_is_batch(data, "data")
    if not data.dtype.is_floating_point:
        raise TypeError(f"{what} needs floating point data, got {data.dtype}")


def _normalized(data: RaggedBatch, function: Callable[..., Tensor], what: str) -> RaggedBatch:
    _require_float(data, what)
    result = function(_computable(_filled(data, float("-inf")), data.dtype), data.non_uniform_dim)
    return data._with(result.masked_fill(~data.aligned_mask, 0).to(data.dtype))
