"""Elementwise torch functions and operators: what is let through, what is refused, and where gradients go."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ragged
from ragged import RaggedBatch, combine_data
from ragged.values import masked

NAN, INF = float("nan"), float("inf")
SIZES = [3, 0, 1]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LOGICAL = [operator.and_, operator.or_, operator.xor]
UNARY = [
    torch.exp, torch.log, torch.sqrt, torch.sigmoid, torch.tanh, torch.abs, torch.isnan, torch.ones_like, torch.clone,
    F.softplus, F.relu, F.gelu, F.logsigmoid, torch.special.expit, torch.nan_to_num, operator.neg, operator.pos, abs,
    partial(torch.clamp, min=0.5), partial(torch.pow, exponent=2), partial(torch.round, decimals=1),
]  # fmt: skip
# Their derivative at 0, at infinity or at NaN is not finite.
HAZARDOUS = [torch.log, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.exp, torch.acos, torch.square, torch.logit]


@pytest.fixture(autouse=True, params=[0, masked.MANY_NUMBERS], ids=["filler as bits", "by size"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "MANY_NUMBERS", request.param)


def batch_of(filler: float = NAN, low: float = 0.1) -> RaggedBatch:
    tensor = low + torch.rand(3, 3, 2, generator=torch.Generator().manual_seed(0)) * 0.8
    return RaggedBatch(tensor, sample_sizes=SIZES).with_padded_set_to(filler)


def assert_holds(result: Any, expected: Tensor, like: RaggedBatch) -> None:
    assert isinstance(result, RaggedBatch)
    assert result.mask is like.mask
    assert result.sample_sizes is like.sample_sizes
    assert result.dtype == expected.dtype
    torch.testing.assert_close(result.tensor[like.mask], expected[like.mask], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("function", UNARY)
def test_unary_functions(function: Callable[[Any], Any]) -> None:
    batch = batch_of()
    assert_holds(function(batch), function(batch.tensor), batch)


@pytest.mark.parametrize("function", [*BINARY, *COMPARISONS], ids=lambda function: function.__name__)
@pytest.mark.parametrize("grad", [False, True])
def test_operators_with_numbers_tensors_and_batches(function: Callable[[Any, Any], Any], grad: bool) -> None:
    batch = batch_of().requires_grad_(grad)
    other = batch.create_with_sample_sizes_like_self(torch.rand(3, 3, 2) + 0.5)
    for operand in (2, 0.5, np.float32(2), np.float64(2), torch.tensor(2.0), torch.rand(2), torch.rand(3, 1, 2)):
        assert_holds(function(batch, operand), function(batch.tensor, operand), batch)
        assert_holds(function(operand, batch), function(operand, batch.tensor), batch)
    assert_holds(function(batch, other), function(batch.tensor, other.tensor), batch)


@pytest.mark.parametrize("function", LOGICAL, ids=lambda function: function.__name__)
def test_logical_operators(function: Callable[[Any, Any], Any]) -> None:
    mask = batch_of(0) > 0.5
    other = batch_of(0) > 0.3
    other = mask.create_with_sample_sizes_like_self(other.tensor)
    assert_holds(function(mask, other), function(mask.tensor, other.tensor), mask)
    assert_holds(function(True, mask), function(True, mask.tensor), mask)
    assert_holds(~mask, ~mask.tensor, mask)


def test_functions_of_several_arguments() -> None:
    batch, other = batch_of(), batch_of(0)
    other = batch.create_with_sample_sizes_like_self(other.tensor)
    assert_holds(torch.where(batch > 0.5, batch, 0.0), torch.where(batch.tensor > 0.5, batch.tensor, 0.0), batch)
    assert_holds(torch.maximum(batch, other), torch.maximum(batch.tensor, other.tensor), batch)
    assert_holds(torch.lerp(batch, other, 0.5), torch.lerp(batch.tensor, other.tensor, 0.5), batch)
    assert_holds(torch.add(torch.ones(2), other=batch), 1 + batch.tensor, batch)


@pytest.mark.parametrize("function", HAZARDOUS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("filler", [0.0, 1.0, NAN, INF, -INF])
def test_filler_gets_no_gradient_from_hazardous_functions(function: Any, filler: float) -> None:
    batch = batch_of(filler).requires_grad_()
    ragged.sum_over_targets(function(batch)).sum().backward()
    clean = batch_of(0.5).requires_grad_()
    ragged.sum_over_targets(function(clean)).sum().backward()
    assert batch.tensor.grad is not None
    assert torch.equal(batch.tensor.grad, clean.tensor.grad)
    assert not batch.tensor.grad[~batch.mask].any()


@pytest.mark.parametrize(
    "function",
    [torch.mul, torch.div, torch.pow, torch.atan2, torch.xlogy],
    ids=lambda function: getattr(function, "__name__", None),
)
@pytest.mark.parametrize("filler", [0.0, NAN, INF])
def test_gradient_of_a_dense_operand_does_not_see_filler(function: Any, filler: float) -> None:
    gradients = []
    for fill in (filler, 0.5):
        for swap in (False, True):
            dense = torch.tensor([0.5, 2.0], requires_grad=True)
            operands = (dense, batch_of(fill)) if swap else (batch_of(fill), dense)
            ragged.sum_over_targets(function(*operands)).sum().backward()
            gradients.append(dense.grad)
    assert torch.equal(gradients[0], gradients[2])
    assert torch.equal(gradients[1], gradients[3])


def test_gradient_of_a_product_of_batches_does_not_see_filler() -> None:
    first, second = batch_of(NAN).requires_grad_(), batch_of(INF)
    second = first.create_with_sample_sizes_like_self(second.tensor).requires_grad_()
    ragged.sum_over_targets(first * second / (second + 1)).sum().backward()
    for batch in (first, second):
        assert batch.tensor.grad is not None
        assert batch.tensor.grad[batch.mask].all()
        assert not batch.tensor.grad[~batch.mask].any()


@pytest.mark.parametrize(
    ("call", "instead"),
    [
        (torch.sum, "sum_over_targets"), (torch.mean, "average_over_targets"), (torch.max, "max_over_targets"),
        (torch.amin, "min_over_targets"), (torch.any, "any_over_targets"), (torch.all, "all_over_targets"),
        (torch.count_nonzero, "count_over_targets"), (partial(torch.softmax, dim=1), "softmax_over_targets"),
        (partial(F.softmax, dim=1), "softmax_over_targets"), (partial(torch.logsumexp, dim=1), "logsumexp_over_targets"),
        (partial(F.log_softmax, dim=1), "log_softmax_over_targets"), (torch.argmax, "argmax_over_targets"),
        (partial(torch.cumsum, dim=1), "cumsum_over_targets"), (partial(torch.sort, dim=1), "sort_over_targets"),
        (partial(torch.topk, k=1, dim=1), "topk_over_targets"), (lambda b: torch.cat([b, b], 1), "cat_targets"),
        (torch.flatten, "pack"), (torch.nonzero, "get_indices_from_mask"),
        (lambda b: torch.gather(b, 1, torch.zeros(3, 1, 2, dtype=torch.int64)), "batched_indexing_access"),
        (lambda b: torch.masked_select(b, b.mask), "batched_bool_indexing"), (partial(torch.sum, dim=(1, 2)), "sum"),
    ],
)  # fmt: skip
def test_functions_that_would_mix_in_filler_name_the_right_one(call: Any, instead: str) -> None:
    with pytest.raises(
        TypeError, match=rf"would mix filler into the result of a RaggedBatch; use .*\bragged\.\w*{instead}"
    ):
        call(batch_of())


def test_every_suggested_function_exists() -> None:
    from ragged.batch.torch_functions import INSTEAD

    for text in INSTEAD.values():
        for owner, name in re.findall(r"(ragged|RaggedBatch)\.(\w+)", text):
            assert hasattr(RaggedBatch if owner == "RaggedBatch" else ragged, name), text


def test_unknown_functions_and_out_are_refused() -> None:
    with pytest.raises(TypeError, match=r"torch\.cdist is not supported for a RaggedBatch"):
        torch.cdist(batch_of(), batch_of())
    with pytest.raises(TypeError, match="does not support out="):
        torch.exp(batch_of(), out=torch.empty(3, 3, 2))
    with pytest.raises(TypeError, match="unsupported operand"):
        batch_of() + "text"
    with pytest.raises(TypeError, match="unsupported operand"):
        np.ones(2) * batch_of()


def test_losses_are_elementwise_if_not_reduced() -> None:
    batch = batch_of()
    target = batch.create_with_sample_sizes_like_self(torch.rand(3, 3, 2))
    for loss in (F.l1_loss, F.mse_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits):
        assert_holds(loss(batch, target, reduction="none"), loss(batch.tensor, target.tensor, reduction="none"), batch)
        with pytest.raises(TypeError, match="would average over filler; pass reduction='none'"):
            loss(batch, target)
    assert_holds(nn.L1Loss(reduction="none")(batch, target), (batch.tensor - target.tensor).abs(), batch)


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "any", "argmin", "logsumexp", "std", "softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [1, 3, -1, -3])
@pytest.mark.parametrize("keepdim", [False, True])
def test_functions_along_data_dimensions(name: str, dim: int, keepdim: bool) -> None:
    tensor = torch.rand(2, 4, 3, 5)
    batch = RaggedBatch(tensor, sample_sizes=[3, 1], non_uniform_dim=2).with_padded_set_to(NAN)
    arguments: dict[str, Any] = {"dim": dim} if "softmax" in name else {"dim": dim, "keepdim": keepdim}
    result = getattr(torch, name)(batch, **arguments)
    for computed, sample in zip(result.split(), batch.split(), strict=True):
        inner = {**arguments, "dim": dim - 1 if dim > 0 else dim}
        torch.testing.assert_close(computed, getattr(torch, name)(sample, **inner))


def test_several_data_dimensions_and_their_gradient() -> None:
    batch = RaggedBatch(torch.full((2, 4, 3, 5), NAN), sample_sizes=[3, 1], non_uniform_dim=2)
    batch = batch.create_with_sample_sizes_like_self(torch.where(batch.aligned_mask, 1.0, NAN)).requires_grad_()
    summed = torch.sum(torch.softmax(batch, 3) * batch, dim=(1, -1))
    assert summed.shape == (2, 3)
    assert summed.non_uniform_dim == 1
    ragged.sum_over_targets(summed).sum().backward()
    assert batch.tensor.grad is not None
    assert batch.tensor.grad.isfinite().all()


def test_batches_that_do_not_line_up() -> None:
    batch = combine_data([[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match="add: sample sizes differ, 2 and 1 for sample 0"):
        batch + combine_data([[1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match=r"padded to 2 and 4 entries; use with_max_sample_size"):
        batch * batch.with_max_sample_size(4)
    with pytest.raises(ValueError, match=r"do not line up; use unsqueeze_data_dim"):
        batch * batch.unsqueeze_data_dim(-1)
    with pytest.raises(ValueError, match=r"must have the same batch shape, got \(2,\) and \(3,\)"):
        batch + combine_data([[1.0], [1.0], [1.0]])
    with pytest.raises(ValueError, match=r"has more dimensions than the batch of shape \(2, 2\)"):
        batch + torch.zeros(2, 2, 1)
    with pytest.raises(ValueError, match="the result must keep batch shape and ragged dimension"):
        RaggedBatch(torch.zeros(1, 2), sample_sizes=[1]) + torch.zeros(3, 1)
    with pytest.raises(ValueError, match="but broadcasting gives"):
        RaggedBatch(torch.zeros(2, 1), sample_sizes=[1, 1]) + torch.zeros(4)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((2,), (2, 1, 1)), ((2, 3), (2, 3, 1)), ((2, 5), (3, 4)), ((3,), (4,)), ((2, 1, 3), (2, 3, 4)), ((0,), (4,))],
)
def test_a_shape_that_does_not_broadcast_is_named(shape: tuple[int, ...], fits: tuple[int, ...]) -> None:
    batch = RaggedBatch(torch.zeros(2, 3, 4), sample_sizes=[3, 1])
    words = f"add: a tensor of shape {shape} does not broadcast to the batch of shape (2, 3, 4); counted from the last "
    words += f"dimension, sizes must be equal or 1: shape {fits} would fit"
    for call in (lambda other: batch + other, lambda other: other + batch, lambda other: torch.add(batch, other=other)):
        with pytest.raises(ValueError, match=re.escape(words)):
            call(torch.zeros(shape))
        call(torch.zeros(fits))
    with pytest.raises(ValueError, match=re.escape(words.replace("add", "where"))):
        torch.where(batch > 0, batch, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"mul: a tensor of shape \(2, 3, 5\) does not broadcast to the batch"):
        batch * batch.create_with_sample_sizes_like_self(torch.zeros(2, 3, 5))
    # A variance may lack the last dimension.
    F.gaussian_nll_loss(batch, batch, torch.ones(2, 3), reduction="none")


def test_truth_values_of_numpy_are_numbers() -> None:
    whole = RaggedBatch(torch.ones(1, 2, dtype=torch.int64), sample_sizes=[2])
    assert (whole == np.bool_(True)).equal(whole == 1) and (np.bool_(True) + whole).equal(whole + 1)
    assert ((whole > 0) & np.bool_(True)).equal(whole > 0)


def test_equality_is_elementwise_and_identity_hashes() -> None:
    batch = combine_data([[1, 2], [3]])
    assert isinstance(batch == 1, RaggedBatch)
    assert (batch == None) is False  # noqa: E711
    assert len({batch, batch, batch.clone()}) == 2


def test_what_tensors_have_is_advised_and_not_listed() -> None:
    batch = RaggedBatch(torch.ones(2, 3), sample_sizes=[3, 1])
    for name, words in {
        "sum": "use ragged.sum_over_targets",
        "sigmoid": r"use torch.sigmoid\(batch\)",
        "view": "work on .tensor and .mask",
        "backward": "reduce to a scalar first",
    }.items():
        with pytest.raises(AttributeError, match=f"'RaggedBatch' object has no attribute '{name}'.*{words}"):
            getattr(batch, name)
        assert name not in dir(batch) and not hasattr(RaggedBatch, name)
    # What both have is that of the batch.
    assert {"split", "clone", "float", "to", "size", "equal", "detach"} <= set(dir(batch))
    assert batch.clone().equal(batch) and batch.float().size() == (2, 3)
    with pytest.raises(AttributeError, match="has no attribute 'anything'$"):
        _ = batch.anything  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"a RaggedBatch cannot become one array; .*batch\.split\(\)"):
        np.asarray(batch)
    with pytest.raises(TypeError, match="has no len\(\)"):
        torch.as_tensor(batch)
