"""Reductions over targets against loops over the unpadded samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import loops
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import ragged
from ragged import RaggedBatch
from ragged.testing import FLOATS, ragged_batches
from ragged.values import masked

INTEGERS = (torch.int64, torch.int32, torch.uint8, torch.bool)
REALS = (*FLOATS, *INTEGERS)
# Small integers tie.
KINDS = ("integers", "generic")
NAN, INF = float("nan"), float("inf")
SIZES = [3, 0, 1]

# Name, loop for one sample with entries, dtypes, value for an empty sample.
PER_SAMPLE: dict[str, tuple[Callable[[Tensor], Tensor], tuple[torch.dtype, ...], float]] = {
    "sum": (lambda x: x.sum(0), REALS, 0),
    "average": (lambda x: x.float().mean(0), REALS, 0),
    "max": (lambda x: x.max(0).values, FLOATS, -INF),
    "min": (lambda x: x.min(0).values, FLOATS, INF),
    "argmax": (lambda x: x.max(0).indices, REALS, -1),
    "argmin": (lambda x: x.min(0).indices, REALS, -1),
    "any": (lambda x: x.bool().any(0), REALS, 0),
    "all": (lambda x: x.bool().all(0), REALS, 1),
    "count": (lambda x: x.bool().sum(0), REALS, 0),
    "logsumexp": (lambda x: x.float().logsumexp(0), FLOATS, -INF),
}
PER_ENTRY: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.float().softmax(0),
    "log_softmax": lambda x: x.float().log_softmax(0),
    "cumsum": lambda x: x.cumsum(0),
}
DIFFERENTIABLE = ("sum", "average", "max", "min", "logsumexp", *PER_ENTRY)


@pytest.fixture(autouse=True, scope="module", params=[0, masked.MANY_NUMBERS], ids=["filler as bits", "by size"])
def _both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masked, "MANY_NUMBERS", request.param)
        yield


def over_targets(name: str) -> Callable[..., Tensor | RaggedBatch]:
    return getattr(ragged, f"{name}_over_targets")


def assert_close(result: Tensor, expected: Tensor) -> None:
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(result.dtype, 1e-6)
    torch.testing.assert_close(result.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", PER_SAMPLE)
@given(data=st.data())
def test_equals_a_loop_over_samples(name: str, data: st.DataObject) -> None:
    function, dtypes, empty = PER_SAMPLE[name]
    batch = data.draw(ragged_batches(dtypes=dtypes, values=KINDS))
    result = over_targets(name)(batch)
    assert isinstance(result, Tensor)
    assert result.shape[: batch.num_batch_dims] == batch.batch_shape
    per_sample = result.reshape(batch.total_num_samples_in_batch, *result.shape[batch.num_batch_dims :])
    for computed, sample in zip(per_sample, loops.entries(batch), strict=True):
        expected = function(sample) if len(sample) else torch.full(sample.shape[1:], float(empty))
        assert_close(computed, expected)


@pytest.mark.parametrize("name", PER_ENTRY)
@given(batch=ragged_batches(dtypes=FLOATS, values=KINDS))
def test_equals_a_loop_over_samples_entry_by_entry(name: str, batch: RaggedBatch) -> None:
    result = over_targets(name)(batch)
    assert isinstance(result, RaggedBatch)
    assert result.dtype == batch.dtype
    for computed, sample in zip(loops.entries(result), loops.entries(batch), strict=True):
        assert_close(computed, PER_ENTRY[name](sample))
    assert not result.tensor[~result.aligned_mask.expand(result.shape)].any()


@given(batch=ragged_batches(dtypes=REALS, values=KINDS), descending=st.booleans())
def test_sort_equals_a_stable_sort_of_each_sample(batch: RaggedBatch, descending: bool) -> None:
    values, indices = ragged.sort_over_targets(batch, descending=descending)
    triples = zip(loops.entries(values), loops.entries(indices), loops.entries(batch), strict=True)
    for ordered, order, sample in triples:
        expected = torch.sort(sample, dim=0, descending=descending, stable=True)
        assert torch.equal(ordered, expected.values)
        assert torch.equal(order, expected.indices)


@given(batch=ragged_batches(dtypes=REALS, values=KINDS), k=st.integers(0, 7), largest=st.booleans())
def test_topk_is_the_beginning_of_a_sort(batch: RaggedBatch, k: int, largest: bool) -> None:
    values, indices = ragged.topk_over_targets(batch, k, largest=largest)
    assert torch.equal(values.sample_sizes, batch.sample_sizes.clamp(max=k))
    triples = zip(loops.entries(values), loops.entries(indices), loops.entries(batch), strict=True)
    for top, where, sample in triples:
        expected = torch.sort(sample, dim=0, descending=largest, stable=True)
        assert torch.equal(top, expected.values[:k])
        assert torch.equal(where, expected.indices[:k])


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64]
)
@pytest.mark.parametrize("largest", [True, False])
def test_topk_of_many_ties(dtype: torch.dtype, largest: bool) -> None:
    values = torch.randint(-3, 3, (4, 400), generator=torch.Generator().manual_seed(0)).to(dtype)
    if dtype.is_floating_point:
        values[:, ::7], values[:, 1::9], values[:, 2::11] = -0.0, NAN, -NAN
        values[:, 3::13], values[:, 4::17] = INF, -INF
    else:
        values[:, ::50], values[:, 1::50] = torch.iinfo(dtype).max, torch.iinfo(dtype).min
    batch = RaggedBatch(values, sample_sizes=[400, 0, 150, 7])
    top, where = ragged.topk_over_targets(batch, 200, largest=largest)
    assert top.sample_sizes.tolist() == [200, 0, 150, 7]
    for found, index, sample in zip(top.split(), where.split(), batch.split(), strict=True):
        expected = torch.sort(sample, descending=largest, stable=True)
        torch.testing.assert_close(found, expected.values[:200], rtol=0, atol=0, equal_nan=True)
        assert torch.equal(index, expected.indices[:200])


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_of_wide_entries(name: str) -> None:
    """With a gradient they are found another way: the same values, NaN too."""
    data = torch.randint(-2, 2, (3, 4, 40), generator=torch.Generator().manual_seed(0)).float()
    data[0, 1, ::5] = NAN
    batch = RaggedBatch(data, sample_sizes=[4, 0, 2])
    plain = over_targets(name)(batch)
    leaf = batch.requires_grad_()
    assert_close(over_targets(name)(leaf).detach(), plain)
    assert plain[0, ::5].isnan().all() and plain[1].isinf().all() and plain[2].isfinite().all()
    over_targets(name)(leaf)[2].sum().backward()
    first = getattr(torch, name)(data[2, :2].detach(), 0).indices
    assert leaf.tensor.grad is not None
    assert torch.equal(leaf.tensor.grad[2].argmax(0), first) and leaf.tensor.grad.sum() == 40


@given(st.data())
def test_weighted_average(data: st.DataObject) -> None:
    batch = data.draw(ragged_batches(dtypes=(torch.float64, torch.float32, torch.int64), values=KINDS))
    raw = torch.randint(0, 3, batch.mask.shape, generator=torch.Generator().manual_seed(3)).float()
    weights = batch.create_with_sample_sizes_like_self(raw, batch.num_batch_dims).with_padded_set_to(NAN)
    result = ragged.average_over_targets(batch, weights, empty=-5)
    per_sample = result.reshape(batch.total_num_samples_in_batch, *result.shape[batch.num_batch_dims :])
    for computed, sample, weight in zip(per_sample, loops.entries(batch), loops.entries(weights), strict=True):
        aligned = weight.reshape(-1, *(1,) * (sample.dim() - 1))
        expected = (sample * aligned).sum(0) / weight.sum() if weight.any() else torch.full(sample.shape[1:], -5.0)
        assert_close(computed, expected)


def test_only_weights_that_are_all_zero_give_the_value_for_nothing() -> None:
    """A sum of 0 may be that of weights that cancel, and a tiny one is not 0."""
    numbers = RaggedBatch(torch.tensor([[3.0, 5.0, 9.0], [2.0, 2.0, 9.0]]).repeat(2, 1), sample_sizes=[2] * 4)
    weights = torch.tensor([[1.0, -1.0, 7.0], [1e-30, -1e-30, 7.0], [0.0, -0.0, 7.0], [1e-42, 0.0, 7.0]])
    result = ragged.average_over_targets(numbers, numbers.create_with_sample_sizes_like_self(weights), empty=-5)
    assert_close(result, torch.tensor([-INF, NAN, -5.0, 2.0]))


def test_weights_of_full_shape_and_both_gradients() -> None:
    batch = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(3, 3, 2, dtype=torch.float64, requires_grad=True)

    def average(data: Tensor, weights: Tensor) -> Tensor:
        return ragged.average_over_targets(
            RaggedBatch(data, sample_sizes=SIZES), RaggedBatch(weights, sample_sizes=SIZES)
        )

    assert gradcheck(average, (batch, weights)) and gradgradcheck(average, (batch, weights))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_exist_twice(name: str) -> None:
    data = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)

    def function(data: Tensor) -> Tensor:
        result = over_targets(name)(RaggedBatch(data, sample_sizes=SIZES))
        tensor = result.tensor if isinstance(result, RaggedBatch) else result
        return torch.where(tensor.isfinite(), tensor, 0.0)

    assert gradcheck(function, (data,)) and gradgradcheck(function, (data,))


def test_an_empty_sample_has_no_nan_on_the_way_to_its_gradient() -> None:
    data = torch.randn(3, 3, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):
        result = ragged.logsumexp_over_targets(RaggedBatch(data, sample_sizes=SIZES))
        (gradient,) = torch.autograd.grad(result.sum(), data)
    assert gradient.isfinite().all()


def test_gradients_of_sorted_values() -> None:
    data = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    for which in (ragged.sort_over_targets, lambda batch: ragged.topk_over_targets(batch, 2)):
        assert gradcheck(lambda data, which=which: which(RaggedBatch(data, sample_sizes=SIZES))[0].tensor, (data,))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("filler", [NAN, INF, -INF, 1e38])
@pytest.mark.parametrize("sizes", [[3, 0, 1], [0, 0, 0]])
def test_filler_changes_no_value_and_gets_no_gradient(name: str, filler: float, sizes: list[int]) -> None:
    clean = RaggedBatch(torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)), sample_sizes=sizes)
    outcomes = []
    for batch in (clean.with_padded_set_to(0), clean.with_padded_set_to(filler), clean.with_max_sample_size(9)):
        leaf = batch.detach().requires_grad_()
        result = over_targets(name)(leaf)
        if isinstance(result, RaggedBatch):
            result = result.with_max_sample_size(4).tensor
        torch.where(result.isfinite(), result, 0.0).square().sum().backward()
        gradient = leaf.tensor.grad
        assert gradient is not None
        assert not gradient[~leaf.mask].any()
        outcomes.append((result.detach(), gradient[:, :4]))
    for values, gradient in outcomes[1:]:
        assert torch.equal(values, outcomes[0][0])
        torch.testing.assert_close(gradient, outcomes[0][1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [*PER_SAMPLE, *PER_ENTRY, "sort"])
@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 3), (0, 4), (0, 0)])
def test_no_entries_and_no_samples(name: str, shape: tuple[int, ...]) -> None:
    batch = RaggedBatch(torch.zeros(shape), sample_sizes=torch.zeros(shape[0], dtype=torch.int64))
    result = over_targets(name)(batch)
    if isinstance(result, Tensor):
        assert result.shape == shape[:1] + shape[2:]
        assert (result.double() == float(PER_SAMPLE[name][2])).all()


@pytest.mark.parametrize("name", ["sum", "average", "max", "min", "logsumexp", "softmax", "log_softmax", "cumsum"])
def test_nan_among_the_entries_stays_visible(name: str) -> None:
    batch = RaggedBatch(torch.tensor([[1.0, NAN, 2.0], [1.0, 2.0, NAN]]), sample_sizes=[3, 2])
    result = over_targets(name)(batch)
    tensor = result.with_padded_set_to(0).tensor if isinstance(result, RaggedBatch) else result
    assert tensor[0].isnan().any()
    assert not tensor[1].isnan().any()


def test_nan_counts_as_extreme() -> None:
    batch = RaggedBatch(torch.tensor([[1.0, NAN, 2.0], [1.0, 2.0, NAN]]), sample_sizes=[3, 2])
    assert ragged.argmax_over_targets(batch).tolist() == [1, 1]
    assert ragged.argmin_over_targets(batch).tolist() == [1, 0]
    assert [order.tolist() for order in ragged.sort_over_targets(batch)[1].split()] == [[0, 2, 1], [0, 1]]


def test_valid_infinities_are_not_mistaken_for_filler() -> None:
    batch = RaggedBatch(torch.tensor([[-INF, -INF, 0.0], [INF, 0.0, 0.0]], requires_grad=True), sample_sizes=[2, 1])
    assert ragged.argmax_over_targets(batch).tolist() == [0, 0]
    assert ragged.max_over_targets(batch).tolist() == [-INF, INF]
    assert ragged.logsumexp_over_targets(batch).tolist() == [-INF, INF]
    ragged.max_over_targets(batch).sum().backward()
    assert batch.tensor.grad is not None
    assert batch.tensor.grad.tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int64])
def test_extremes_of_integers(dtype: torch.dtype) -> None:
    info = torch.iinfo(dtype)
    batch = RaggedBatch(
        torch.tensor([[info.min, info.max], [info.max, info.min], [3, 4]], dtype=dtype), sample_sizes=[1, 1, 0]
    )
    assert ragged.max_over_targets(batch).tolist() == [info.min, info.max, info.min]
    assert ragged.min_over_targets(batch).tolist() == [info.min, info.max, info.max]
    assert ragged.max_over_targets(batch, empty=7).tolist() == [info.min, info.max, 7]
    assert ragged.argmax_over_targets(batch).tolist() == [0, 0, -1]


def test_half_precision_is_accumulated_in_float32() -> None:
    batch = RaggedBatch.from_full_tensor(torch.full((1, 5000), 0.1, dtype=torch.bfloat16))
    assert abs(ragged.average_over_targets(batch).item() - 0.1) < 1e-3
    weights = RaggedBatch.from_full_tensor(torch.ones(1, 5000, dtype=torch.bfloat16))
    assert abs(ragged.average_over_targets(batch, weights).item() - 0.1) < 1e-3
    assert abs(ragged.logsumexp_over_targets(batch.half()).item() - (torch.tensor(5000.0).log() + 0.1)) < 1e-2


def test_half_precision_weights_are_added_up_in_float32() -> None:
    ones = RaggedBatch.from_full_tensor(torch.ones(1, 257))  # no number of bfloat16
    assert ragged.average_over_targets(ones, ones.bfloat16()).tolist() == [1.0]


def test_result_dtypes() -> None:
    integers = RaggedBatch(torch.ones(2, 2, dtype=torch.int32), sample_sizes=[1, 2])
    assert ragged.sum_over_targets(integers).dtype == torch.int64
    assert ragged.average_over_targets(integers).dtype == torch.float32
    assert ragged.sum_over_targets(integers.cfloat()).tolist() == [1, 2]
    assert ragged.average_over_targets(integers.half()).dtype == torch.float16
    assert ragged.average_over_targets(integers.half(), integers.float()).dtype == torch.float32
    assert ragged.average_over_targets(integers, integers.double()).dtype == torch.float64
    assert ragged.max_over_targets(integers.bool()).tolist() == [True, True]


def test_a_permuted_batch_gives_permuted_results() -> None:
    batch = RaggedBatch(torch.randn(5, 4), sample_sizes=[4, 0, 1, 2, 3])
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = RaggedBatch(batch.tensor[order], sample_sizes=batch.sample_sizes[order])
    for name in PER_SAMPLE:
        assert torch.equal(over_targets(name)(permuted), over_targets(name)(batch)[order])


def test_errors() -> None:
    numbers = RaggedBatch(torch.ones(2, 2), sample_sizes=[1, 2])
    with pytest.raises(TypeError, match=r"data must be real to be ordered, got torch\.complex64"):
        ragged.max_over_targets(numbers.cfloat())
    with pytest.raises(TypeError, match=r"softmax_over_targets needs floating point data, got torch\.int64"):
        ragged.softmax_over_targets(numbers.long())
    with pytest.raises(TypeError, match=r"logsumexp_over_targets needs floating point data"):
        ragged.logsumexp_over_targets(numbers.bool())
    with pytest.raises(ValueError, match="k must not be negative, got -1"):
        ragged.topk_over_targets(numbers, -1)
    with pytest.raises(ValueError, match="must be representable in"):
        ragged.max_over_targets(numbers.long(), empty=0.5)
    with pytest.raises(ValueError, match="data and weights: sample sizes differ, 1 and 2 for sample 0"):
        ragged.average_over_targets(numbers, RaggedBatch(torch.ones(2, 2), sample_sizes=[2, 2]))
