"""A process in which Triton interprets its kernels on CPU: the environment must say so before Triton is imported."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    from triton.runtime.interpreter import ReduceOps

    ReduceOps.generic_reduce = _reduce_by_halves


def _reduce_by_halves(self: Any, values: Any) -> list[Any]:
    """Reductions by a function of one's own: of all pairs at once, where the interpreter goes from number to number."""
    assert self.axis == 0 and not self.keep_dims
    data = [value.handle.data for value in values]
    while data[0].size > 1:
        half = data[0].size // 2
        sides = [
            [self.to_tensor(own[part], value.dtype) for own, value in zip(data, values, strict=True)]
            for part in (slice(None, half), slice(half, None))
        ]
        data = [found.handle.data for found in self.combine_fn.fn(*sides[0], *sides[1])]
    return [self.to_tensor(own[0], value.dtype) for own, value in zip(data, values, strict=True)]


def _solve_arrays(*arrays: np.ndarray | None) -> np.ndarray:
    from matchers.solver.linear_assignment import solve_rows

    tensors = [None if array is None else torch.from_numpy(array) for array in arrays]
    return solve_rows(*tensors, solver="triton").numpy()


def _solve_in_tiles(*arrays: np.ndarray | None) -> np.ndarray:
    from matchers.solver.triton_kernel import solve

    return solve(*[None if array is None else torch.from_numpy(array) for array in arrays], widest=0, tile=32).numpy()


class Interpreter:
    """Solves as ``solver="triton"`` does, in the other process."""

    def __init__(self, process: ProcessPoolExecutor) -> None:
        self._process = process

    def solve_rows(self, *arguments: Tensor | None, in_tiles: bool = False) -> Tensor:
        arrays = [None if argument is None else argument.numpy() for argument in arguments]
        return torch.from_numpy(self._process.submit(_solve_in_tiles if in_tiles else _solve_arrays, *arrays).result())

    def solve(
        self, cost: Tensor, counts: Tensor | None = None, forbidden: Tensor | None = None, *, in_tiles: bool = False
    ) -> Tensor:
        """As ``batched_linear_sum_assignment``, of costs (N, G, P); with tiles of 32 predictions if that is asked."""
        num_samples, width, _ = cost.shape
        counts = torch.full((num_samples,), width) if counts is None else counts
        start = torch.arange(num_samples) * width
        valid = (torch.arange(width) < counts.unsqueeze(-1)).flatten()
        never = None if forbidden is None else forbidden.flatten(0, 1)
        size = torch.full_like(start, width)
        return self.solve_rows(cost.flatten(0, 1), start, size, valid, never, in_tiles=in_tiles)

    def call(self, function: Any, *arguments: Any) -> Any:
        """The result of a function of a module, with arguments that can be pickled."""
        return self._process.submit(function, *arguments).result()


@contextmanager
def interpreter() -> Iterator[Interpreter]:
    """Starts the process; it ends with the block."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_interpret) as process:
        yield Interpreter(process)
