"""What a criterion takes for constant while it differentiates: it is kept as it was, while predictions move."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONSTANT = (Tensor.detach, torch.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
_SWITCH = torch._C._set_grad_enabled


class Constants(TorchFunctionMode):
    """Remembers, and in later calls repeats, what ``detach`` and ``no_grad`` give.

    The gradient of ``f(x, detach(g(x)))`` is that of f at a constant g. A finite difference is, too, if g stays what it
    was at x. What an ``autograd.Function`` computes in its ``forward`` is no constant, and left alone.

    with constants:  # remembers
        criterion(x)
    with constants:  # repeats
        criterion(x + step)
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: list[tuple[Any, Any]] = []
        self.place: int | None = None
        self.depth = 0

    def __enter__(self) -> Constants:
        """Begin a call of the criterion."""
        enter, leave = torch.no_grad.__enter__, torch.no_grad.__exit__

        def entered(context: Any) -> Any:
            enter(context)
            self.depth += 1

        def left(context: Any, *error: Any) -> Any:
            self.depth -= 1
            return leave(context, *error)

        self._patches = [
            mock.patch.object(torch.no_grad, "__enter__", entered),
            mock.patch.object(torch.no_grad, "__exit__", left),
        ]
        for patch in self._patches:
            patch.start()
        self.depth = 0
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """End it: the next one repeats."""
        super().__exit__(*error)
        for patch in self._patches:
            patch.stop()
        self.place = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result, or that of the first call where it is a constant."""
        is_constant = func is not _SWITCH and (self.depth > 0 or (func in _CONSTANT and torch.is_grad_enabled()))
        if not is_constant:
            return func(*args, **(kwargs or {}))
        if self.place is not None and self.place < len(self.known) and self.known[self.place][0] == func:
            result = self.known[self.place][1]
            self.place += 1
            return result
        result = func(*args, **(kwargs or {}))
        if self.place is None:
            self.known.append((func, result))
        return result
