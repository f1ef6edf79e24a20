"""Batch dimensions: the same operation on a plain tensor of sample numbers says where every sample must go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference import loops
from torch import Tensor

from ragged import RaggedBatch


def numbered(batch_shape: tuple[int, ...]) -> tuple[RaggedBatch, Tensor]:
    """A batch whose sample number k holds the number k only, and the numbers."""
    count = torch.Size(batch_shape).numel()
    numbers = torch.arange(count).reshape(batch_shape)
    tensor = numbers.reshape(*batch_shape, 1, 1).expand(*batch_shape, 2, 3).clone()
    return RaggedBatch(tensor, sample_sizes=numbers % 4, non_uniform_dim=len(batch_shape) + 1), numbers


CASES: list[Any] = [
    ((2, 3), lambda b: b.reshape_batch_dims((3, 2)), lambda n: n.reshape(3, 2)),
    ((2, 3), lambda b: b.reshape_batch_dims((-1, 2)), lambda n: n.reshape(-1, 2)),
    ((6,), lambda b: b.reshape_batch_dims(-1), lambda n: n),
    ((0, 3), lambda b: b.reshape_batch_dims((3, -1)), lambda n: n.reshape(3, 0)),
    ((2, 3), lambda b: b.flatten_batch_dims(), lambda n: n.flatten()),
    ((0, 3), lambda b: b.flatten_batch_dims(), lambda n: n.flatten()),
    ((2, 3), lambda b: b.unsqueeze_batch_dim(0), lambda n: n.unsqueeze(0)),
    ((2, 3), lambda b: b.unsqueeze_batch_dim(-1), lambda n: n.unsqueeze(-1)),
    ((2, 1, 3), lambda b: b.squeeze_batch_dim(1), lambda n: n.squeeze(1)),
    ((2, 1, 3), lambda b: b.squeeze_batch_dim(-2), lambda n: n.squeeze(1)),
    ((2, 1), lambda b: b.broadcast_batch_dims_to_shape((4, 2, 3)), lambda n: n.expand(4, 2, 3)),
    ((0,), lambda b: b.unsqueeze_batch_dim(0), lambda n: n.unsqueeze(0)),
    ((0, 1), lambda b: b.squeeze_batch_dim(1), lambda n: n.squeeze(1)),
    ((0, 1), lambda b: b.broadcast_batch_dims_to_shape((2, 0, 3)), lambda n: n.expand(2, 0, 3)),
    ((0, 2), lambda b: b.repeat_samples((2, 3)), lambda n: n.repeat(2, 3)),
    ((1,), lambda b: b.broadcast_batch_dims_to_shape((0,)), lambda n: n.expand(0)),
    ((), lambda b: b.unsqueeze_batch_dim(0), lambda n: n.unsqueeze(0)),
    ((), lambda b: b.reshape_batch_dims((1, 1)), lambda n: n.reshape(1, 1)),
    ((), lambda b: b.broadcast_batch_dims_to_shape((3,)), lambda n: n.expand(3)),
    ((), lambda b: b.repeat_samples(()), lambda n: n),
    ((3,), lambda b: b.repeat_samples(2), lambda n: n.repeat(2)),
    ((3,), lambda b: b.repeat_samples(0), lambda n: n.repeat(0)),
    ((2, 3), lambda b: b.repeat_samples(2, batch_dim=1), lambda n: n.repeat(1, 2)),
    ((2, 3), lambda b: b.repeat_samples((3, 2)), lambda n: n.repeat(3, 2)),
]


@pytest.mark.parametrize(("batch_shape", "operation", "on_numbers"), CASES)
def test_samples_go_where_their_numbers_go(
    batch_shape: tuple[int, ...], operation: Callable[[Any], Any], on_numbers: Callable[[Tensor], Tensor]
) -> None:
    batch, numbers = numbered(batch_shape)
    result, expected = operation(batch), on_numbers(numbers)
    assert result.batch_shape == expected.shape
    assert torch.equal(result.sample_sizes, expected % 4)
    assert result.mask.shape == (*expected.shape, 3)
    assert result.non_uniform_dim == expected.dim() + 1
    for sample, number in zip(loops.entries(result), expected.flatten().tolist(), strict=True):
        assert sample.shape == (number % 4, 2)
        assert sample.eq(number).all()


def test_broadcasting_against_each_other() -> None:
    (one, _), (other, _) = numbered((2, 1)), numbered((3,))
    first, second = RaggedBatch.broadcast_batch_dims([one, other])
    assert first.batch_shape == second.batch_shape == (2, 3)
    assert second.sample_sizes.tolist() == [[0, 1, 2]] * 2
    assert (first.with_padded_set_to(0).tensor + 1).shape == (2, 3, 2, 3)


@pytest.mark.parametrize(
    "operation",
    [
        lambda b: b.broadcast_batch_dims_to_shape((3, 2, 2)),
        lambda b: b.repeat_samples((3, 2)),
        lambda b: b.unsqueeze_batch_dim(1).flatten_batch_dims().repeat_samples(6),
    ],
)
def test_gradients_of_repeated_samples_add_up(operation: Callable[[RaggedBatch], RaggedBatch]) -> None:
    batch = RaggedBatch(torch.full((2, 1, 3), torch.nan), sample_sizes=[[3], [1]]).requires_grad_()
    operation(batch).with_padded_set_to(0).tensor.sum().backward()
    assert batch.tensor.grad is not None and batch.tensor.grad.tolist() == [[[6, 6, 6]], [[6, 0, 0]]]


def test_split_gives_nested_lists_without_padding() -> None:
    batch, _ = numbered((2, 3))
    parts = batch.split()
    assert [[sample.shape for sample in row] for row in parts] == [[(2, 0), (2, 1), (2, 2)], [(2, 3), (2, 0), (2, 1)]]
    assert numbered((0,))[0].split() == []
    assert parts[1][0].data_ptr() == batch.tensor[1, 0].data_ptr()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda b: b.squeeze_batch_dim(0), ValueError, "dim must be a batch dimension of size 1, got dimension 0 of size 2"),
        (lambda b: b.squeeze_batch_dim(2), IndexError, "dim must be a dimension from 0 to 1"),
        (lambda b: b.unsqueeze_batch_dim(3), IndexError, "dim must be a dimension from 0 to 2"),
        (lambda b: b.broadcast_batch_dims_to_shape((3, 3)), ValueError, r"must broadcast from batch shape \(2, 3\), got \(3, 3\)"),
        (lambda b: b.broadcast_batch_dims_to_shape((4, 9)), ValueError, r"got \(4, 9\); to repeat the samples, use repeat_samples\(\(2, 3\)\)$"),
        (lambda b: b.broadcast_batch_dims_to_shape((4, 5)), ValueError, r"must broadcast from .*, got \(4, 5\)$"),
        (lambda b: b.broadcast_batch_dims_to_shape((3,)), ValueError, r"must broadcast from .*, got \(3,\)$"),
        (lambda b: b.repeat_samples(2), ValueError, "batch_dim must be given for 2 batch dimensions"),
        (lambda b: b.repeat_samples((2,)), ValueError, "one number for each of the 2 batch dimensions"),
        (lambda b: b.repeat_samples((2, -1)), ValueError, "num_repeats must not be negative"),
        (lambda b: RaggedBatch.broadcast_batch_dims([b, b.repeat_samples((1, 2))]), ValueError, "must broadcast against"),
        (lambda b: b.reshape_batch_dims((4,)), ValueError, "must have as many samples as"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[RaggedBatch], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(numbered((2, 3))[0])
