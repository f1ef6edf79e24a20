"""The core operations of ``ragged`` on drawn batches: any batch shape, any ragged dimension, any padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ragged
from ragged import RaggedBatch
from ragged.testing import (
    assert_batch_equivariant,
    assert_filler_invariant,
    assert_matches_per_sample,
    assert_padding_invariant,
    assert_sample_independent,
    batches_sharing_sizes,
    index_batches,
    ragged_batches,
)

FLOATS = (torch.float32, torch.float64)
# Small integers tie.
KINDS = ("integers", "generic")
EXAMPLES = 8
Function = Callable[..., Any]


def check(op: Function, reference: Function, *arguments: Any) -> None:
    """The properties that take milliseconds. Values may tie, so that gradients are not compared with the reference."""
    assert_filler_invariant(op, *arguments)
    assert_padding_invariant(op, *arguments)
    assert_batch_equivariant(op, *arguments)
    assert_sample_independent(op, *arguments)
    assert_matches_per_sample(op, reference, *arguments, gradients=False)


def bounded(sample: Tensor, axis: int, value: float) -> Tensor:
    """One entry more, which is the result for an empty sample."""
    shape = list(sample.shape)
    shape[axis] = 1
    return torch.cat([sample, sample.new_full(shape, value)], axis)


def first_place(sample: Tensor, axis: int, best: Tensor | None) -> Tensor:
    """The index of the first entry that is the best one, -1 of none."""
    if best is None:
        return torch.full(sample.select(axis, 0).shape if sample.shape[axis] else _without(sample, axis), -1)
    return (sample == best.unsqueeze(axis)).int().argmax(axis)


def _without(sample: Tensor, axis: int) -> tuple[int, ...]:
    return (*sample.shape[:axis], *sample.shape[axis + 1 :])


def extreme_place(sample: Tensor, axis: int, name: str) -> Tensor:
    return first_place(sample, axis, getattr(sample, name)(axis) if sample.shape[axis] else None)


# Of a sample and the place of its ragged dimension.
REDUCTIONS: dict[str, Callable[[Tensor, int], Any]] = {
    "sum": lambda s, axis: s.sum(axis),
    "average": lambda s, axis: s.sum(axis) / max(s.shape[axis], 1),
    "max": lambda s, axis: bounded(s, axis, -torch.inf).amax(axis),
    "min": lambda s, axis: bounded(s, axis, torch.inf).amin(axis),
    "argmax": lambda s, axis: extreme_place(s, axis, "amax"),
    "argmin": lambda s, axis: extreme_place(s, axis, "amin"),
    "any": lambda s, axis: s.any(axis),
    "all": lambda s, axis: s.all(axis),
    "count": lambda s, axis: s.count_nonzero(axis),
    "logsumexp": lambda s, axis: s.logsumexp(axis),
    "softmax": lambda s, axis: s.softmax(axis),
    "log_softmax": lambda s, axis: s.log_softmax(axis),
    "cumsum": lambda s, axis: s.cumsum(axis),
    "sort": lambda s, axis: tuple(torch.sort(s, dim=axis, stable=True)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@examples(EXAMPLES)
@given(batch=ragged_batches(dtypes=FLOATS, values=KINDS))
def test_reductions(name: str, batch: RaggedBatch) -> None:
    function = getattr(ragged, f"{name}_over_targets")
    check(function, lambda sample: REDUCTIONS[name](sample, batch.ragged_axis), batch)


@examples(2 * EXAMPLES)
@given(batch=ragged_batches(dtypes=FLOATS, values=KINDS), count=st.integers(0, 6))
def test_topk(batch: RaggedBatch, count: int) -> None:
    def largest(sample: Tensor) -> tuple[Tensor, ...]:
        found = torch.sort(sample, dim=batch.ragged_axis, stable=True, descending=True)
        return tuple(each.narrow(batch.ragged_axis, 0, min(count, each.shape[batch.ragged_axis])) for each in found)

    check(lambda given: ragged.topk_over_targets(given, count), largest, batch)


ELEMENTWISE: dict[str, Function] = {
    "arithmetic": lambda a, b: (a + 2 * b) * a - b / 4,
    "functions": lambda a, b: torch.exp(-abs(a)) * torch.sigmoid(b),
    "comparison": lambda a, b: torch.where(a > b, a, b * 2),
    "division": lambda a, b: a / (b * b + 1),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@examples(EXAMPLES)
@given(batches=batches_sharing_sizes(data_shape=(2,), ragged_axis=1, dtypes=(torch.float64,), values=("normal",)))
def test_elementwise(name: str, batches: tuple[RaggedBatch, RaggedBatch]) -> None:
    check(ELEMENTWISE[name], ELEMENTWISE[name], *batches)


@st.composite
def indexed(draw: st.DrawFn, *, distinct: bool) -> tuple[RaggedBatch, RaggedBatch, RaggedBatch]:
    """Data, indices into them, and as many values to write there."""
    batch = draw(ragged_batches(dtypes=FLOATS, values=KINDS))
    index = draw(index_batches(batch, distinct=distinct))
    shape = _without(batch.tensor[(0,) * batch.num_batch_dims], batch.ragged_axis)
    values = draw(
        ragged_batches(
            sizes=index.sample_sizes,
            data_shape=shape,
            ragged_axis=batch.ragged_axis,
            dtypes=(batch.dtype,),
            max_slack=0,
        )
    )
    return batch, index, values.with_max_sample_size(index.max_sample_size)


@examples(3 * EXAMPLES)
@given(drawn=indexed(distinct=False))
def test_access(drawn: tuple[RaggedBatch, RaggedBatch, RaggedBatch]) -> None:
    batch, index, _ = drawn
    axis = batch.ragged_axis
    check(ragged.batched_indexing_access, lambda s, i: s.index_select(axis, i), batch, index)


@examples(3 * EXAMPLES)
@given(drawn=indexed(distinct=True))
def test_write(drawn: tuple[RaggedBatch, RaggedBatch, RaggedBatch]) -> None:
    batch, index, values = drawn
    axis = batch.ragged_axis
    check(ragged.batched_indexing_write, lambda v, i, s: s.index_copy(axis, i, v), values, index, batch)


@examples(3 * EXAMPLES)
@given(drawn=indexed(distinct=True))
def test_inverse_access(drawn: tuple[RaggedBatch, RaggedBatch, RaggedBatch]) -> None:
    _, index, values = drawn
    axis, room = values.ragged_axis, 6

    def put(value: Tensor, place: Tensor) -> Tensor:
        shape = list(value.shape)
        shape[axis] = room
        return value.new_zeros(shape).index_copy(axis, place, value)

    check(lambda v, i: ragged.batched_inverse_indexing_access(v, i, room), put, values, index)


@examples(3 * EXAMPLES)
@given(drawn=indexed(distinct=True), factor=st.integers(-2, 2))
def test_mapping(drawn: tuple[RaggedBatch, RaggedBatch, RaggedBatch], factor: int) -> None:
    batch, index, _ = drawn
    axis = batch.ragged_axis

    def mapped(source: Tensor, place: Tensor, target: Tensor) -> Tensor:
        return target.index_copy(axis, place, source.index_select(axis, place))

    def op(source: RaggedBatch, place: RaggedBatch, target: RaggedBatch) -> Any:
        return ragged.batched_index_mapping(source, place, place, target)

    check(op, mapped, batch * factor, index, batch)


@examples(3 * EXAMPLES)
@given(drawn=indexed(distinct=True))
def test_mask_from_indices(drawn: tuple[RaggedBatch, RaggedBatch, RaggedBatch]) -> None:
    _, index, _ = drawn
    check(
        lambda i: ragged.get_mask_from_indices(6, i),
        lambda i: torch.zeros(6, dtype=torch.bool).index_fill(0, i, True),
        index,
    )


@st.composite
def masked(draw: st.DrawFn) -> tuple[RaggedBatch, RaggedBatch]:
    """Data, and a mask of their entries."""
    batch = draw(ragged_batches(dtypes=FLOATS, ragged_axis=0))
    flags = draw(ragged_batches(sizes=batch.sample_sizes, data_shape=(), dtypes=(torch.bool,), max_slack=0))
    return batch, flags.with_max_sample_size(batch.max_sample_size)


MASKS: dict[str, tuple[Function, Function]] = {
    "indices": (
        lambda b, m: ragged.get_indices_from_mask(m, max_size=m.max_sample_size),
        lambda s, m: m.nonzero().squeeze(-1),
    ),
    "access": (lambda b, m: ragged.batched_bool_indexing(b, m, max_size=m.max_sample_size), lambda s, m: s[m]),
    "write": (
        lambda b, m: ragged.batched_bool_indexing_write(
            ragged.batched_bool_indexing(b, m, max_size=m.max_sample_size) * 2, m, b
        ),
        lambda s, m: torch.where(m.view(-1, *(1,) * (s.dim() - 1)), s * 2, s),
    ),
}


@pytest.mark.parametrize("name", MASKS)
@examples(EXAMPLES)
@given(drawn=masked())
def test_masks(name: str, drawn: tuple[RaggedBatch, RaggedBatch]) -> None:
    check(*MASKS[name], *drawn)


def combined(batch: RaggedBatch) -> RaggedBatch:
    flat = ragged.combine_data(batch.flatten_batch_dims().split(), non_uniform_dim=1 + batch.ragged_axis)
    return flat.reshape_batch_dims(batch.batch_shape)


FORMS: dict[str, tuple[Function, Function]] = {
    "resized": (lambda b: b.with_max_sample_size(9 + b.max_sample_size), lambda s: s),
    "combined": (combined, lambda s: s),
    "refilled": (lambda b: b.with_padded_set_to(0) * 2, lambda s: s * 2),
}


@pytest.mark.parametrize("name", FORMS)
@examples(EXAMPLES)
@given(batch=ragged_batches(dtypes=FLOATS))
def test_forms(name: str, batch: RaggedBatch) -> None:
    check(*FORMS[name], batch)


@examples(2 * EXAMPLES)
@given(batch=ragged_batches(dtypes=FLOATS, ragged_axis=0))
def test_pack_and_unpack(batch: RaggedBatch) -> None:
    check(lambda b: ragged.unpack(*ragged.pack(b)), lambda s: s, batch)


@examples(2 * EXAMPLES)
@given(data=st.data(), first=ragged_batches(dtypes=(torch.float32,), data_shape=(2,), ragged_axis=1))
def test_cat_targets(data: st.DataObject, first: RaggedBatch) -> None:
    second = data.draw(
        ragged_batches(batch_shape=first.batch_shape, dtypes=(torch.float32,), data_shape=(2,), ragged_axis=1)
    )
    check(lambda a, b: ragged.cat_targets([a, b]), lambda a, b: torch.cat([a, b], 1), first, second)
