"""RaggedBatch itself: construction and its errors, conversions, item access, printing, comparison."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ragged import RaggedBatch, combine_data

MASK = torch.tensor([[True, True, False], [False, False, False]])


@pytest.fixture
def batch() -> RaggedBatch:
    return RaggedBatch(torch.arange(12.0).view(2, 3, 2), sample_sizes=[2, 0])


def test_mask_and_sizes_describe_the_same() -> None:
    tensor = torch.zeros(2, 3)
    for arguments in ({"mask": MASK}, {"sample_sizes": [2, 0]}, {"mask": MASK, "sample_sizes": torch.tensor([2, 0])}):
        batch = RaggedBatch(tensor, **arguments)
        assert torch.equal(batch.mask, MASK)
        assert batch.sample_sizes.tolist() == [2, 0]
        assert batch.sample_sizes.dtype == torch.int64
    assert RaggedBatch(tensor, sample_sizes=torch.tensor([2, 0], dtype=torch.uint8)).sample_sizes.dtype == torch.int64


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "RaggedBatch needs mask or sample_sizes, got neither", {}),
        (ValueError, r"between 0 and 3, .* got 4 for sample 1", {"sample_sizes": [1, 4]}),
        (ValueError, r"got -1 for sample 0", {"sample_sizes": [-1, 0]}),
        (TypeError, r"sample_sizes must be integers, got torch\.float32", {"sample_sizes": torch.tensor([1.0, 2.0])}),
        (TypeError, r"sample_sizes must be integers, got torch\.bool", {"sample_sizes": [True, False]}),
        (TypeError, r"mask must be a boolean tensor, got torch\.int64", {"mask": MASK.long()}),
        (TypeError, r"mask must be a boolean tensor, got list", {"mask": MASK.tolist()}),
        (ValueError, r"first entries of a sample, then false, got a valid entry after filler in sample 0", {"mask": MASK.flip(1)}),
        (ValueError, r"must agree, got 2 true entries and size 1 for sample 0", {"mask": MASK, "sample_sizes": [1, 0]}),
        (ValueError, r"mask must have shape .* = \(2, 3\) to fit the tensor, got \(2, 2\)", {"mask": MASK[:, :2]}),
        (ValueError, r"tensor of shape \(2, 3\) must begin with the batch shape \(3,\)", {"sample_sizes": [1, 1, 1]}),
        (IndexError, r"non_uniform_dim must be a dimension from 1 to 1 .*, got 2", {"sample_sizes": [1, 1], "non_uniform_dim": 2}),
        (IndexError, r"non_uniform_dim must be a dimension from 1 to 1 .*, got 0", {"sample_sizes": [1, 1], "non_uniform_dim": 0}),
        (ValueError, r"must be on the device of tensor \(cpu\), got meta", {"mask": MASK.to("meta")}),
    ],
)  # fmt: skip
def test_bad_construction(error: type[Exception], words: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(error, match=words):
        RaggedBatch(torch.zeros(2, 3), **arguments)


def test_more_bad_construction() -> None:
    with pytest.raises(TypeError, match="tensor must be a torch.Tensor, got list"):
        RaggedBatch([[1.0]], sample_sizes=[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got 9 for sample \(0, 1\)"):
        RaggedBatch(torch.zeros(1, 2, 3), sample_sizes=[[1, 9]])
    with pytest.raises(ValueError, match="num_batch_dims must not be negative"):
        RaggedBatch.from_full_tensor(torch.zeros(2, 3), num_batch_dims=-1)


def test_properties() -> None:
    batch = RaggedBatch(torch.zeros(2, 1, 5, 3), sample_sizes=[[2], [0]], non_uniform_dim=-1)
    assert (batch.num_batch_dims, batch.non_uniform_dim, batch.ragged_axis) == (2, 3, 1)
    assert (batch.batch_shape, batch.shape, batch.max_sample_size) == ((2, 1), (2, 1, 5, 3), 3)
    assert (batch.total_num_entries, batch.total_num_samples_in_batch, batch.largest_sample_size()) == (2, 2, 2)
    assert (batch.dim(), batch.size(), batch.size(2)) == (4, (2, 1, 5, 3), 5)
    assert (batch.dtype, batch.device) == (torch.float32, torch.device("cpu"))
    assert batch.aligned_mask.shape == (2, 1, 1, 3)
    weights = batch.get_existence_weights(torch.float64)
    assert weights.tensor.tolist() == [[[1, 1, 0]], [[0, 0, 0]]]
    assert (weights.dtype, weights.non_uniform_dim) == (torch.float64, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64])
def test_existence_weights_in_the_shape_of_the_data(dtype: torch.dtype) -> None:
    batch = RaggedBatch(torch.full((2, 1, 5, 3), torch.nan), sample_sizes=[[2], [0]], non_uniform_dim=-1)
    weights = batch.get_existence_weights(dtype, in_data_shape=True)
    assert (weights.shape, weights.dtype, weights.non_uniform_dim) == (batch.shape, dtype, 3)
    assert weights.tensor[0].float().sum((0, 1)).tolist() == [5, 5, 0] and not weights.tensor[1].any()
    weights.tensor[...] = 1  # data of its own, one number for each
    assert batch.mask.sum() == 2


def test_other_constructors() -> None:
    full = RaggedBatch.from_full_tensor(torch.zeros(2, 3, 4), num_batch_dims=2)
    assert full.sample_sizes.tolist() == [[4] * 3] * 2
    oversize = RaggedBatch.from_oversize_tensor(torch.ones(2, 9), sample_sizes=[2, 1])
    assert oversize.shape == (2, 2)
    assert RaggedBatch.from_oversize_tensor(torch.ones(2, 9), sample_sizes=[2, 1], max_size=5).shape == (2, 5)
    with pytest.raises(ValueError, match="max_size must be at least 2, the size of sample 0, got 1"):
        RaggedBatch.from_oversize_tensor(torch.ones(2, 9), sample_sizes=[2, 1], max_size=1)
    empty = RaggedBatch.empty((2, 3), (4,), dtype=torch.int32)
    assert (empty.shape, empty.dtype, empty.total_num_entries) == ((2, 3, 0, 4), torch.int32, 0)


def test_more_and_less_padding(batch: RaggedBatch) -> None:
    wide = batch.with_max_sample_size(5)
    assert wide.tensor[:, 3:].eq(0).all()
    assert wide.equal(batch) and wide.with_max_sample_size(2).equal(batch)
    with pytest.raises(ValueError, match="max_size must not be negative, got -1"):
        batch.with_max_sample_size(-1)


def test_create_with_sample_sizes_like_self(batch: RaggedBatch) -> None:
    cost = batch.create_with_sample_sizes_like_self(torch.zeros(2, 7, 3), non_uniform_dim=2)
    assert cost.mask is batch.mask and cost.sample_sizes is batch.sample_sizes
    with pytest.raises(
        ValueError, match=r"tensor must have batch shape \(2,\) and size 3 in dimension 1, got .* \(2, 7, 3\)"
    ):
        batch.create_with_sample_sizes_like_self(torch.zeros(2, 7, 3))
    with pytest.raises(ValueError, match="tensor must be on the device of this batch"):
        batch.create_with_sample_sizes_like_self(torch.zeros(2, 3, device="meta"))


@pytest.mark.parametrize("source", ["cpu", "meta"])
def test_create_with_sample_sizes_like_self_elsewhere(batch: RaggedBatch, source: str) -> None:
    moved = batch.create_with_sample_sizes_like_self(torch.zeros(2, 7, 3, device=source), 2, device="meta")
    assert (moved.shape, moved.non_uniform_dim) == ((2, 7, 3), 2)
    assert {part.device.type for part in (moved.tensor, moved.mask, moved.sample_sizes)} == {"meta"}
    same = batch.create_with_sample_sizes_like_self(batch.tensor, device=torch.device("cpu"))
    assert same.tensor is batch.tensor and same.mask is batch.mask
    with pytest.raises(ValueError, match="tensor must have batch shape"):
        batch.create_with_sample_sizes_like_self(torch.zeros(2, 4), device="meta")


class Masked:
    """Callables that take the mask too: a method, and an object."""

    def method(self, tensor: Tensor, mask: Tensor) -> Tensor:
        return tensor * mask.unsqueeze(-1)

    __call__ = method


@pytest.mark.parametrize(
    "function",
    [
        lambda tensor: tensor + 1, torch.exp, nn.Linear(2, 2), partial(torch.mul, other=3), Masked().method, Masked(),
        lambda tensor, mask: tensor * mask.unsqueeze(-1), lambda tensor, mask, sizes: tensor + sizes.view(-1, 1, 1),
        lambda tensor, scale=2: tensor * scale, partial(lambda tensor, mask, shift: tensor + shift, shift=1),
    ],
)  # fmt: skip
def test_apply_any_callable(function: Any, batch: RaggedBatch) -> None:
    result = batch.apply(function)
    assert result.mask is batch.mask
    assert result.shape == (2, 3, 2)


def test_apply_passes_what_is_asked_for(batch: RaggedBatch) -> None:
    seen: list[Any] = []
    batch.apply(lambda *parts: seen.extend(parts) or parts[0])
    batch.apply(lambda tensor, mask, sizes: seen.extend((tensor, mask, sizes)) or tensor)
    assert all(each.shape == batch.shape and each[batch.mask].equal(batch.tensor[batch.mask]) for each in seen[:2])
    assert seen[2] is batch.mask and seen[3] is batch.sample_sizes
    first, second = batch.apply(lambda tensor: (tensor, tensor.sum(-1)))
    assert (first.shape, second.shape) == ((2, 3, 2), (2, 3))
    with pytest.raises(TypeError, match="apply needs a function of 1 to 3 arguments .*, got 4"):
        batch.apply(lambda a, b, c, d: a)
    with pytest.raises(ValueError, match="tensor must have batch shape"):
        batch.apply(lambda tensor: tensor.sum())


def test_filler_can_be_set(batch: RaggedBatch) -> None:
    before = batch.tensor
    other = batch.clone()
    batch.set_padded_to(-1)
    assert batch.tensor[1].eq(-1).all() and batch.tensor[0, :2].equal(before[0, :2])
    assert other.tensor.equal(before)
    batch.set_tensor(torch.zeros(2, 3))
    assert batch.shape == (2, 3)
    with pytest.raises(ValueError, match="tensor must have batch shape"):
        batch.set_tensor(torch.zeros(2, 4))
    with pytest.raises(
        dataclasses.FrozenInstanceError, match=r"RaggedBatch\.tensor must keep .* shape \(2, 3\) .* \(2, 3, 2\)"
    ):
        batch.tensor = before  # type: ignore[misc]


def assign(batch: RaggedBatch, name: str, value: Any) -> None:
    setattr(batch, name, value)


def test_fields_take_what_says_the_same_of_the_samples(batch: RaggedBatch) -> None:
    other, replaced = batch.clone(), batch.tensor.double() + 1
    assign(batch, "tensor", replaced)
    assert batch.tensor is replaced and other.dtype == torch.float32
    assign(batch, "ragged_axis", 0)
    for name in ("mask", "sample_sizes"):
        same = getattr(batch, name).clone()
        assign(batch, name, same)
        assert getattr(batch, name) is same and getattr(other, name) is not same
    for name in ("tensor", "mask", "sample_sizes"):
        assign(batch, name, getattr(batch, name).to("meta"))
    assert batch.device.type == batch.mask.device.type == "meta"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tensor", torch.zeros(2, 3, 1), r"a tensor of shape \(2, 3, 2\) and torch\.float32, got a tensor"),
        ("tensor", torch.zeros(2, 3, 2).long(), "kind of dtype"),
        ("tensor", torch.zeros(2, 3, 2).cfloat(), "kind of dtype"),
        ("tensor", None, "got None"),
        ("tensor", RaggedBatch(torch.zeros(2, 3, 2), sample_sizes=[2, 0]), "got a RaggedBatch"),
        ("mask", MASK.flip(0), "RaggedBatch.mask must keep all values"),
        ("mask", MASK.int(), "kind of dtype"),
        ("sample_sizes", torch.tensor([1, 1]), "RaggedBatch.sample_sizes must keep all values"),
        ("ragged_axis", 1, "RaggedBatch.ragged_axis must keep .* expected 0, got 1"),
        ("ragged_axis", False, "expected 0, got False"),
        ("shape", (2, 3), "no field 'shape' to assign to"),
    ],
)  # fmt: skip
def test_fields_take_nothing_else(batch: RaggedBatch, name: str, value: Any, words: str) -> None:
    before = getattr(batch, name)
    with pytest.raises(dataclasses.FrozenInstanceError, match=words):
        assign(batch, name, value)
    assert getattr(batch, name) is before or name == "shape"


@pytest.mark.graphs
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_assigning_is_compiled(batch: RaggedBatch, backend: str) -> None:
    def doubled(batch: RaggedBatch) -> RaggedBatch:
        copy = batch.clone()
        assign(copy, "tensor", batch.tensor * 2)
        return copy + 1

    assert torch.compile(doubled, fullgraph=True, backend=backend)(batch).equal(batch * 2 + 1)


def test_assigning_under_vmap() -> None:
    def doubled(tensor: Tensor) -> Tensor:
        batch = RaggedBatch(tensor, sample_sizes=[2, 0])
        assign(batch, "tensor", tensor * 2)
        assign(batch, "mask", batch.mask.clone())
        return batch.tensor

    assert torch.vmap(doubled)(torch.ones(4, 2, 3)).equal(torch.full((4, 2, 3), 2.0))


def test_subclasses_keep_attributes_of_their_own() -> None:
    class Named(RaggedBatch):
        pass

    named = Named(torch.zeros(2, 3), sample_sizes=[2, 0])
    assign(named, "note", "kept")
    assert named.note == "kept"  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        assign(named, "tensor", torch.zeros(2, 4))


def test_requires_grad_can_be_set(batch: RaggedBatch) -> None:
    batch.requires_grad = True
    assert batch.requires_grad and batch.tensor.requires_grad
    batch.requires_grad = False
    assert not batch.tensor.requires_grad
    numbers = batch.long()
    numbers.requires_grad = False
    with pytest.raises(TypeError, match=r"only floating point data can require a gradient, got torch\.int64"):
        numbers.requires_grad = True


@pytest.mark.parametrize("contiguous", [True, False])
def test_replaced_filler_gets_no_gradient(contiguous: bool) -> None:
    tensor = torch.full((2, 3, 2), torch.nan, requires_grad=True)
    batch = RaggedBatch(tensor, sample_sizes=[2, 0])
    upstream = torch.full((2, 3, 2), 4.0) if contiguous else torch.full((2, 2, 3), 4.0).transpose(1, 2)
    batch.with_padded_set_to(0).tensor.backward(upstream)
    assert tensor.grad is not None
    assert tensor.grad.tolist() == [[[4, 4], [4, 4], [0, 0]], [[0, 0]] * 3]


@pytest.mark.parametrize(("dtype", "value"), [(torch.int64, 0.5), (torch.uint8, -1), (torch.bool, 2), (torch.float16, 1e6),
                                              (torch.float32, 1j), (torch.int32, float("nan"))])  # fmt: skip
def test_filler_must_fit_the_dtype(batch: RaggedBatch, dtype: torch.dtype, value: complex) -> None:
    with pytest.raises(ValueError, match="a filler value must be representable in"):
        batch.to_dtype(dtype).with_padded_set_to(value)


def test_dimensions_move_with_the_ragged_one() -> None:
    batch = RaggedBatch(torch.rand(2, 3, 4, 5), sample_sizes=[4, 1], non_uniform_dim=2)
    moved = batch.get_non_uniform_dimension_transposed_to(1)
    assert (moved.shape, moved.non_uniform_dim) == ((2, 4, 3, 5), 1)
    assert moved.get_non_uniform_dimension_transposed_to(-2).equal(batch)
    for dim, shape, ragged_dim in ((1, (2, 1, 3, 4, 5), 3), (3, (2, 3, 4, 1, 5), 2), (-1, (2, 3, 4, 5, 1), 2)):
        wider = batch.unsqueeze_data_dim(dim)
        assert (wider.shape, wider.non_uniform_dim) == (shape, ragged_dim)
    for call in (batch.unsqueeze_data_dim, batch.get_non_uniform_dimension_transposed_to):
        with pytest.raises(IndexError, match="dim must be a dimension from 1"):
            call(0)


def test_conversions(batch: RaggedBatch) -> None:
    shorthands = {
        "bool": torch.bool, "int": torch.int32, "long": torch.int64, "half": torch.float16, "bfloat16": torch.bfloat16,
        "float": torch.float32, "double": torch.float64, "cfloat": torch.complex64, "cdouble": torch.complex128,
    }  # fmt: skip
    for name, dtype in shorthands.items():
        assert getattr(batch, name)().dtype == dtype
        assert batch.to(dtype).mask is batch.mask
    meta = batch.to("meta", torch.float64)
    assert {meta.tensor.device, meta.mask.device, meta.sample_sizes.device} == {torch.device("meta")}
    assert (meta.dtype, meta.mask.dtype, meta.sample_sizes.dtype) == (torch.float64, torch.bool, torch.int64)
    assert batch.to_device("meta").device.type == "meta" and batch.cpu().equal(batch)
    clone = batch.clone()
    clone[0, 0] = 7
    assert not clone.equal(batch)
    clone[:] = clone * 2
    assert clone[0, 0, 0] == 14
    assert batch[0].equal(batch.tensor[0])


def test_gradient_flags(batch: RaggedBatch) -> None:
    assert batch.requires_grad_() is batch and batch.requires_grad
    double = batch * 2
    double.retain_grad()
    assert double.retains_grad and not double.detach().requires_grad
    double.tensor.sum().backward()
    assert double.tensor.grad is not None


def test_traps_raise(batch: RaggedBatch) -> None:
    with pytest.raises(TypeError, match="truth value of a RaggedBatch is ambiguous"):
        bool(batch > 1)
    with pytest.raises(TypeError, match="not iterable"):
        iter(batch)


def test_printing(batch: RaggedBatch) -> None:
    text = repr(batch.requires_grad_())
    assert "sample_sizes=[2, 0]" in text and "requires_grad=True" in text
    assert "[0] tensor([[0., 1.],\n" in text and "[1] tensor([], size=(0, 2))" in text
    assert "8." not in text  # filler
    assert "… and 94 more" in repr(RaggedBatch.empty(100))
    assert "[0, 1] tensor" in repr(RaggedBatch.empty((1, 2)))
    assert repr(batch.to("meta")).count("\n") == 0
    with torch._subclasses.FakeTensorMode():
        assert "RaggedBatch" in repr(RaggedBatch.empty(2))


def test_equal_and_allclose_see_valid_entries_alone(batch: RaggedBatch) -> None:
    other = batch.with_padded_set_to(float("nan")).with_max_sample_size(8)
    assert batch.equal(other) and batch.allclose(other + 1e-9)
    assert not batch.equal(batch + 1) and not batch.allclose(batch + 1)
    assert not batch.equal(batch.double())
    assert not batch.equal(RaggedBatch(batch.tensor, sample_sizes=[2, 1]))
    assert not batch.equal(batch.unsqueeze_data_dim(-1))
    assert not batch.equal(batch.unsqueeze_batch_dim(0))
    nan = batch * float("nan")
    assert not nan.allclose(nan) and nan.allclose(nan, equal_nan=True)


def test_copies(batch: RaggedBatch) -> None:
    assert copy.copy(batch).tensor is batch.tensor
    deep = copy.deepcopy(batch)
    assert deep.equal(batch) and deep.tensor is not batch.tensor


@pytest.mark.parametrize(
    "call",
    [lambda a, b: a * b, lambda a, b: b * a, lambda a, b: a < b, lambda a, b: np.add(a, b), lambda a, b: np.exp(b)],
)
def test_numpy_arrays_are_refused_and_make_no_object_arrays(call: Any, batch: RaggedBatch) -> None:
    with pytest.raises(TypeError):
        call(np.ones(2), batch)


def test_comparison_is_elementwise_and_identity_hashes(batch: RaggedBatch) -> None:
    same = batch.clone()
    assert isinstance(batch == same, RaggedBatch) and (batch == same).split()[0].all()
    assert (batch != 1.0).dtype == torch.bool
    assert (batch == None) is False and batch != None  # noqa: E711
    assert len({batch, same, batch}) == 2 and {batch: 1}[batch] == 1
    with pytest.raises(TypeError, match="truth value"):
        assert batch in [same]
    assert batch in [same.tensor.sum(), batch][1:]


def test_neither_a_sequence_nor_open_to_new_attributes(batch: RaggedBatch) -> None:
    with pytest.raises(TypeError, match="not iterable|not a container"):
        assert 1.0 in batch  # type: ignore[operator]
    with pytest.raises(TypeError, match="has no len\(\); use batch_shape"):
        len(batch)
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.note = 1  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del batch.mask


def test_no_batch_dimension_at_all() -> None:
    sample = RaggedBatch(torch.arange(3.0), sample_sizes=2)  # type: ignore[arg-type]
    assert (sample.num_batch_dims, sample.non_uniform_dim, sample.total_num_samples_in_batch) == (0, 0, 1)
    assert sample.split().tolist() == [0, 1] and sample.mask.tolist() == [True, True, False]
    assert sample.unsqueeze_batch_dim(0).batch_shape == (1,) and sample.flatten_batch_dims().batch_shape == (1,)
    with pytest.raises(ValueError, match="got 4 for the sample"):
        RaggedBatch(torch.arange(3.0), sample_sizes=torch.tensor(4))


DIVISIONS = [
    lambda a, b: a // b, lambda a, b: a % b, lambda a, b: 12 // b, torch.fmod,
    lambda a, b: torch.div(a, b, rounding_mode="trunc"),
]  # fmt: skip


@pytest.mark.parametrize("divide", DIVISIONS)
def test_integers_can_be_divided_whatever_the_filler(divide: Any) -> None:
    dividend, divisor = combine_data([[12, 12], [12]]), combine_data([[4, 6], [3]])  # filler 0
    expected = divide(dividend, divisor.with_padded_set_to(1))
    assert divide(dividend, divisor).equal(expected)


@pytest.mark.parametrize("filler", [7.0, float("nan")])
@pytest.mark.parametrize("which", [0, 1])
def test_filler_need_not_be_a_probability(which: int, filler: float) -> None:
    operands = [combine_data([[0.5, 0.25], [0.75]]), combine_data([[1.0, 0.0], [1.0]])]
    expected = nn.functional.binary_cross_entropy(*operands, reduction="none")
    operands[which] = operands[which].with_padded_set_to(filler)
    assert nn.functional.binary_cross_entropy(*operands, reduction="none").equal(expected)


@pytest.mark.xfail(strict=True, raises=ValueError, reason="the variances of filler are checked, too; this also waits")
def test_filler_need_not_be_a_variance() -> None:
    mean, variance = combine_data([[0.5, 0.25], [0.75]]), combine_data([[1.0, 2.0], [3.0]])
    expected = nn.functional.gaussian_nll_loss(mean, mean, variance, reduction="none")
    dirty = variance.with_padded_set_to(-1)
    assert nn.functional.gaussian_nll_loss(mean, mean, dirty, reduction="none").equal(expected)


@pytest.mark.parametrize("scale", [lambda b: b / 0, lambda b: b * float("inf"), lambda b: b * float("nan")])
def test_filler_gets_no_gradient_from_an_infinite_number(scale: Any) -> None:
    batch = combine_data([[0.5, 0.25], [0.75]]).requires_grad_()
    scale(batch).with_padded_set_to(0).tensor.sum().backward()
    assert batch.tensor.grad is not None and batch.tensor.grad[1, 1] == 0


def test_where_without_alternatives_is_refused(batch: RaggedBatch) -> None:
    with pytest.raises(TypeError, match="where"):
        torch.where(batch > 1)


def test_numpy_scalars_and_arrays(batch: RaggedBatch) -> None:
    assert isinstance(np.float32(2) * batch, RaggedBatch)
    assert combine_data([np.ones(2), np.ones(0)]).dtype == torch.float64


def test_numbers_of_numpy_are_numbers() -> None:
    batch = RaggedBatch(torch.ones(2, 3), sample_sizes=np.array([3, 1]))
    assert batch.with_max_sample_size(np.int64(5)).shape == (2, 5)
    with pytest.raises(ValueError, match="max_size must not be negative, got -1"):
        batch.with_max_sample_size(np.int32(-1))
