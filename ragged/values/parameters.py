"""Modules that are declared as dataclasses: a parameter is one line, and so is its default."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from torch import nn

if sys.version_info >= (3, 11):
    from typing import dataclass_transform
else:
    from typing_extensions import dataclass_transform

_Module = TypeVar("_Module", bound=type[nn.Module])


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def module_dataclass(cls: _Module) -> _Module:
    """A ``torch.nn.Module`` whose annotations are the keyword parameters of its constructor, those of bases included.

    Parameters become attributes. Checks and everything else belong in ``__post_init__``, which calls that of the base
    first. ``field(kw_only=False)`` makes a parameter positional too.

    >>> from torch import nn
    >>> from ragged.values.parameters import module_dataclass
    >>> @module_dataclass
    ... class Scaled(nn.Module):
    ...     factor: float = 2.0
    ...     inner: nn.Module | None = None
    >>> Scaled(inner=nn.ReLU())
    Scaled(
      (inner): ReLU()
    )
    """
    dataclass(eq=False, repr=False, kw_only=True)(cls)
    init: Any = cls.__init__

    @wraps(init)
    def initialize(self: nn.Module, *given: Any, **named: Any) -> None:
        nn.Module.__init__(self)
        init(self, *given, **named)

    with suppress(NameError):  # of a class in a function, hints are not found
        # A hint that a base wrote is resolved where the base stands.
        hints = get_type_hints(cls)
        init.__annotations__ |= {name: hints[name] for name in init.__annotations__ if name in hints}
    cls.__init__ = initialize  # type: ignore[method-assign]
    for each in fields(cls):  # type: ignore[arg-type]
        # Defaults are in the signature. As attributes of the class, they would hide submodules of the same name.
        if each.name in vars(cls):
            delattr(cls, each.name)
    return cls
