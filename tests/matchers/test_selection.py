"""The best ones in order, ties to the lowest index, as sorting plain Python tuples does."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from matchers.assignments.selection import BestTarget, reduce_rows_
from ragged.testing import assert_no_host_sync
from ragged.values.ranking import index_of, keys, largest, smallest, value_of

NUMBERS = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-38, -1e-38, 3.4e38, -3.4e38, math.inf, -math.inf, 1.0000001, 0.1]
rows = st.lists(st.one_of(st.sampled_from(NUMBERS), st.floats(width=32, allow_nan=False)), max_size=12)


def as_tensor(row: list[float]) -> Tensor:
    return torch.tensor(row, dtype=torch.float32)


@given(rows, st.integers(0, 14))
def test_smallest_and_largest(row: list[float], count: int) -> None:
    values = as_tensor(row)
    listed = values.tolist()
    for function, sign in ((smallest, 1), (largest, -1)):
        found, index = function(values, count)
        order = sorted(range(len(row)), key=lambda i: (sign * listed[i], i))[:count]
        assert index.tolist() == order
        assert found.tolist() == [listed[i] for i in order]
        assert found.dtype == torch.float32 and index.dtype == torch.int64


@given(rows)
def test_keys(row: list[float]) -> None:
    values = as_tensor(row)
    index = torch.arange(len(row)) * 12345
    made = keys(values, index)
    assert torch.equal(index_of(made), index)
    assert torch.equal(value_of(made), values + 0.0)
    limits = torch.iinfo(torch.int64)
    assert ((made > limits.min) & (made < limits.max)).all()
    low = values.abs() + 0.0
    assert torch.equal(keys(low, index, nonnegative=True), keys(low, index))
    assert torch.equal(index_of(keys(values, torch.tensor(2**31 - 1))), torch.full_like(index, 2**31 - 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    values = torch.randint(0, 5, (3, 4, 20), generator=torch.Generator().manual_seed(0)).to(dtype)
    found, index = smallest(values, 7)
    expected, order = values.float().sort(dim=-1, stable=True)
    assert torch.equal(found, expected[..., :7])
    assert torch.equal(index, order[..., :7])


def test_nothing() -> None:
    for shape in [(2, 0), (0, 3), (0, 0)]:
        found, index = largest(torch.zeros(shape), 2)
        assert found.shape == index.shape == (shape[0], min(2, shape[1]))


@given(rows, st.integers(0, 14))
def test_promise_of_no_negative_values(row: list[float], count: int) -> None:
    values = as_tensor(row).abs() + 0.0
    for function in (smallest, largest):
        for found, expected in zip(function(values, count, nonnegative=True), function(values, count), strict=True):
            assert torch.equal(found, expected)


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.booleans(),
)
def test_best_target(seed: int, sizes: list[int], count: int, blocks: int, highest: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    sample = torch.tensor([i for i, size in enumerate(sizes) for _ in range(size)], dtype=torch.int64)
    target = torch.tensor([g for size in sizes for g in range(size)], dtype=torch.int64)
    value = torch.tensor([0.0, 1e-45, 0.5, math.inf])[torch.randint(4, (len(sample), count), generator=generator)]
    counts = torch.rand(value.shape, generator=generator) < 0.6
    order = torch.randperm(len(sample), generator=generator)
    by_rows, by_pairs, everything = (BestTarget(len(sizes), count, value.device, highest=highest) for _ in range(3))
    for part in order.tensor_split(blocks):
        by_rows.see_at(value[part], sample[part], target[part], counts[part])
        everything.see_at(value[part], sample[part], target[part])
        index = torch.arange(count).expand(len(part), count)
        by_pairs.see_pairs(value[part], sample[part], target[part], index, counts[part])
    sign = -1 if highest else 1
    for table, allowed in ((by_rows, counts), (by_pairs, counts), (everything, torch.ones_like(counts))):
        found, best = table.result()
        for i in range(len(sizes)):
            for p in range(count):
                seen = [
                    (sign * float(value[r, p]), int(target[r]))
                    for r in range(len(sample))
                    if sample[r] == i and allowed[r, p]
                ]
                expected = min(seen, default=(None, -1))
                assert int(found[i, p]) == expected[1]
                assert expected[0] is None or sign * float(best[i, p]) == expected[0]


@pytest.mark.parametrize("highest", [False, True])
def test_best_target_without_predictions(highest: bool) -> None:
    table = BestTarget(2, 0, torch.device("cpu"), highest=highest)
    table.see_at(torch.zeros(3, 0), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]))
    assert table.result()[0].shape == (2, 0)


@pytest.mark.parametrize("highest", [False, True])
@pytest.mark.parametrize("num_samples", [0, 2])
def test_best_target_of_none(highest: bool, num_samples: int) -> None:
    table = BestTarget(num_samples, 3, torch.device("cpu"), highest=highest)
    none = torch.zeros(0, dtype=torch.int64)
    table.see_at(torch.zeros(0, 3), none, none)
    found, value = table.result()
    assert found.tolist() == [[-1] * 3] * num_samples
    assert value.shape == found.shape and (not highest or not value.any())


def best_of(value: Tensor, sample: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    table = BestTarget(2, 5, value.device, highest=True)
    table.see_at(value, sample, target, value > 0.2)
    index = torch.arange(5, device=value.device).expand(len(value), 5)
    table.see_pairs(value, sample, target, index, value > 0.5)
    return table.result()


@pytest.mark.graphs
def test_no_synchronisation_and_one_graph() -> None:
    arguments = (torch.rand(4, 5), torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0]))
    for function in (best_of, lambda cost, *_: largest(cost, 3)):
        torch._dynamo.reset()
        assert_no_host_sync(function, *arguments)
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        for found, expected in zip(compiled(*arguments), function(*arguments), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("reduce", ["amax", "amin"])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (0, 3), (5, 0)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_rows_are_reduced_alike_in_deterministic_mode(reduce: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 200, shape, generator=generator).to(dtype)
    index = torch.tensor([0, 2, 0, 2, 2])[: shape[0]]
    found = [torch.full((3, *shape[1:]), 100, dtype=dtype) for _ in range(2)]
    reduce_rows_(found[0], index, rows, reduce)
    torch.use_deterministic_algorithms(True)
    try:
        reduce_rows_(found[1], index, rows, reduce)
    finally:
        torch.use_deterministic_algorithms(False)
    expected = [[*rows[index == place].unbind(), torch.full(shape[1:], 100, dtype=dtype)] for place in range(3)]
    best = torch.stack([getattr(torch.stack(values), reduce)(0) for values in expected])
    assert torch.equal(found[0], best) and torch.equal(found[1], best)
