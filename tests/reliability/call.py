"""A valid call of a public function, whose arguments can be changed one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """``function(*args, **kwargs)``; or, with ``init``, ``function(**init)(*args, **kwargs)``.

    Args:
        function: A public function, method or class.
        args, kwargs: Valid arguments.
        init: Arguments of the class, whose object is called.
        method: The name of what is called of the object, if it is not the object itself.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    init: dict[str, Any] | None = None
    method: str | None = None

    def __call__(self) -> Any:
        function = self.function
        if self.init is not None:
            made = function(**self.init)
            function = made if self.method is None else getattr(made, self.method)
        return function(*self.args, **self.kwargs)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return Call(function, args, kwargs)


def made(kind: Callable[..., Any], init: dict[str, Any], *args: Any, **kwargs: Any) -> Call:
    return Call(kind, args, kwargs, init)


def method(kind: Callable[..., Any], init: dict[str, Any], name: str, *args: Any, **kwargs: Any) -> Call:
    return Call(kind, args, kwargs, init, name)
