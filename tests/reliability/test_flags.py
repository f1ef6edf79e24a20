"""A flag is True or False: whatever else is truthy is refused, by every public function and class that has one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reliability import fuzz
from reliability.call import Call

# Handed to torch, or to the function of a name that is the same in torch.
OF_TORCH = {"non_blocking"}


def flags_of(call: Call) -> Iterator[tuple[str, bool]]:
    """Parameters that are flags, and whether they are of the class of what is called."""
    kinds = inspect.getmro(call.function) if isinstance(call.function, type) else (call.function,)
    methods = [getattr(call.function, call.method)] if call.method else []
    for kind in (*kinds, *methods):
        described = vars(kind).get("__init__") if isinstance(kind, type) else kind
        if described is None or not hasattr(described, "__code__"):
            continue
        for name, parameter in inspect.signature(described).parameters.items():
            if parameter.annotation in ("bool", "bool | None") and name not in OF_TORCH:
                yield name, kind not in methods


CASES = sorted(
    {
        (name, flag, of_class and call.init is not None)
        for name, make in fuzz.CALLS.items()
        for call in [make()]
        for flag, of_class in flags_of(call)
    }
)


def with_flag(name: str, flag: str, value: Any, in_init: bool) -> Call:
    call = fuzz.CALLS[name]()
    if in_init:
        return replace(call, init={**(call.init or {}), flag: value})
    described = call.function if call.method is None else getattr(call.function, call.method)
    names = list(inspect.signature(described).parameters)
    if flag in names and names.index(flag) < len(call.args):
        place = names.index(flag)
        return replace(call, args=(*call.args[:place], value, *call.args[place + 1 :]))
    return replace(call, kwargs={**call.kwargs, flag: value})


@pytest.mark.parametrize(("name", "flag", "in_init"), CASES)
def test_what_is_no_flag_is_refused(name: str, flag: str, in_init: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in ("no", 1, [False]):
            with pytest.raises(TypeError, match=f"{flag} must be True or False, got"):
                with_flag(name, flag, value, in_init)()


def test_there_are_many_flags_and_those_of_numpy_do() -> None:
    assert len({flag for _, flag, _ in CASES}) >= 25
    for kind in (np.True_, np.False_):
        with_flag("ragged.sort_over_targets", "descending", kind, False)()
