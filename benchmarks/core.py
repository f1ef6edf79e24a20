"""The core operations against what one would write with plain torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks import timing
from benchmarks.timing import Timing
from matchers import focal_class_cost, focal_cost
from matchers.costs.classes import gather_labels
from ragged import (
    RaggedBatch,
    average_over_targets,
    batched_indexing_access,
    cat_targets,
    combine_data,
    max_over_targets,
    sum_over_targets,
    topk_over_targets,
)

# Batch size, entries to read from, entries to read, width of an entry.
INDEXED_SHAPES = ((8, 300, 30, 4), (32, 900, 100, 4), (8, 900, 100, 64), (8, 300, 100, 256), (8, 900, 300, 256))
# Shapes that are reduced along dimension 1, or multiplied.
SHAPES = ((8, 30, 4), (32, 100, 4), (32, 300, 4), (32, 8400), (32, 100, 256), (32, 300, 256))
# Layers, batch size, targets, predictions, classes: fewer classes than targets, and more of them.
COST_SHAPES = ((6, 32, 39, 300, 10), (1, 32, 20, 300, 80))


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, at which size, and the timings by name."""

    size: str
    timings: dict[str, Timing]


def compare(rivals: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
    """Timings side by side: of one thread alone, its processor time."""
    return timing.compare(rivals, time.thread_time if torch.get_num_threads() == 1 else time.perf_counter)


def combining(num_entries: int = 100, width: int = 4) -> Iterator[Row]:
    """Padding a list of samples of 0 to ``num_entries`` entries into tensor, mask and sizes; forward."""
    for batch_size in (1, 4, 16, 32, 64, 256):
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


def arithmetic_with_gradient() -> Iterator[Row]:
    """A product of two ragged batches and of their tensors, forward and backward."""
    for shape in SHAPES:
        first = _drawn(shape)
        second = first.create_with_sample_sizes_like_self(torch.randn(shape, requires_grad=True))
        for name, factors in {"x * x": (first, first), "x * y": (first, second)}.items():
            tensors = [factor.tensor for factor in factors]
            rivals = {"RaggedBatch": partial(_product, *factors), "tensor": partial(torch.mul, *tensors)}
            yield Row(f"{name}, {_text(shape)}", compare(_all_with_backward(rivals, tensors)))


def reducing() -> Iterator[Row]:
    """Reductions over targets, and of tensors that are masked by hand; forward, and forward and backward."""
    for shape in SHAPES:
        batch, weights = _drawn(shape), _drawn(shape[:2]).detach()
        weights = RaggedBatch(weights.tensor, sample_sizes=batch.sample_sizes)
        reductions: dict[str, tuple[Callable[[RaggedBatch], Tensor], Callable[[RaggedBatch], Tensor]]] = {
            "sum": (sum_over_targets, _sum_by_hand),
            "average": (average_over_targets, _average_by_hand),
            "weighted average": (
                partial(average_over_targets, weights=weights),
                partial(_weighted_by_hand, weights=weights),
            ),
            "max": (max_over_targets, _max_by_hand),
        }
        for name, (ours, by_hand) in reductions.items():
            rivals = {"ragged": ours, "masked by hand": by_hand}
            forward = {key: partial(function, batch.detach()) for key, function in rivals.items()}
            yield Row(f"{name}, {_text(shape)}", compare(forward))
            both = {key: partial(function, batch) for key, function in rivals.items()}
            yield Row(f"{name}, {_text(shape)}, with backward", compare(_all_with_backward(both, [batch.tensor])))


def selecting() -> Iterator[Row]:
    """The k largest entries of each sample, ties to the first, and ``torch.topk`` of a masked tensor; forward."""
    for shape, k in (((8, 100), 10), ((32, 900), 300), ((32, 8400), 100)):
        batch = _drawn(shape).detach()
        rivals: dict[str, Callable[[RaggedBatch, int], object]] = {
            "topk_over_targets": topk_over_targets,
            "masked torch.topk": _topk_by_hand,
        }
        yield Row(f"{_text(shape)}, k={k}", compare({name: partial(each, batch, k) for name, each in rivals.items()}))


def joining(batch_size: int = 32, width: int = 256) -> Iterator[Row]:
    """Two batches joined sample by sample, and ``torch.cat`` of their tensors, with filler amid the entries."""
    first, second = _drawn((batch_size, 300, width), smallest=300), _drawn((batch_size, 19, width))
    size = f"B={batch_size}, 300 and up to 19 entries, D={width}"
    rivals: dict[str, Callable[[Sequence[RaggedBatch]], Tensor]] = {"cat_targets": _joined, "torch.cat": _cat}
    plain = [first.detach(), second.detach()]
    yield Row(size, compare({name: partial(function, plain) for name, function in rivals.items()}))
    both = {name: partial(function, [first, second]) for name, function in rivals.items()}
    yield Row(f"{size}, with backward", compare(_all_with_backward(both, [first.tensor, second.tensor])))


def class_costs() -> Iterator[Row]:
    """The focal cost of every pair, in the order that it chooses and in both orders by hand."""
    for layers, batch_size, targets, queries, classes in COST_SHAPES:
        logits = torch.randn(layers, batch_size, queries, classes)
        labels = torch.randint(classes, (layers, batch_size, targets))
        rivals: dict[str, Callable[..., Tensor]] = {
            "focal_class_cost": focal_class_cost,
            "of all classes, then gathered": _gathered_costs,
            "gathered, then of those": _costs_of_gathered,
        }
        yield Row(
            f"L={layers}, B={batch_size}, G={targets}, P={queries}, C={classes}",
            compare({name: partial(function, logits, labels) for name, function in rivals.items()}),
        )


def _drawn(shape: tuple[int, ...], smallest: int = 0) -> RaggedBatch:
    """Samples of ``smallest`` to ``shape[1]`` entries that require a gradient, one of them as large as possible."""
    sizes = torch.randint(smallest, shape[1] + 1, shape[:1])
    sizes[0] = shape[1]
    return RaggedBatch(torch.randn(shape), sample_sizes=sizes).requires_grad_()


def _product(first: RaggedBatch, second: RaggedBatch) -> Tensor:
    return (first * second).tensor


def _sum_by_hand(batch: RaggedBatch) -> Tensor:
    return (batch.tensor * batch.aligned_mask).sum(1)


def _average_by_hand(batch: RaggedBatch) -> Tensor:
    total = _sum_by_hand(batch)
    return total / batch.sample_sizes.clamp(min=1).view(-1, *(1,) * (total.dim() - 1))


def _weighted_by_hand(batch: RaggedBatch, weights: RaggedBatch) -> Tensor:
    factors = (weights.tensor * weights.mask).view(batch.aligned_mask.shape)
    return (batch.tensor * factors).sum(1) / factors.sum(1).clamp(min=1e-6)


def _max_by_hand(batch: RaggedBatch) -> Tensor:
    return batch.tensor.masked_fill(~batch.aligned_mask, -torch.inf).max(1).values


def _topk_by_hand(batch: RaggedBatch, k: int) -> object:
    return batch.tensor.masked_fill(~batch.mask, -torch.inf).topk(k, 1)


def _joined(batches: Sequence[RaggedBatch]) -> Tensor:
    return cat_targets(batches).tensor


def _cat(batches: Sequence[RaggedBatch]) -> Tensor:
    return torch.cat([batch.tensor for batch in batches], 1)


def _gathered_costs(logits: Tensor, labels: Tensor) -> Tensor:
    return gather_labels(focal_cost(logits), labels)


def _costs_of_gathered(logits: Tensor, labels: Tensor) -> Tensor:
    return focal_cost(gather_labels(logits, labels))


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


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


def _all_with_backward(
    rivals: Mapping[str, Callable[[], Tensor]], leaves: list[Tensor]
) -> dict[str, Callable[[], None]]:
    return {name: _with_backward(rival, leaves, torch.ones_like(rival())) for name, rival in rivals.items()}


def _with_backward(function: Callable[[], Tensor], leaves: list[Tensor], gradient: Tensor) -> Callable[[], None]:
    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        function().backward(gradient)

    return step
