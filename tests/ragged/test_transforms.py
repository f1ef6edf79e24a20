"""Function transforms, checkpointing and deterministic mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from ragged_ops import batch, indices
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, vmap
from torch.utils.checkpoint import checkpoint

import ragged
from ragged import RaggedBatch, batched_indexing_access, batched_indexing_write, rows, stack_batches, sum_over_targets


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
