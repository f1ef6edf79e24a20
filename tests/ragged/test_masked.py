"""Filler cleared as bits, and products whose gradients are: against ``masked_fill``, to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, vmap

import ragged
from ragged import RaggedBatch
from ragged.testing import DTYPES
from ragged.values import masked
from ragged.values.masked import filled, has_product, product

NAN, INF = float("nan"), float("inf")
MASK = torch.tensor([[True, True, False], [False, False, False], [True, True, True], [True, False, False]])
OPTIONS = {"check_forward_ad": True, "check_batched_grad": True}


@pytest.fixture(autouse=True, params=[0, 1 << 40], ids=["as bits", "by torch"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "MANY_NUMBERS", request.param)


def layouts(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Values and masks: of full shape, broadcast behind and ahead of the data, transposed, expanded, without any."""
    values = torch.randn(4, 3, 5).mul(10).to(dtype)
    behind = MASK.unsqueeze(-1)
    yield values[..., 0], MASK
    yield values[..., 0].contiguous(), MASK
    yield values, behind
    yield values.mT, MASK.unsqueeze(1)
    yield values.mT.contiguous(), MASK.unsqueeze(1)
    yield values[:, :, :1].expand(4, 3, 20), behind
    yield torch.randn(4, 3, 40).to(dtype), behind
    yield values[:, :0], behind[:, :0]
    yield values[:, :, :0], behind


@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64, torch.complex128])
def test_filled_is_masked_fill(dtype: torch.dtype) -> None:
    for tensor, mask in layouts(dtype):
        for value in (0, 1) + ((-INF, NAN, 0.5) if dtype.is_floating_point else ()):
            before = tensor.clone()
            result = filled(tensor, mask, value)
            assert result.dtype == dtype and result.shape == tensor.shape
            torch.testing.assert_close(result, tensor.masked_fill(~mask, value), rtol=0, atol=0, equal_nan=True)
            assert torch.equal(tensor, before)


@pytest.mark.parametrize("filler", [NAN, INF, -INF])
def test_neither_filler_nor_what_comes_back_to_it_is_seen(filler: float) -> None:
    for tensor, mask in layouts(torch.float32):
        leaf = tensor.masked_fill(~mask, filler).requires_grad_()
        result = filled(leaf, mask, 0)
        assert result.isfinite().all()
        (gradient,) = torch.autograd.grad(result, leaf, torch.full_like(result, 2.0).masked_fill(~mask, filler))
        assert torch.equal(gradient, torch.full_like(tensor, 2.0).masked_fill(~mask, 0))


def test_valid_values_stay_whatever_they_are() -> None:
    values = torch.tensor([NAN, -NAN, INF, -INF, -0.0, 1e-42, 3.0]).expand(4, 3, 7).contiguous()
    result = filled(values, MASK.unsqueeze(-1), 1)
    assert torch.equal(result.view(torch.int32)[MASK], values.view(torch.int32)[MASK])
    assert result[~MASK].eq(1).all()


def test_derivatives_of_filled() -> None:
    for tensor, mask in layouts(torch.float64):
        leaf = tensor.clone().requires_grad_()
        assert gradcheck(lambda data, mask=mask: filled(data, mask, 1.0), leaf, **OPTIONS)
        assert gradgradcheck(lambda data, mask=mask: filled(data, mask, 1.0) ** 3, leaf)


def test_function_transforms_of_filled() -> None:
    values, mask = torch.randn(4, 3, 5), MASK.unsqueeze(-1)

    def total(data: Tensor) -> Tensor:
        return (filled(data, mask, 1.0) ** 2).sum()

    expected = 2 * values.masked_fill(~mask, 0)
    for derivative in (grad, jacfwd, jacrev):
        torch.testing.assert_close(derivative(total)(values), expected)
        many = vmap(derivative(total))(torch.stack([values, 2 * values]))
        torch.testing.assert_close(many, torch.stack([expected, 2 * expected]))


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("filler", [0.0, NAN, INF])
def test_product_and_its_gradients(filler: float, clear: bool) -> None:
    mask = MASK.unsqueeze(-1)
    first = torch.randn(4, 3, 5).masked_fill(~mask, filler).requires_grad_()
    for second in (first, torch.randn(4, 3, 5), torch.randn(4, 3, 1)):
        second = second if second is first else second.masked_fill(~mask, filler).requires_grad_()
        result = product(first, second, mask, clear=clear)
        assert torch.equal(result[MASK], (first * second)[MASK])
        assert not clear or not result[~MASK].any()
        back = torch.randn(4, 3, 5)
        (expected,) = torch.autograd.grad(((first * second)[MASK] * back[MASK]).sum(), [first])
        leaves = [first] if second is first else [first, second]
        for create_graph in (False, True):
            found = torch.autograd.grad(
                result, leaves, back.masked_fill(~mask, filler), retain_graph=True, create_graph=create_graph
            )
            torch.testing.assert_close(found[0], expected.masked_fill(~mask, 0))
            assert not any(each[~MASK].any() for each in found)
            if second is not first:
                wanted = (back * first)[MASK].detach()
                wanted = wanted if second.shape[-1] == 5 else wanted.sum(-1, keepdim=True)
                torch.testing.assert_close(found[1][MASK], wanted)


def test_derivatives_of_products() -> None:
    mask = MASK.unsqueeze(-1)
    first, second, weights = (torch.randn(4, 3, size, dtype=torch.float64, requires_grad=True) for size in (2, 2, 1))
    for arguments in ((first, second), (first, weights), (first,)):
        for clear in (True, False):

            def multiplied(data: Tensor, other: Tensor | None = None, clear: bool = clear) -> Tensor:
                result = product(data, data if other is None else other, mask, clear=clear)
                return filled(result, mask, 0)

            assert gradcheck(multiplied, arguments, check_batched_grad=True)
            assert gradgradcheck(multiplied, arguments)


def test_a_product_asks_for_two_plain_tensors_of_one_dtype() -> None:
    values = torch.randn(4, 3, 5)
    if masked.MANY_NUMBERS == 0:
        assert has_product(values, values)
    for first, second in ((values, values.double()), (values.long(), values.long()), (values.to("meta"),) * 2):
        assert not has_product(first, second)
    assert not vmap(lambda each: torch.tensor(has_product(each, each)) | each.bool())(torch.zeros(2)).any()


@pytest.mark.parametrize("filler", [0.0, NAN, INF])
def test_a_batch_times_a_batch(filler: float) -> None:
    """Twice differentiable; no filler in the gradients of either, whatever comes in."""
    batch = RaggedBatch(torch.randn(4, 3, 5), mask=torch.arange(3) < torch.tensor([[2], [0], [3], [1]]))
    first = batch.with_padded_set_to(filler).requires_grad_()
    second = first.create_with_sample_sizes_like_self(first.tensor.detach() * 3).requires_grad_()
    for other, leaves in ((first, [first.tensor]), (second, [first.tensor, second.tensor])):
        gradients = torch.autograd.grad(
            ragged.sum_over_targets((first * other) * first).sum(), leaves, create_graph=True
        )
        again = torch.autograd.grad(sum((each**2).sum() for each in gradients), first.tensor)
        for each in (*gradients, *again):
            assert each.isfinite().all() and not each[~batch.mask].any()
        expected = 3 if other is first else 6
        torch.testing.assert_close(gradients[0][batch.mask], expected * first.tensor[batch.mask] ** 2)
