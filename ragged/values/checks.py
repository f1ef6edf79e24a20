"""The argument checks that several modules share, and the wording of their messages.

Shapes, dtypes and devices are checked always. Values are checked at once where reading them costs nothing (an eager CPU
tensor). On an accelerator and inside a compiled graph the check is an asynchronous assertion, so that no check ever
waits for the device. Under ``vmap``, on meta and on fake tensors there are no values to read, and nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ragged.values.readable import known_within, values_are_readable

_GRAPHS_KNOW_VMAP = torch.__version__ >= "2.8"

INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
"""Those that torch computes with."""
STORED_INTEGER_DTYPES = (*INTEGER_DTYPES, torch.uint16, torch.uint32, torch.uint64)
"""Those that are converted to int64 where they come in."""
NUMBERS = (int, float, np.integer, np.floating)
LARGEST = torch.finfo(torch.float64).max
# An overlap that is computed may exceed 1 by a few units in the last place of half precision.
ROUNDING = 1e-2


def all_equal(shapes: Iterable[Sequence[int]]) -> bool:
    """Whether all shapes are the same. A set of them would do, but hashing fixes their sizes in a compiled graph."""
    first, *others = shapes
    return all(shape == first for shape in others)


def check_values(
    ok: Tensor,
    message: Callable[[tuple[int, ...]], str],
    error: type[Exception] = ValueError,
    *,
    summary: str,
    counts: Tensor | None = None,
) -> None:
    """Raise unless every element of the boolean tensor ``ok`` is true.

    Args:
        ok: Boolean tensor of any shape.
        message: Makes the message from the position of the first false element.
        error: The exception to raise.
        summary: The message where the position cannot be read (asynchronous assertion).
        counts: Boolean, broadcasts: which elements are looked at; all by default.
    """
    ok = ok if counts is None else counts <= ok  # true where nothing counts
    if values_are_readable(ok):
        if not ok.all():
            # Not tolist: older versions of torch cannot read a list while a derivative is taken.
            raise error(message(tuple(int(at) for at in (~ok).nonzero()[0])))
    elif (torch.compiler.is_compiling() or ok.is_cuda) and not _is_mapped(ok):
        torch._assert_async(ok.all(), summary)


def _is_mapped(tensor: Tensor) -> bool:
    # Older compilers cannot ask, and compile no vmap of what is checked.
    in_old_graph = not _GRAPHS_KNOW_VMAP and torch.compiler.is_compiling()
    return not in_old_graph and torch._C._functorch.is_batchedtensor(tensor)


def check_dim(dim: int, num_dims: int, *, lowest: int = 0, name: str = "dim") -> int:
    """Return ``dim`` counted from the front; raise ``IndexError`` unless it lies in ``lowest … num_dims - 1``."""
    check_whole(dim, name)
    positive = dim + num_dims if dim < 0 else dim
    if not lowest <= positive < num_dims:
        raise IndexError(
            f"{name} must be a dimension from {lowest} to {num_dims - 1} (or the same counted from the end), got {dim}"
        )
    return positive


def check_whole(value: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a whole number, of numpy or a compiled graph too."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, torch.SymInt)):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")


def check_flag(value: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is True or False: words and numbers that happen to be truthy are not."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_count(value: Any, name: str) -> None:
    """Raise unless ``value`` is a whole number, not negative."""
    check_whole(value, name)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_number(value: Any, name: str, *, low: float | None = 0.0) -> None:
    """Raise unless ``value`` is a finite number above ``low``."""
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not abs(float(value)) < float("inf") or (low is not None and float(value) <= low):
        raise ValueError(f"{name} must be finite{'' if low is None else f' and above {low:g}'}, got {value}")


def check_not_negative(value: Any, name: str) -> None:
    """Raise unless ``value`` is a finite number from 0 on."""
    check_number(value, name, low=None)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")


def check_share(value: Any, name: str) -> None:
    """Raise unless ``value`` is a number in [0, 1]."""
    check_number(value, name, low=None)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def check_positive(value: Any, name: str) -> None:
    """Raise unless ``value`` is a whole number from 1 on."""
    check_count(value, name)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def checked_positive(value: Any, name: str) -> int:
    """The value; raises unless it is a whole number from 1 on."""
    check_positive(value, name)
    whole: int = value
    return whole


def checked_sizes(value: Any, name: str, *, lowest: int = 0) -> tuple[int, ...]:
    """One size or several as a tuple; raises unless all are whole numbers from ``lowest`` on."""
    sizes = value if is_sequence(value) else (value,)
    for size in sizes:
        check_whole(size, f"each of {name}")
        if size < lowest:
            wanted = f"be at least {lowest}" if lowest else "not be negative"
            raise ValueError(f"{name} must {wanted}, got {tuple(sizes)}")
    return tuple(sizes)


def is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether ``value`` is a list or a tuple, or something like it, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def check_is_sequence(value: Any, name: str, of: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a list or a tuple, or alike; ``of`` names its items in the message."""
    if not is_sequence(value):
        raise TypeError(f"{name} must be a list of {of}, got {type(value).__name__}")


