"""The core operations against what one would write with plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.timing import Timing, compare
from ragged import RaggedBatch, batched_indexing_access, combine_data

# Batch size, entries to read from, entries to read, width of an entry.
INDEXED_SHAPES = ((8, 300, 30, 4), (32, 900, 100, 4), (8, 900, 100, 64), (8, 300, 100, 256), (8, 900, 300, 256))


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, at which size, and the timings by name."""

    size: str
    timings: dict[str, Timing]


def combining(num_entries: int = 100, width: int = 4) -> Iterator[Row]:
    """Padding a list of samples of 0 to ``num_entries`` entries into tensor, mask and sizes; forward."""
    for batch_size in (1, 4, 16, 64, 256):
        samples = [torch.randn(int(n), width) for n in torch.randint(num_entries + 1, (batch_size,))]
        yield Row(
            f"B={batch_size}, n=0..{num_entries}, d={width}",
            compare(
                {
                    "combine_data": partial(combine_data, samples),
                    "slice assignment": partial(_assign_slices, samples),
                    "pad_sequence, tensor only": partial(pad_sequence, samples, batch_first=True),
                }
            ),
        )


def combining_with_gradient(num_entries: int = 100, width: int = 4) -> Iterator[Row]:
    """The same, forward and backward."""
    for batch_size in (4, 64, 256):
        sizes = torch.randint(num_entries + 1, (batch_size,)).tolist()
        samples = [torch.randn(n, width, requires_grad=True) for n in sizes]
        gradient = torch.randn(batch_size, max(sizes), width)
        rivals: dict[str, Callable[[], Tensor]] = {
            "combine_data": partial(_combined_tensor, samples),
            "slice assignment": partial(_assigned_tensor, samples),
            "pad_sequence, tensor only": partial(pad_sequence, samples, batch_first=True),
        }
        yield Row(
            f"B={batch_size}, n=0..{num_entries}, d={width}",
            compare({name: _with_backward(function, samples, gradient) for name, function in rivals.items()}),
        )


def indexing() -> Iterator[Row]:
    """Reading K of N entries, forward and backward; a plain read of as many entries, and one with the same filler."""
    for batch, size, count, width in INDEXED_SHAPES:
        data = torch.randn(batch, size, width, requires_grad=True)
        indices = RaggedBatch(
            torch.randint(size, (batch, count)), sample_sizes=torch.randint(count // 2, count + 1, (batch,))
        )
        gradient = torch.randn(batch, count, width)
        rivals: dict[str, Callable[[], Tensor]] = {
            "batched_indexing_access": partial(_access, data, indices),
            "gather": partial(_gather, data, indices.tensor),
            "advanced indexing": partial(_advanced, data, indices.tensor),
            "gather with filler": partial(_gather_with_filler, data, indices),
        }
        yield Row(
            f"B={batch}, N={size}, K={count}, D={width}",
            compare({name: _with_backward(function, [data], gradient) for name, function in rivals.items()}),
        )


def arithmetic(shape: tuple[int, ...] = (8, 30, 4)) -> Iterator[Row]:
    """An operator on a RaggedBatch and on its tensor."""
    tensor, other = torch.randn(shape), torch.randn(shape)
    batch = RaggedBatch(tensor, sample_sizes=torch.randint(shape[1] + 1, shape[:1]))
    second = batch.create_with_sample_sizes_like_self(other)
    with_gradient = batch.clone().requires_grad_()
    exp: Any = torch.exp  # whose stub knows tensors alone
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "batch * 2": (lambda: batch * 2, lambda: tensor * 2),
        "batch + batch": (lambda: batch + second, lambda: tensor + other),
        "batch * tensor": (lambda: batch * other, lambda: tensor * other),
        "torch.exp(batch)": (lambda: exp(batch), lambda: exp(tensor)),
        "batch * 2, gradient needed": (lambda: with_gradient * 2, lambda: with_gradient.tensor * 2),
        "batch * batch, gradient needed": (lambda: with_gradient * second, lambda: with_gradient.tensor * other),
    }
    for name, (ours, plain) in pairs.items():
        yield Row(name, compare({"RaggedBatch": ours, "tensor": plain}))


def _assign_slices(samples: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    sizes = torch.tensor([len(sample) for sample in samples])
    longest = max(len(sample) for sample in samples)
    tensor = torch.zeros(len(samples), longest, *samples[0].shape[1:])
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for number, sample in enumerate(samples):
        tensor[number, : len(sample)] = sample
        mask[number, : len(sample)] = True
    return tensor, mask, sizes


def _combined_tensor(samples: list[Tensor]) -> Tensor:
    return combine_data(samples).tensor


def _assigned_tensor(samples: list[Tensor]) -> Tensor:
    return _assign_slices(samples)[0]


def _access(data: Tensor, indices: RaggedBatch) -> Tensor:
    return batched_indexing_access(data, indices).tensor


def _advanced(data: Tensor, index: Tensor) -> Tensor:
    return data[torch.arange(len(data)).unsqueeze(-1), index]


def _gather(data: Tensor, index: Tensor) -> Tensor:
    return data.gather(1, index.unsqueeze(-1).expand(-1, -1, data.shape[-1]))


def _gather_with_filler(data: Tensor, indices: RaggedBatch) -> Tensor:
    read = _gather(data, torch.where(indices.mask, indices.tensor, 0))
    return torch.where(indices.mask.unsqueeze(-1), read, 0.0)


def _with_backward(function: Callable[[], Tensor], leaves: list[Tensor], gradient: Tensor) -> Callable[[], None]:
    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        function().backward(gradient)

    return step
