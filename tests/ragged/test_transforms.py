"""Function transforms, checkpointing and deterministic mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from ragged_ops import batch, indices
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, vmap
from torch.utils.checkpoint import checkpoint

import ragged
from ragged import RaggedBatch, batched_indexing_access, batched_indexing_write, stack_batches, sum_over_targets
from ragged.ops import rows


@pytest.fixture(params=[1, 64], ids=["as rows", "by gather"], autouse=True)
def _both_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WIDE_ENTRY", request.param)


def picked(data: Tensor, index: RaggedBatch) -> Tensor:
    return sum_over_targets(batched_indexing_access(data, index).apply(torch.square))


def test_vmap_over_a_further_dimension() -> None:
    data, index = torch.randn(4, 3, 5, 2), indices(5)
    expected = torch.stack([picked(each, index) for each in data])
    torch.testing.assert_close(vmap(picked, in_dims=(0, None))(data, index), expected)
    many = stack_batches([indices(5) for _ in range(4)])
    expected = torch.stack(
        [
            picked(d, RaggedBatch(t, sample_sizes=s))
            for d, t, s in zip(data, many.tensor, many.sample_sizes, strict=True)
        ]
    )
    torch.testing.assert_close(vmap(picked)(data, many), expected)


def test_vmap_over_the_batch_dimension_itself() -> None:
    data, index = torch.randn(3, 5, 2), indices(5)
    torch.testing.assert_close(vmap(picked)(data, index), picked(data, index))
    doubled = vmap(lambda sample: sample * 2)(index)
    assert isinstance(doubled, RaggedBatch) and doubled.equal(index * 2)
    written = vmap(
        lambda target: batched_indexing_write(
            torch.ones(2), RaggedBatch(torch.tensor([1, 0]), sample_sizes=torch.tensor(1)), target
        )
    )
    assert written(torch.zeros(3, 4)).tolist() == [[0, 1, 0, 0]] * 3


@pytest.mark.parametrize(
    "name", [name for name in ragged.__all__ if name.endswith("_over_targets") and "topk" not in name]
)
def test_vmap_of_reductions(name: str) -> None:
    data = batch(5, 2)
    computed, expected = vmap(getattr(ragged, name))(data), getattr(ragged, name)(data)
    for one, other in zip(
        torch.utils._pytree.tree_leaves(computed), torch.utils._pytree.tree_leaves(expected), strict=True
    ):
        torch.testing.assert_close(one, other)


def written(data: Tensor, index: RaggedBatch) -> Tensor:
    source = data[: index.max_sample_size]
    return batched_indexing_write(source, index, torch.zeros_like(data)).square().sum()


def constructed(data: Tensor, index: RaggedBatch) -> Tensor:
    return sum_over_targets(RaggedBatch(data, sample_sizes=index.sample_sizes) * data.sum()).sum()


def combined(data: Tensor, index: RaggedBatch) -> Tensor:
    other = RaggedBatch(data, sample_sizes=index.sample_sizes)
    return (RaggedBatch(data * 2, sample_sizes=index.sample_sizes * 1) * other).with_padded_set_to(0).tensor.sum()


@pytest.mark.parametrize("derivative", [grad, jacrev, jacfwd])
@pytest.mark.parametrize("function", [lambda d, i: picked(d, i).sum(), written, constructed, combined])
def test_derivatives_of_every_sample_by_itself(
    function: Callable[[Tensor, RaggedBatch], Tensor], derivative: Callable[..., Any]
) -> None:
    data, index = torch.randn(3, 5, 2), indices(5)
    expected = torch.stack(
        [
            grad(function)(each, RaggedBatch(tensor, sample_sizes=size))
            for each, tensor, size in zip(data, index.tensor, index.sample_sizes, strict=True)
        ]
    )
    torch.testing.assert_close(vmap(derivative(function))(data, index), expected)


@pytest.mark.parametrize("derivative", [grad, jacrev, jacfwd])
def test_values_are_checked_while_a_derivative_is_taken(derivative: Callable[..., Any]) -> None:
    with pytest.raises(IndexError, match="index 4 at position 0 of sample 0 is out of range for size 3"):
        derivative(lambda data: picked(data, RaggedBatch.from_full_tensor(torch.tensor([[4], [0]]))).sum())(
            torch.ones(2, 3, 96)
        )
    with pytest.raises(ValueError, match="got 4 for sample 1"):
        derivative(lambda data: (RaggedBatch(data, sample_sizes=[3, 4]).tensor * 2).sum())(torch.ones(2, 3))


def test_derivative_of_all_samples_at_once() -> None:
    data, index = torch.randn(3, 5, 2), indices(5)
    expected = grad(lambda data: picked(data, index).sum())(data)
    torch.testing.assert_close(grad(lambda data: vmap(picked)(data, index).sum())(data), expected)
    torch.testing.assert_close(vmap(vmap(picked))(data[None], stack_batches([index]))[0], picked(data, index))


def test_vmap_over_a_data_dimension_and_of_a_batch_made_inside() -> None:
    data, index = torch.randn(3, 5, 2), indices(5)
    torch.testing.assert_close(vmap(picked, in_dims=(2, None), out_dims=1)(data, index), picked(data, index))
    sizes = torch.tensor([2, 5, 0])
    made = vmap(lambda tensor, size: RaggedBatch(tensor, sample_sizes=size).with_padded_set_to(-1.0))(data, sizes)
    assert isinstance(made, RaggedBatch)
    assert made.equal(RaggedBatch(data, sample_sizes=sizes)) and made.tensor[2].eq(-1).all()


def test_a_batch_may_be_differentiated_whole() -> None:
    boxes = RaggedBatch(torch.full((2, 2), 3.0), sample_sizes=[2, 1]).with_padded_set_to(float("nan"))

    def loss(tensor: Tensor) -> Tensor:
        return sum_over_targets(boxes.create_with_sample_sizes_like_self(tensor) ** 2).sum()

    assert grad(loss)(boxes.tensor).tolist() == [[6, 6], [6, 0]]
    assert jacfwd(loss)(boxes.tensor).tolist() == [[6, 6], [6, 0]]


def test_forward_and_backward_derivatives_agree() -> None:
    data, index = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True), indices(5)
    into = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)

    def read(data: Tensor) -> Tensor:
        return batched_indexing_access(data, index).tensor

    def write(data: Tensor, into: Tensor) -> Tensor:
        return batched_indexing_write(data, index, into)

    options = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(read, data, **options) and gradcheck(write, (data, into), **options)
    assert gradgradcheck(read, data, check_fwd_over_rev=True, check_rev_over_rev=True)


def test_gradients_and_derivatives_of_higher_order() -> None:
    data, index = torch.randn(3, 5, 2, dtype=torch.float64), indices(5)

    def loss(data: Tensor) -> Tensor:
        return picked(data, index).sum()

    leaf = data.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(grad(loss)(data), leaf.grad)
    torch.testing.assert_close(jacfwd(loss)(data), leaf.grad)
    torch.testing.assert_close(jacrev(loss)(data), leaf.grad)
    counted = torch.zeros(3, 5, dtype=torch.float64).scatter_add(
        1, torch.where(index.mask, index.tensor, 0), 2 * index.mask.double()
    )
    diagonal = hessian(loss)(data).reshape(30, 30)
    torch.testing.assert_close(diagonal, torch.diag(counted.repeat_interleave(2)))
    many = torch.stack([data, data + 1])
    torch.testing.assert_close(vmap(grad(loss))(many), torch.stack([grad(loss)(each) for each in many]))


def test_checkpointed_indexing() -> None:
    data, index = torch.randn(3, 5, 2, requires_grad=True), indices(5)
    result = checkpoint(batched_indexing_access, data, index, use_reentrant=False)
    assert isinstance(result, RaggedBatch) and result.sample_sizes is index.sample_sizes
    (computed,) = torch.autograd.grad(sum_over_targets(result**2).sum(), data)
    (expected,) = torch.autograd.grad(picked(data, index).sum(), data)
    torch.testing.assert_close(computed, expected)


def test_activation_checkpointing() -> None:
    boxes = batch(5, 2).requires_grad_()
    checkpoint(lambda b: sum_over_targets(torch.exp(b) * b), boxes, use_reentrant=False).sum().backward()
    (expected,) = torch.autograd.grad(sum_over_targets(torch.exp(boxes) * boxes).sum(), boxes.tensor)
    torch.testing.assert_close(boxes.tensor.grad, expected)


@pytest.fixture
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
def test_deterministic_algorithms() -> None:
    data = torch.randn(3, 5, 2, requires_grad=True)
    index = RaggedBatch(torch.randint(0, 5, (3, 40)), sample_sizes=[40, 7, 0])
    runs = [torch.autograd.grad(picked(data, index).sum(), data)[0] for _ in range(2)]
    assert torch.equal(*runs)
    written = [batched_indexing_write(torch.arange(40.0).expand(3, 40), index, torch.zeros(3, 5)) for _ in range(2)]
    assert torch.equal(*written)