def check_is_callable(value: Any, name: str, what: str = "a function") -> None:
    """Raise ``TypeError`` unless ``value`` can be called, and is no class."""
    if isinstance(value, type) or not callable(value):
        name_of_class = value.__name__ if isinstance(value, type) else ""
        got = f"the class {name_of_class}; make one, {name_of_class}(…)" if name_of_class else type(value).__name__
        raise TypeError(f"{name} must be {what}, got {got}")


def check_one_of(value: Any, allowed: Sequence[str], name: str) -> None:
    """Raise ``ValueError`` unless ``value`` is one of these words."""
    if not isinstance(value, str) or value not in allowed:
        words = " or ".join(map(repr, allowed)) if len(allowed) == 2 else f"one of {', '.join(map(repr, allowed))}"
        raise ValueError(f"{name} must be {words}, got {value!r}")


def check_broadcast(first: Sequence[int], second: Sequence[int], name: str, other: str) -> None:
    """Raise ``ValueError`` unless tensors of these shapes broadcast."""
    shared = min(len(first), len(second))
    pairs = zip(first[len(first) - shared :], second[len(second) - shared :], strict=True)
    if any(a != b and a != 1 and b != 1 for a, b in pairs):
        raise ValueError(f"{name} and {other} must have shapes that broadcast, got {tuple(first)} and {tuple(second)}")


def check_all_positive(values: Sequence[float], name: str) -> None:
    """Raise unless every one of the numbers is finite and above 0."""
    for value in values:
        check_number(value, name, low=None)
    bad = [value for value in values if not value > 0]
    if bad:
        raise ValueError(f"{name} must be positive, got {bad[0]}")


def check_is_tensor(value: Any, name: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a tensor that torch computes with: dense, and of no storage dtype."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested:
        got, advice = f"one of layout {value.layout}", ".to_dense()"
        if value.is_nested:
            got, advice = "a nested one", "ragged.from_nested"
        raise TypeError(f"{name} must be a dense tensor, got {got}; use {advice}")
    check_is_computable(value.dtype, name)


def check_is_computable(dtype: torch.dtype, name: str) -> None:
    """Raise ``TypeError`` if torch only stores numbers of this dtype."""
    if dtype.itemsize == 1 and dtype not in (torch.uint8, torch.int8, torch.bool):
        raise TypeError(f"{name} has the dtype {dtype}, which torch stores but does not compute with; use .bfloat16()")


def check_weights(values: Tensor, name: str, *, counts: Tensor | None = None) -> None:
    """Raise ``ValueError`` unless every weight (or count) is finite and not negative; the message names its place.

    Args:
        values: ``(*batch, N)``, or of any shape.
        name: Of the values.
        counts: Which of them are looked at; all by default. Broadcasts against ``values``.
    """
    values = _real(values, name)
    if known_within(values, 0, LARGEST):
        return
    # A NaN is not equal to itself.
    ok = values.clamp(0, torch.finfo(values.dtype).max) == values if values.is_floating_point() else values >= 0
    check_values(
        ok,
        lambda at: f"{name} must be finite and not negative, got {values[at].item():g}{_place(at)}",
        summary=f"{name} must be finite and not negative",
        counts=counts,
    )


def check_shares(values: Tensor, name: str, *, counts: Tensor | None = None, or_nan: bool = False) -> None:
    """Raise ``ValueError`` unless every value lies in [0, 1], within what rounding does; as ``check_weights``.

    Args:
        values, name, counts: As for ``check_weights``.
        or_nan: Whether a value may be NaN, which stays to be seen: of what was computed of predictions, that is.
    """
    values = _real(values, name)
    if known_within(values, 0, 1 + ROUNDING):
        return
    ok = ~((values < 0) | (values > 1 + ROUNDING)) if or_nan else (values >= 0) & (values <= 1 + ROUNDING)
    check_values(
        ok,
        lambda at: f"{name} must lie in [0, 1], got {values[at].item():g}{_place(at)}",
        summary=f"{name} must lie in [0, 1]",
        counts=counts,
    )


def _real(values: Tensor, name: str) -> Tensor:
    if values.dtype.is_complex:
        raise TypeError(f"{name} must be real numbers, got {values.dtype}")
    return values.detach()


def _place(at: tuple[int, ...]) -> str:
    return f" at position {at[-1]} of {sample_name(at[:-1])}" if len(at) > 1 else f" at position {at[0]}" if at else ""


def check_has_values(tensor: Tensor, what: str) -> None:
    """Raise ``ValueError`` if ``tensor`` is on the meta device, where there is nothing that the host could read."""
    if tensor.is_meta:
        raise ValueError(f"{what} reads values on the host, which tensors on the meta device do not have")


def check_same_device(device: torch.device, other: torch.device, *, name: str, reference: str) -> None:
    """Raise ``ValueError`` unless both devices are the same."""
    if device != other:
        raise ValueError(f"{name} must be on the device of {reference} ({other}), got {device}; move it with .to(…)")


def sample_name(position: Sequence[int]) -> str:
    """The name of the sample at ``position`` of the batch dimensions, for a message."""
    if not position:
        return "the sample"
    return f"sample {position[0]}" if len(position) == 1 else f"sample {tuple(position)}"
