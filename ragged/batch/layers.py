"""Layers on a RaggedBatch: what torch computes of each entry's data dimensions with weights that all entries share.

Filler is replaced before a layer that records a gradient, as for an elementwise function: the zero gradient that
arrives for filler would otherwise meet its NaN on the way to the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ragged.batch.core import AnyBatch, BatchCore
from ragged.batch.layout import check_same_layout
from ragged.batch.per_entry import with_valid_filler
from ragged.batch.torch_functions import SAFE_VALUE, protected
from ragged.values.checks import INTEGER_DTYPES, check_dim, check_positive, check_values, sample_name

Weight = Tensor | None


def linear(input: AnyBatch, weight: Tensor, bias: Weight = None) -> AnyBatch:
    """``torch.nn.functional.linear``, over the last dimension, which must be a data dimension."""
    _check_is_input(input, "linear", weight, bias)
    last = input.dim() - 1
    if last == input.non_uniform_dim or last < input.num_batch_dims:
        raise TypeError(
            f"linear sums over the last dimension, which is the ragged one in shape {tuple(input.shape)}; give entries "
            "a data dimension (unsqueeze_data_dim(-1)), or move the ragged one "
            "(get_non_uniform_dimension_transposed_to)"
        )
    if input.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"linear: input must have {weight.shape[-1]} features in the last dimension, as weight "
            f"{tuple(weight.shape)}, got shape {tuple(input.shape)}"
        )
    return input._with(functional.linear(_filled(input, 0, weight, bias), weight, bias))


def layer_norm(
    input: AnyBatch,
    normalized_shape: Sequence[int],
    weight: Weight = None,
    bias: Weight = None,
    eps: float = 1e-5,
) -> AnyBatch:
    """``torch.nn.functional.layer_norm``, over data dimensions behind the ragged one."""
    _check_is_input(input, "layer_norm", weight, bias)
    _check_is_behind(input, normalized_shape, "layer_norm")
    # A slot of equal numbers has no variance: without eps, it has no finite value either.
    tensor = _filled(input, SAFE_VALUE, weight, bias) if eps > 0 else with_valid_filler(input)
    return input._with(functional.layer_norm(tensor, normalized_shape, weight, bias, eps))


def rms_norm(
    input: AnyBatch, normalized_shape: Sequence[int], weight: Weight = None, eps: float | None = None
) -> AnyBatch:
    """``torch.nn.functional.rms_norm``, over data dimensions behind the ragged one."""
    _check_is_input(input, "rms_norm", weight)
    _check_is_behind(input, normalized_shape, "rms_norm")
    return input._with(functional.rms_norm(_filled(input, SAFE_VALUE, weight), normalized_shape, weight, eps))


def embedding(
    input: AnyBatch,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> AnyBatch:
    """``torch.nn.functional.embedding`` of valid indices; no row gets a gradient from filler."""
    _check_is_input(input, "embedding", weight)
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise TypeError(
            "embedding of a RaggedBatch does not support max_norm, scale_grad_by_freq or sparse, because filler would "
            "count; embed the valid entries only: values, sizes = ragged.pack(batch), then "
            "ragged.unpack(embedding(values), sizes)"
        )
    _check_indices(input, weight.shape[0], "embedding", (torch.int64, torch.int32))
    safe = torch.where(input.aligned_mask, input.tensor, 0)
    return input._with(functional.embedding(safe, weight, padding_idx))


def one_hot(tensor: AnyBatch, num_classes: int | None = None) -> AnyBatch:
    """``torch.nn.functional.one_hot``, for a number of classes that is given; int64."""
    if num_classes is None or num_classes == -1:
        raise TypeError("one_hot of a RaggedBatch needs num_classes, because the width must not depend on the values")
    check_positive(num_classes, "num_classes")
    _check_indices(tensor, num_classes, "one_hot", INTEGER_DTYPES)
    classes = torch.arange(num_classes, device=tensor.device, dtype=tensor.dtype)
    return tensor._with((tensor.tensor.unsqueeze(-1) == classes).to(torch.int64))


def cat(tensors: Sequence[Any], dim: int = 0, *, axis: int | None = None) -> Any:
    """``torch.cat`` along a data dimension, of batches with the same samples and of tensors in their padded shape."""
    first = _checked_parts(tensors, "cat")
    dim = check_dim(dim if axis is None else axis, first.dim())
    if dim < first.num_batch_dims:
        raise TypeError(
            f"torch.cat joins data dimensions of a RaggedBatch, and {dim} is a batch dimension; use ragged.cat_batches"
        )
    if dim == first.non_uniform_dim:
        raise TypeError(
            f"torch.cat along the ragged dimension {dim} would mix filler into the result of a RaggedBatch; use "
            "ragged.cat_targets"
        )
    return first._with(torch.cat(_padded(tensors, first, "cat", dim), dim))


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """``torch.stack`` along a new data dimension, of batches with the same samples and of tensors of their shape."""
    first = _checked_parts(tensors, "stack")
    dim = check_dim(dim, first.dim() + 1)
    if dim < first.num_batch_dims:
        raise TypeError(
            f"torch.stack adds a data dimension to a RaggedBatch, but dim {dim} is a batch dimension; use "
            "ragged.stack_batches"
        )
    result = torch.stack(_padded(tensors, first, "stack", None), dim)
    return first._unchecked(result, first.mask, first.sample_sizes, first.ragged_axis + (dim <= first.non_uniform_dim))


LAYERS: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.linear: linear,
    functional.layer_norm: layer_norm,
    functional.rms_norm: rms_norm,
    torch.layer_norm: layer_norm,
    torch.rms_norm: rms_norm,
    functional.embedding: embedding,
    functional.one_hot: one_hot,
    torch.cat: cat,
    torch.concat: cat,
    torch.concatenate: cat,
    torch.stack: stack,
}
"""Replacements for torch functions that are called with a RaggedBatch."""


def _check_is_input(value: Any, name: str, *weights: Any) -> None:
    wrong = next((each for each in weights if isinstance(each, BatchCore)), None)
    if wrong is not None or not isinstance(value, BatchCore):
        raise TypeError(
            f"{name} takes a RaggedBatch as its input, and tensors that all entries share as its weights; got a "
            "RaggedBatch among the weights"
        )


def _filled(batch: BatchCore, value: int, *weights: Weight) -> Tensor:
    """The data, with harmless filler if a gradient flows to the batch or to a weight."""
    differentiated = batch.requires_grad or any(each is not None and each.requires_grad for each in weights)
    if not (differentiated and torch.is_grad_enabled()):
        return batch.tensor
    return protected(batch, value)


def _check_is_behind(batch: BatchCore, normalized_shape: Sequence[int], name: str) -> None:
    """Raise unless the last dimensions that are normalised over come after the ragged one."""
    if batch.dim() - len(normalized_shape) > batch.non_uniform_dim:
        return
    behind = tuple(batch.shape[batch.non_uniform_dim + 1 :])
    instead = (
        f"use normalized_shape={behind}, the dimensions after it" if behind else "entries have no dimension after it"
    )
    raise TypeError(
        f"{name} over {tuple(normalized_shape)} would normalise over the ragged dimension {batch.non_uniform_dim} of "
        f"shape {tuple(batch.shape)}, filler included; {instead}. Over the entries of a sample, subtract "
        "ragged.average_over_targets and divide"
    )


def _check_indices(batch: BatchCore, limit: int, name: str, dtypes: Sequence[torch.dtype]) -> None:
    if batch.dtype not in dtypes:
        raise TypeError(f"{name} needs integer indices, got {batch.dtype}; use .long()")
    index, nb = batch.tensor, batch.num_batch_dims

    def message(at: tuple[int, ...]) -> str:
        place = at[nb] if len(at) == nb + 1 else at[nb:]
        sample = sample_name(at[:nb])
        return f"{name}: index {int(index[at])} at position {place} of {sample} is out of range for size {limit}"

    ok = ((index >= 0) & (index < limit)) | ~batch.aligned_mask
    check_values(ok, message, IndexError, summary=f"{name}: an index is out of range")


def _checked_parts(tensors: Sequence[Any], name: str) -> Any:
    """The first batch, whose layout all others have."""
    batches = [each for each in tensors if isinstance(each, BatchCore)]
    for other in batches[1:]:
        check_same_layout(batches[0], other, what=f"torch.{name}")
    return batches[0]


def _padded(tensors: Sequence[Any], first: BatchCore, name: str, dim: int | None) -> list[Tensor]:
    """The padded tensors of all parts, which agree in all dimensions but ``dim``."""
    parts = [each.tensor if isinstance(each, BatchCore) else each for each in tensors]
    for part in parts:
        fits = part.dim() == first.dim() and all(
            part.shape[each] == first.shape[each] for each in range(first.dim()) if each != dim
        )
        if not fits:
            but = "" if dim is None else f" except in dimension {dim}"
            raise ValueError(
                f"torch.{name}: parts must have shape {tuple(first.shape)}, as the first RaggedBatch{but}, got "
                f"{tuple(part.shape)}"
            )
    return parts
