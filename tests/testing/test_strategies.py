"""What the strategies draw: everything that they promise, often enough, and shrunk to the least of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from ragged import RaggedBatch
from ragged.testing import (
    DTYPES,
    FILLERS,
    FLOATS,
    VALUES,
    batches_sharing_sizes,
    draw_values,
    filler_value,
    index_batches,
    masks,
    permutations,
    ragged_batches,
    refilled,
    sample_sizes,
)

pytestmark = pytest.mark.hunts


def drawn(strategy: st.SearchStrategy[Any], count: int = 300) -> list[Any]:
    """What a derandomised run of hypothesis gives."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def test_sizes_at_the_edge_come_often() -> None:
    sizes = Counter(size for each in drawn(sample_sizes((4,), max_size=9)) for size in each.tolist())
    total = sum(sizes.values())
    assert set(sizes) == set(range(10))
    for edge in (0, 1, 9):
        assert sizes[edge] > 0.12 * total
    assert sum(sizes[size] for size in range(2, 9)) > 0.1 * total


def test_batch_shapes_of_sizes() -> None:
    shapes = {tuple(each.shape) for each in drawn(sample_sizes())}
    assert {len(shape) for shape in shapes} == {1, 2, 3} and {size for shape in shapes for size in shape} == {1, 2, 3}
    assert drawn(sample_sizes((2, 0)), 3)[0].shape == (2, 0)
    assert all(each.dtype == torch.int64 and each.max() <= 2 for each in drawn(sample_sizes((5,), max_size=2), 50))
    assert drawn(sample_sizes((3,), max_size=0), 3)[0].tolist() == [0, 0, 0]


def kind_of_filler(batch: RaggedBatch) -> set[str]:
    """The kinds of filler that this may be."""
    outside = ~batch.aligned_mask.expand(batch.shape)
    return {kind for kind in FILLERS if _all_are(batch.tensor[outside], filler_value(kind, batch.dtype))}


def _all_are(values: torch.Tensor, filler: complex) -> bool:
    return bool((values.isnan() if filler != filler else values == filler).all())


def test_batches_have_everything() -> None:
    batches = drawn(ragged_batches(dtypes=DTYPES), 600)
    assert {batch.dtype for batch in batches} == set(DTYPES)
    assert {batch.num_batch_dims for batch in batches} == {1, 2, 3}
    assert {batch.ragged_axis for batch in batches} == {0, 1, 2}
    assert {batch.dim() - batch.num_batch_dims for batch in batches} == {1, 2, 3}
    slacks = {batch.max_sample_size - int(batch.sample_sizes.max()) for batch in batches}
    assert slacks == {0, 1, 2, 3} and 0 in {batch.max_sample_size for batch in batches}
    seen = Counter(kind for batch in batches if len(kinds := kind_of_filler(batch)) == 1 for kind in kinds)
    assert set(seen) == set(FILLERS) and min(seen.values()) > 20


@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_filler_is_what_was_asked_for(filler: str, dtype: torch.dtype) -> None:
    options = {"dtypes": [dtype], "fillers": [filler], "max_data_dims": 1}
    for batch in drawn(ragged_batches(**options), 10):
        assert batch.dtype == dtype and filler in kind_of_filler(batch)
        assert torch.equal(refilled(batch, "zeros").mask, batch.mask)


