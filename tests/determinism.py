"""Deterministic mode: nothing that torch calls nondeterministic is used, and two runs agree to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from cases import RAISES_ON_CUDA
from runs import assert_same_bits
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

# On CUDA torch has no deterministic sum of floats up to each place.
WITHOUT_DETERMINISTIC_KERNEL = RAISES_ON_CUDA | {"cumsum_over_targets"}


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic mode. Uninitialised memory is filled with NaN, too, so that nothing can depend on it."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)


def moved(tree: Any, device: str) -> Any:
    """All tensors of a tree on a device."""
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def assert_repeats(run: Callable[[], list[Tensor]], name: str, device: str) -> None:
    """Runs agree to the last bit; on a device that is not the host, what cannot be deterministic raises."""
    with deterministic():
        if device != "cpu" and _raises(name):
            with pytest.raises(RuntimeError, match="cumsum"):
                run()
            return
        expected = run()
        for _ in range(2):
            assert_same_bits(run(), expected)


def assert_deterministic_on_a_device(run: Callable[[], list[Tensor]], name: str) -> None:
    """A run on meta, which takes the way of a device, calls nothing that torch calls nondeterministic on CUDA."""
    with deterministic(), _RejectNondeterministic():
        if not _raises(name):
            assert run()
            return
        with pytest.raises(RuntimeError, match="cumsum is not deterministic"):
            run()


def _raises(name: str) -> bool:
    return name.partition("[")[0] in WITHOUT_DETERMINISTIC_KERNEL


class _RejectNondeterministic(TorchDispatchMode):
    """Rejects what torch calls nondeterministic on CUDA, on any device."""

    NAMES = ("index_reduce", "index_reduce_", "kthvalue", "median", "nanmedian", "histc", "put_", "bincount")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        of_floats = bool(args) and isinstance(args[0], Tensor) and args[0].is_floating_point()
        if name in self.NAMES or (name in ("cumsum", "cumsum_") and of_floats):
            raise RuntimeError(f"{name} is not deterministic on CUDA")
        return func(*args, **(kwargs or {}))
