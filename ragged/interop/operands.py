"""Functions of tensors that take ragged batches as well.

A decorator says for each argument how many of its last dimensions belong to one entry. With tensors alone the function
is called as it is. With ragged batches their filler is replaced by 0 once, before the function, so that no gradient of
it becomes NaN; the result has the sizes of the batches.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from torch import Tensor
from torch.utils import _pytree as pytree

from ragged.batch.layout import check_same_sizes
from ragged.batch.ragged_batch import RaggedBatch
from ragged.values.masked import filled
from ragged.values.sizes import check_fits_batch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result", covariant=True)
Method = TypeVar("Method", bound=Callable[..., Any])
Ranks = Mapping[str, int | None]
_Argument = RaggedBatch | Tensor | Callable[..., Any] | tuple[float, float] | str | None


class TakesBatches(Protocol[Parameters, Result]):
    """A function of tensors, or of ragged batches and tensors."""

    __name__: str

    @overload
    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result: ...
    @overload
    def __call__(self, *args: _Argument, **kwargs: Any) -> RaggedBatch: ...


def takes_batches(
    **ranks: int | None,
) -> Callable[[Callable[Parameters, Result]], TakesBatches[Parameters, Result]]:
    """Let a function that computes entries alone take ragged batches of equal sizes; their result has these sizes.

    Args:
        ranks: For each argument that may be a batch, how many of its last dimensions belong to an entry: 1 for boxes
            ``(…, 4)``, 0 for labels ``(…)``. None where that depends, and the function checks the shape itself.

    >>> @takes_batches(boxes=1, scale=0)
    ... def area(boxes, scale):
    ...     return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) * scale
    >>> boxes = RaggedBatch(torch.tensor([[[0.0, 0.0, 2.0, 3.0]], [[torch.nan] * 4]]), sample_sizes=[1, 0])
    >>> area(boxes, torch.tensor(2.0)).split()
    [tensor([12.]), tensor([])]
    """
    return _decorator(_on_entries, ranks, "the result then has their sizes")


def method_takes_batches(**ranks: int | None) -> Callable[[Method], Method]:
    """``takes_batches`` for a method."""
    return _decorator(_on_entries, ranks, "the result then has their sizes")


def takes_batches_of_pairs(
    rows: Mapping[str, int | None], columns: Mapping[str, int]
) -> Callable[[Callable[Parameters, Result]], TakesBatches[Parameters, Result]]:
    """Let a function of every pair of a row and a column, ``(*batch, G, P)``, take ragged rows and columns.

    The result is ragged along the rows; along the columns if only these are ragged. If both are, the columns of filler
    are 0, and sizes of rows and columns may differ.

    Args:
        rows: Arguments ``(*batch, G, …)``: how many of their last dimensions belong to a row; None as above.
        columns: Arguments ``(*batch, P, …)``, the same of a column.

    >>> @takes_batches_of_pairs(rows={"own": 0}, columns={"others": 0})
    ... def distance(own, others):
    ...     return (own.unsqueeze(-1) - others.unsqueeze(-2)).abs()
    >>> own = RaggedBatch(torch.tensor([[1.0, 5.0], [2.0, torch.nan]]), sample_sizes=[2, 1])
    >>> distance(own, torch.zeros(2, 3)).split()
    [tensor([[1., 1., 1.],
            [5., 5., 5.]]), tensor([[2., 2., 2.]])]
    """
    lines, others = (" and ".join(f"``{name}``" for name in group) for group in (rows, columns))
    result = (
        f"the result is then ragged along {lines} if these are ragged, otherwise along {others}; "
        "if both are, its filler is 0"
    )
    return _decorator(functools.partial(_on_pairs, rows), {**rows, **columns}, result)


def _decorator(on_batches: Callable[..., Any], ranks: Ranks, result: str) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Any:
        names = tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(each, RaggedBatch) for each in (*args, *kwargs.values())):
                return function(*args, **kwargs)
            if len(args) > len(names) or kwargs.keys() & set(names[: len(args)]):
                return function(*args, **kwargs)  # which is an error
            return on_batches(function, ranks, dict(zip(names, args, strict=False)) | kwargs)

        call.takes_batches = ranks  # type: ignore[attr-defined]
        # The first line, what was added, and all else.
        first, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n")
        names_taken = ", ".join(f"``{name}``" for name in ranks)
        call.__doc__ = f"{first}\n\nEach of {names_taken} can be a RaggedBatch: {result}.\n{rest}"
        return call

    return decorate


def _on_entries(function: Callable[..., Any], ranks: Ranks, given: dict[str, Any]) -> Any:
    who, batches = function.__qualname__, _batches(function.__qualname__, ranks, given)
    (name, first), *others = batches.items()
    _check_ragged_dim(who, name, first, ranks[name])
    for other, batch in others:
        _check_ragged_dim(who, other, batch, ranks[other])
        _check_same_entries(who, (name, first, ranks[name]), (other, batch, ranks[other]))
    shape = first.shape[: first.dim() - (ranks[name] or 0)]
    for own, value in given.items():
        rank = ranks.get(own)
        if rank is not None and isinstance(value, Tensor) and value.dim() >= rank:
            check_fits_batch(value.shape[: value.dim() - rank], shape, what=f"{who}, {own} without its last {rank}")
    result = function(**{own: _clean(value) for own, value in given.items()})
    return pytree.tree_map(lambda found: _of_entries(who, first, found), result)


def _on_pairs(rows: Ranks, function: Callable[..., Any], ranks: Ranks, given: dict[str, Any]) -> Any:
    who, batches = function.__qualname__, _batches(function.__qualname__, ranks, given)
    for name, batch in batches.items():
        rank = ranks[name]
        last = batch.num_batch_dims if rank is None else batch.dim() - 1 - rank
        if batch.non_uniform_dim != last or batch.ragged_axis:
            raise ValueError(
                f"{who}: {name} must be ragged along the first dimension after the batch, dimension {last}, got "
                f"{tuple(batch.shape)} with non_uniform_dim={batch.non_uniform_dim}"
            )
    own = [(name, batch) for name, batch in batches.items() if name in rows]
    others = [(name, batch) for name, batch in batches.items() if name not in rows]
    for group in (own, others):
        for name, batch in group[1:]:
            _check_same_padding(who, group[0], (name, batch))
    result = function(**{name: _clean(value) for name, value in given.items()})
    if own and others:
        result = filled(result, others[0][1].mask.unsqueeze(-2), 0)
    batch, axis = (own[0][1], 0) if own else (others[0][1], 1)
    if result.shape[:-2] != batch.batch_shape:  # layers, say
        batch = batch.broadcast_batch_dims_to_shape(result.shape[:-2])
    return RaggedBatch._unchecked(result, batch.mask, batch.sample_sizes, axis)


def _batches(who: str, ranks: Ranks, given: dict[str, Any]) -> dict[str, RaggedBatch]:
    batches = {name: value for name, value in given.items() if isinstance(value, RaggedBatch)}
    for name in batches:
        if name not in ranks:
            raise TypeError(f"{who}: {name} cannot be a RaggedBatch; {' and '.join(ranks)} can")
    return batches


def _clean(value: Any) -> Any:
    """The tensor of a batch, with 0 for filler, which gets no gradient; anything else as it is."""
    return filled(value.tensor, value.aligned_mask, 0) if isinstance(value, RaggedBatch) else value


def _check_ragged_dim(who: str, name: str, batch: RaggedBatch, rank: int | None) -> None:
    leading = batch.dim() - (rank or 0)
    if batch.non_uniform_dim >= leading:
        raise ValueError(
            f"{who}: {name} must be ragged along a dimension before its last {rank}, got shape {tuple(batch.shape)} "
            f"with non_uniform_dim={batch.non_uniform_dim}"
        )


def _check_same_entries(
    who: str, first: tuple[str, RaggedBatch, int | None], other: tuple[str, RaggedBatch, int | None]
) -> None:
    _check_same_padding(who, first[:2], other[:2])
    (name, batch, rank), (another, second, its_rank) = first, other
    if None in (rank, its_rank) or batch.dim() - (rank or 0) == second.dim() - (its_rank or 0):
        return
    raise ValueError(
        f"{who}: {name} and {another} must have the same number of dimensions before their last {rank} and {its_rank}, "
        f"got shapes {tuple(batch.shape)} and {tuple(second.shape)}; use unsqueeze_data_dim"
    )


def _check_same_padding(who: str, first: tuple[str, RaggedBatch], other: tuple[str, RaggedBatch]) -> None:
    (name, batch), (another, second) = first, other
    what = f"{who}: {name} and {another}"
    check_same_sizes(batch, second, what=what)
    if batch.ragged_axis != second.ragged_axis:
        raise ValueError(
            f"{what} are ragged along different dimensions, {batch.non_uniform_dim} and {second.non_uniform_dim}; "
            "use get_non_uniform_dimension_transposed_to"
        )
    if batch.max_sample_size != second.max_sample_size:
        raise ValueError(
            f"{what} are padded to {batch.max_sample_size} and {second.max_sample_size} entries; "
            "use with_max_sample_size on one of them"
        )


def _of_entries(who: str, batch: RaggedBatch, result: Any) -> Any:
    if not isinstance(result, Tensor):
        return result
    count, dim = batch.num_batch_dims, batch.non_uniform_dim
    fits = result.dim() > dim and result.shape[:count] == batch.batch_shape
    if not fits or result.shape[dim] != batch.max_sample_size:
        raise ValueError(
            f"{who}: the result must keep batch shape and ragged dimension of {tuple(batch.shape)}, but broadcasting "
            f"gives {tuple(result.shape)}; see broadcast_batch_dims_to_shape"
        )
    return batch._with(result)
