"""The least arguments that show a violation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.arguments import batch_shape_of, map_batches, map_samples, trimmed
from ragged.testing.probes import batches_in, map_data
from ragged.testing.violation import PropertyViolation

_ATTEMPTS = 60


def shrunk(check: Callable[..., Any], arguments: Any, found: PropertyViolation) -> PropertyViolation:
    """The violation for smaller arguments: fewer samples, fewer entries, shorter numbers.

    Args:
        check: Called with the arguments, raises the violation.
        arguments: Those of ``found``.
        found: What to find again: a violation of the same property.
    """
    least, attempts, again = list(arguments), 0, True
    while again:
        again = False
        for smaller in _smaller(least):
            if _has_entries(least) and not _has_entries(smaller):  # that would be another problem
                continue
            attempts += 1
            if attempts > _ATTEMPTS:
                return found
            other = _violation(check, smaller)
            if other is not None and _kind(other) == _kind(found):
                least, found, again = list(smaller), other, True
                break
    return found


def _kind(found: PropertyViolation) -> tuple[Any, ...]:
    """The property, the first word of the problem (a result, a gradient), and the error that the operation raises."""
    problem = str(found).partition("\n")[0].partition(": ")[2]
    return found.property, problem.partition(" ")[0].partition("[")[0], type(found.__cause__)


def _violation(check: Callable[..., Any], arguments: Any) -> PropertyViolation | None:
    try:
        check(*arguments)
    except PropertyViolation as found:
        return found
    except Exception:  # the operation takes no such arguments
        return None
    return None


def _smaller(arguments: list[Any]) -> Iterator[Any]:
    batch_shape = batch_shape_of(arguments)
    for dim, count in enumerate(batch_shape):
        for kept in ([0], [count - 1], [0, 1], *([k for k in range(count) if k != left] for left in range(count))):
            if 0 < len(kept) < count:
                yield _only(arguments, dim, kept, batch_shape)
    sizes = [each.sample_sizes for each in batches_in(arguments) if each.sample_sizes.numel()]
    largest = max((int(each.max()) for each in sizes), default=0)
    for size in range(1, min(largest, 5)):
        yield trimmed(map_batches(partial(_at_most, size=size), arguments))
    if largest > 9:
        yield trimmed(map_batches(lambda batch: _at_most(batch, largest // 2), arguments))
    if any(each.max_sample_size > each.largest_sample_size() for each in batches_in(arguments)):
        yield trimmed(arguments)
    short = map_data(_short, arguments)
    if any(not torch.equal(a, b) for a, b in zip(_data(short), _data(arguments), strict=True)):
        yield short


def _has_entries(arguments: Any) -> bool:
    batches = batches_in(arguments)
    return not batches or any(bool(each.sample_sizes.any()) for each in batches)


def _only(arguments: Any, dim: int, kept: list[int], batch_shape: tuple[int, ...]) -> Any:
    return map_samples(lambda tensor: tensor.index_select(dim, torch.tensor(kept)), arguments, batch_shape)


def _at_most(batch: RaggedBatch, size: int) -> RaggedBatch:
    sizes = batch.sample_sizes.clamp(max=size)
    return RaggedBatch(batch.tensor, sample_sizes=sizes, non_uniform_dim=batch.non_uniform_dim)


def _short(tensor: Tensor) -> Tensor:
    """Numbers with two binary digits behind the point: few, and all different if they were not too near."""
    return (tensor * 4).round() / 4 if tensor.is_floating_point() else tensor


def _data(arguments: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_data(lambda tensor: found.append(tensor) or tensor, arguments)  # type: ignore[func-returns-value]
    return found