def test_options_are_kept() -> None:
    options = {"batch_shape": (2, 3), "max_size": 2, "data_shape": (4, 1), "ragged_axis": 1, "max_slack": 0}
    for batch in drawn(ragged_batches(**options, values=["unit"]), 30):
        assert batch.shape[:3] == (2, 3, 4) and batch.shape[4:] == (1,) and batch.non_uniform_dim == 3
        assert batch.max_sample_size == batch.sample_sizes.max() <= 2
        valid = batch.tensor[batch.aligned_mask.expand(batch.shape)]
        assert ((valid >= 0) & (valid <= 1)).all()
    sizes = torch.tensor([2, 0])
    assert all(batch.sample_sizes is sizes for batch in drawn(ragged_batches(sizes=sizes), 5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = {kind: draw_values((40, 5), dtype, kind, generator) for kind in VALUES}
    assert {each.dtype for each in values.values()} == {dtype} and {each.shape for each in values.values()} == {(40, 5)}
    if dtype is torch.float32:
        assert values["distinct"].unique().numel() == 200 and values["distinct"].min() == 1
        assert values["integers"].unique().tolist() == list(range(-4, 5))
        assert values["extreme"].abs().max() == torch.finfo(dtype).max and (values["extreme"] == 0).any()
        assert (values["unit"] >= 0).all() and (values["unit"] <= 1).all() and (values["normal"] < -1).any()


def test_batches_share_sizes() -> None:
    for first, second, third in drawn(batches_sharing_sizes(3, dtypes=DTYPES), 60):
        assert first.sample_sizes is second.sample_sizes is third.sample_sizes and first.mask is third.mask
        assert first.max_sample_size == second.max_sample_size
    pairs = drawn(batches_sharing_sizes(), 60)
    assert any(first.dtype != second.dtype for first, second in pairs)
    assert any(first.dim() != second.dim() for first, second in pairs)
    assert {kind for _, second in pairs for kind in kind_of_filler(second)} == set(FILLERS)
    assert all(len(each) == 1 for each in drawn(batches_sharing_sizes(1), 3))


def test_indices_are_valid() -> None:
    limits = torch.tensor([[4, 0], [1, 3]])
    found = drawn(index_batches(limits, max_count=5), 150)
    for indices in found:
        assert indices.batch_shape == (2, 2) and indices.dtype == torch.int64
        for sample, limit in zip(indices.flatten_batch_dims().split(), [4, 0, 1, 3], strict=True):
            assert ((sample >= 0) & (sample < limit)).all() and len(sample) <= (5 if limit else 0)
    assert max(int(indices.sample_sizes.max()) for indices in found) == 5
    firsts = [indices.flatten_batch_dims().split()[0].tolist() for indices in found]
    assert any(len(set(first)) < len(first) for first in firsts)
    assert {int(each) for indices in found for each in indices.tensor[~indices.mask]} == {
        -1,
        100,
        torch.iinfo(torch.int64).min,
    }


def test_indices_are_distinct() -> None:
    batch = RaggedBatch(torch.zeros(3, 5), sample_sizes=[5, 2, 0])
    for indices in drawn(index_batches(batch, distinct=True), 100):
        assert all(len(set(sample.tolist())) == len(sample) for sample in indices.split())
        assert indices.sample_sizes[1] <= 2


def test_masks_and_orders() -> None:
    found = drawn(masks((3, 4)), 100)
    assert all(mask.shape == (3, 4) and mask.dtype == torch.bool for mask in found)
    assert any(mask.all() for mask in found) and any(not mask.any() for mask in found)
    assert any(mask.any() and not mask.all() for mask in found)
    orders = drawn(permutations(3), 100)
    assert {tuple(order.tolist()) for order in orders} == {
        (0, 1, 2),
        (0, 2, 1),
        (1, 0, 2),
        (1, 2, 0),
        (2, 0, 1),
        (2, 1, 0),
    }
    assert drawn(permutations(0), 2)[0].dtype == torch.int64


SHRINK = settings(max_examples=500, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("strategy", "condition", "shape", "sizes"),
    [
        (ragged_batches(), lambda batch: True, (1, 0), [0]),
        (ragged_batches(), lambda batch: batch.sample_sizes.max() > 1, (1, 2), [2]),
        (ragged_batches(), lambda batch: batch.num_batch_dims == 2 and batch.sample_sizes.max() > 0, (1, 1, 1), [[1]]),
        (ragged_batches(), lambda batch: batch.ragged_axis == 1, (1, 1, 0), [0]),
        (ragged_batches(), lambda batch: batch.tensor.isnan().any(), (1, 1), [0]),
        (ragged_batches(), lambda batch: len(batch.sample_sizes.unique()) > 1, (2, 1), [0, 1]),
    ],
)
def test_shrinking(strategy: Any, condition: Callable[[RaggedBatch], bool], shape: Any, sizes: Any) -> None:
    least = find(strategy, lambda batch: bool(condition(batch)), settings=SHRINK)
    assert (tuple(least.shape), least.sample_sizes.tolist()) == (shape, sizes)
    assert least.dtype == torch.float32


def test_shrinking_of_the_rest() -> None:
    assert find(sample_sizes(), lambda sizes: sizes.sum() > 2, settings=SHRINK).tolist() == [3]
    assert find(permutations(3), lambda order: True, settings=SHRINK).tolist() == [0, 1, 2]
    indices = find(index_batches(torch.tensor([5])), lambda each: each.sample_sizes.sum() > 1, settings=SHRINK)
    assert indices.tensor.tolist() == [[0, 0]]
    assert not find(masks((2,)), lambda mask: True, settings=SHRINK).any()


def test_a_failing_example_is_printed_as_code() -> None:
    last: list[RaggedBatch] = []

    @settings(max_examples=200, derandomize=True, database=None, print_blob=False)
    @given(ragged_batches(dtypes=FLOATS, fillers=["nan", "inf"]), st.data())
    def fails(batch: RaggedBatch, data: st.DataObject) -> None:
        indices = data.draw(index_batches(batch))
        last[:] = [batch, indices]
        assert indices.sample_sizes.sum() < 2

    with pytest.raises(AssertionError) as caught:
        fails()
    notes = "\n".join(getattr(caught.value, "__notes__", []))
    names: dict[str, Any] = {"torch": torch, "RaggedBatch": RaggedBatch, "inf": inf, "nan": nan}
    for line in re.findall(r"^(?:batch|indices) = .*$", notes, re.MULTILINE):
        exec(line, names)
    for name, expected in zip(("batch", "indices"), last, strict=True):
        assert torch.equal(names[name].sample_sizes, expected.sample_sizes)
        torch.testing.assert_close(names[name].tensor, expected.tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: filler_value("none", torch.float32), "kind of filler must be one of zeros, .*, got 'none'"),
        (lambda: refilled(RaggedBatch.empty(1), "none"), "kind of filler must be one of .*, got 'none'"),
        (lambda: draw_values((1,), torch.float32, "odd", torch.Generator()), "kind of values must be one of .*'odd'"),
        (lambda: drawn(ragged_batches(fillers=["none"]), 2), "kind of filler must be one of .*, got 'none'"),
        (lambda: drawn(ragged_batches(values=["odd"]), 2), "kind of values must be one of .*, got 'odd'"),
    ],
)
def test_unknown_kinds(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
