"""Layers on ragged batches: values and gradients of entries alone, whatever the filler; joins; and what is refused."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import ragged
from ragged import RaggedBatch
from ragged.testing import FILLERS, ragged_batches, refilled

SIZES = st.lists(st.integers(0, 3), min_size=1, max_size=3)
CLASSES = 5


def batch_of(sizes: list[int], *shape: int, filler: float = math.nan) -> RaggedBatch:
    generator = torch.Generator().manual_seed(0)
    tensor = torch.rand(len(sizes), max(sizes) + 1, *shape, generator=generator) + 0.1
    return RaggedBatch(tensor, sample_sizes=sizes).with_padded_set_to(filler)


def indices_of(sizes: list[int], filler: int) -> RaggedBatch:
    tensor = torch.arange(len(sizes) * (max(sizes) + 1)).view(len(sizes), -1) % CLASSES
    return RaggedBatch(tensor, sample_sizes=sizes).with_padded_set_to(filler)


@functools.cache
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.GELU(), nn.LayerNorm(6), nn.Dropout(0.0), nn.Linear(6, 4, bias=False), nn.RMSNorm(4)
    )


def gradients(module: nn.Module, outputs: list[Tensor]) -> list[Tensor]:
    """Of the parameters: zeros where nothing was computed."""
    total = torch.stack([(output * output.cos()).sum() for output in outputs]).sum()
    found = torch.autograd.grad(total, list(module.parameters()), allow_unused=True)
    return [
        torch.zeros_like(own) if gradient is None else gradient
        for own, gradient in zip(module.parameters(), found, strict=True)
    ]


CALLS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "called": lambda module, given: module(given),
    "applied": lambda module, given: given.apply(module) if isinstance(given, RaggedBatch) else module(given),
    "after a logarithm": lambda module, given: module(torch.log(given)),
    "applied after a logarithm": lambda module, given: (
        torch.log(given).apply(module) if isinstance(given, RaggedBatch) else module(given.log())
    ),
}


@pytest.mark.parametrize("name", CALLS)
@settings(examples(60))
@given(SIZES, st.sampled_from([math.nan, math.inf, -1.0, 0.0]), st.booleans())
def test_a_network_learns_what_it_learns_of_each_sample_alone(
    name: str, sizes: list[int], filler: float, needs_gradient: bool
) -> None:
    module, call = network(), CALLS[name]
    batch = batch_of(sizes, 4, filler=filler).requires_grad_(needs_gradient)
    made = call(module, batch)
    assert made.mask is batch.mask and made.shape == batch.shape
    expected = [call(module, sample) for sample in batch.split()]
    for found, wanted in zip(made.split(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    of_batch = gradients(module, [made.with_padded_set_to(0).tensor])
    torch.testing.assert_close(of_batch, gradients(module, expected), rtol=1e-4, atol=1e-5)
    if needs_gradient:
        call(module, batch).with_padded_set_to(0).tensor.sum().backward()
        assert batch.tensor.grad is not None and not batch.tensor.grad[~batch.mask].any()


@given(SIZES, st.sampled_from([-9, CLASSES, 2**40, 0]))
def test_embeddings_and_classes_of_each_sample_alone(sizes: list[int], filler: int) -> None:
    batch, table = indices_of(sizes, filler), nn.Embedding(CLASSES, 3, padding_idx=2)
    for made in (table(batch), batch.apply(table)):
        expected = [table(sample) for sample in batch.split()]
        for found, wanted in zip(made.split(), expected, strict=True):
            assert torch.equal(found, wanted)
        of_batch = gradients(table, [made.with_padded_set_to(0).tensor])
        torch.testing.assert_close(of_batch, gradients(table, expected))
    classes = functional.one_hot(batch, CLASSES)
    assert classes.dtype is torch.int64
    for found, sample in zip(classes.split(), batch.split(), strict=True):
        assert torch.equal(found, functional.one_hot(sample, CLASSES))


def test_a_table_with_one_row_serves_a_batch_without_entries() -> None:
    empty = indices_of([0, 0], 7)
    assert nn.Embedding(1, 3)(empty).shape == empty.apply(nn.Embedding(1, 3)).shape == (2, 1, 3)


@given(ragged_batches(dtypes=[torch.float32], values=["normal"]), st.sampled_from(FILLERS), st.data())
def test_joins_are_those_of_samples(batch: RaggedBatch, filler: str, draw: st.DataObject) -> None:
    other = refilled(batch * 2, filler)
    dims = [dim for dim in range(batch.num_batch_dims, batch.dim()) if dim != batch.non_uniform_dim]
    joins: list[tuple[RaggedBatch, Callable[..., Tensor], int]] = []
    if dims:
        dim = draw.draw(st.sampled_from(dims))
        joins.append((torch.cat([batch, other], dim), torch.cat, dim))
    new = draw.draw(st.integers(batch.num_batch_dims, batch.dim()))
    joins.append((torch.stack([batch, other], new), torch.stack, new))
    for made, function, dim in joins:
        parts = [each.flatten_batch_dims().split() for each in (made, batch, other)]
        for found, one, two in zip(*parts, strict=True):
            assert torch.equal(found, function([one, two], dim - batch.num_batch_dims))


def test_a_join_takes_tensors_and_promotes_dtypes() -> None:
    batch = batch_of([2, 0], 4).requires_grad_()
    made = torch.cat((batch, torch.ones(2, 3, 1, dtype=torch.float64)), dim=-1)
    assert made.shape == (2, 3, 5) and made.dtype is torch.float64
    assert torch.concat([batch, batch], axis=2).shape == (2, 3, 8)
    made.with_padded_set_to(0).tensor.sum().backward()
    assert batch.tensor.grad is not None and not batch.tensor.grad[~batch.mask].any()


def test_dropout_drops_entries_one_by_one() -> None:
    batch = RaggedBatch(torch.ones(2, 500), sample_sizes=[500, 0]).with_padded_set_to(math.nan).requires_grad_()
    made = nn.Dropout(0.25)(batch)
    kept = made.split()[0]
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert 0.6 < (kept > 0).float().mean() < 0.9
    ragged.sum_over_targets(made).sum().backward()
    assert batch.tensor.grad is not None and torch.equal(batch.tensor.grad[0], kept.detach())
    assert nn.Dropout(0.25).eval()(batch).equal(batch)


def test_layers_keep_the_layout() -> None:
    sizes = torch.tensor([[2, 0, 1], [3, 3, 0]])
    deep = RaggedBatch(torch.rand(2, 3, 7, 3, 4), sample_sizes=sizes, non_uniform_dim=3)
    made = network()(deep)
    assert made.non_uniform_dim == 3 and torch.equal(made.sample_sizes, sizes)
    table = nn.Embedding(CLASSES, 2)(RaggedBatch(torch.zeros(2, 3, 3).long(), sample_sizes=[1, 2], non_uniform_dim=2))
    assert table.shape == (2, 3, 3, 2) and table.non_uniform_dim == 2


@pytest.mark.graphs
def test_layers_compile_as_one_graph_and_follow_autocast() -> None:
    module, batch, labels = network(), batch_of([2, 0, 3], 4), indices_of([2, 0, 3], -1)
    table = nn.Embedding(CLASSES, 4)

    def step(batch: RaggedBatch, labels: RaggedBatch) -> tuple[RaggedBatch, ...]:
        hidden = torch.cat([module(batch), table(labels), functional.one_hot(labels, CLASSES)], -1)
        return hidden, torch.stack([batch, batch], -1), hidden[..., :2], torch.max(hidden, -1).values

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(compiled(batch, labels), step(batch, labels), strict=True):
        assert found.allclose(wanted, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = nn.Linear(4, 2)(batch)
    assert half.dtype is torch.bfloat16 and half.with_padded_set_to(0).tensor.isfinite().all()


BATCH, ROW = batch_of([2, 0], 4), batch_of([2, 0])
LABELS = indices_of([2, 0], 9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Linear(3, 2)(ROW), TypeError, r"linear sums over the last dimension, .* ragged one in shape \(2, 3\)"),
        (lambda: nn.Linear(5, 2)(BATCH), ValueError, r"must have 5 features .* weight \(2, 5\), got .*\(2, 3, 4\)"),
        (lambda: functional.linear(torch.rand(2, 4), BATCH), TypeError, "got a RaggedBatch among the weights"),
        (lambda: nn.LayerNorm((3, 4))(BATCH), TypeError, r"over \(3, 4\) would normalise over the ragged dimension 1 .* use normalized_shape=\(4,\)"),
        (lambda: nn.LayerNorm(3)(ROW), TypeError, "entries have no dimension after it.* ragged.average_over_targets"),
        (lambda: nn.RMSNorm((3, 4))(BATCH), TypeError, "rms_norm over .* would normalise over the ragged dimension 1"),
        (lambda: nn.Embedding(1, 2)(LABELS), IndexError, "embedding: index 1 at position 1 of sample 0 is out of range for size 1"),
        (lambda: nn.Embedding(5, 2)(BATCH), TypeError, "embedding needs integer indices, got torch.float32; use .long"),
        (lambda: nn.Embedding(5, 2, max_norm=1.0)(LABELS), TypeError, "does not support max_norm, .* ragged.pack.* ragged.unpack"),
        (lambda: nn.Embedding(5, 2, sparse=True)(LABELS), TypeError, "does not support max_norm, scale_grad_by_freq or sparse"),
        (lambda: functional.one_hot(LABELS), TypeError, "one_hot of a RaggedBatch needs num_classes"),
        (lambda: functional.one_hot(LABELS, 1), IndexError, "one_hot: index 1 at position 1 of sample 0 is out of range for size 1"),
        (lambda: functional.one_hot(LABELS[..., None] + 9, 3), IndexError, r"index 9 at position \(0, 0\) of sample 0"),
        (lambda: torch.cat([BATCH, BATCH]), TypeError, "0 is a batch dimension; use ragged.cat_batches"),
        (lambda: torch.cat([BATCH, BATCH], 1), TypeError, "ragged dimension 1 would mix filler .* use ragged.cat_targets"),
        (lambda: torch.cat([BATCH, ROW], -1), ValueError, "torch.cat: .* do not line up; use unsqueeze_data_dim"),
        (lambda: torch.cat([BATCH, torch.ones(2, 4, 1)], -1), ValueError, r"\(2, 3, 4\), .* except in dimension 2, got \(2, 4, 1\)"),
        (lambda: torch.cat([BATCH, batch_of([1, 1], 4)], -1), ValueError, "torch.cat: sample sizes differ, 2 and 1 for sample 0"),
        (lambda: torch.stack([BATCH, BATCH]), TypeError, "dim 0 is a batch dimension; use ragged.stack_batches"),
        (lambda: torch.max(BATCH, BATCH), TypeError, "torch.max of two operands is not supported for a RaggedBatch; use torch.maximum"),
        (lambda: torch.sum(BATCH, 0), TypeError, "along dimension 0, a batch dimension, would mix samples"),
        (lambda: BATCH.sum(-1), AttributeError, r"sum_over_targets, or torch.sum\(batch, dim\) along a data dimension"),
        (lambda: BATCH.var(-1), AttributeError, r"use torch.var\(batch, dim\) along a data dimension"),
        (lambda: nn.BatchNorm1d(3)(BATCH), TypeError, r"batch_norm mixes entries.* ragged.unpack\(norm\(values\), sizes\)"),
        (lambda: BATCH.apply(nn.BatchNorm1d(3)), TypeError, "needs a function that treats each entry alone, but BatchNorm1d mixes"),
        (lambda: BATCH.apply(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(1, 3).eval())), TypeError, "GroupNorm mixes entries"),
        (lambda: BATCH.apply(nn.GRU(4, 4, batch_first=True)), TypeError, "GRU mixes entries.*pack_padded_sequence"),
        (lambda: BATCH.apply(nn.TransformerEncoderLayer(4, 2, 8)), TypeError, "MultiheadAttention mixes entries.*ragged.key_padding_mask"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_what_can(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_statistics_that_are_fixed_mix_nothing() -> None:
    norm = nn.BatchNorm1d(4).eval()
    transposed = BATCH.get_non_uniform_dimension_transposed_to(2)
    assert transposed.apply(norm).split()[0].isfinite().all()


def test_what_errors_advise_for_a_batch_norm_works() -> None:
    values, sizes = ragged.pack(BATCH)
    norm = nn.BatchNorm1d(4)
    made = ragged.unpack(norm(values), sizes)
    torch.testing.assert_close(made.split()[0], nn.BatchNorm1d(4)(BATCH.split()[0]))


def test_values_and_indices_along_a_data_dimension() -> None:
    batch = batch_of([2, 0, 3], 4).requires_grad_()
    for made, function in (
        (torch.max(batch, -1), lambda sample: sample.max(-1)),
        (torch.min(batch, dim=2, keepdim=True), lambda sample: sample.min(-1, keepdim=True)),
        (torch.sort(batch, dim=-1, descending=True), lambda sample: sample.sort(-1, descending=True)),
        (torch.topk(batch, 2), lambda sample: sample.topk(2)),
    ):
        parts = zip(made.values.split(), made.indices.split(), batch.split(), strict=True)
        for values, indices, sample in parts:
            wanted = function(sample)
            assert torch.equal(values, wanted.values) and torch.equal(indices, wanted.indices)
    torch.max(batch, -1).values.with_padded_set_to(0).tensor.sum().backward()
    assert batch.tensor.grad is not None and not batch.tensor.grad[~batch.mask].any()
    assert functional.normalize(batch, 2.0, -1).allclose(batch / torch.sqrt(torch.sum(batch * batch, -1, keepdim=True)))
    assert torch.flip(batch, dims=(-1,)).split()[0].equal(batch.split()[0].flip(-1))
