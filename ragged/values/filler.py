"""Writing filler, and keeping it out of gradients."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ragged.values.checks import NUMBERS

Number = complex | bool


def fill(tensor: Tensor, where: Tensor, value: complex | bool) -> Tensor:
    """``masked_fill`` that refuses a value which the dtype of ``tensor`` cannot hold."""
    check_fits_dtype(value, tensor.dtype)
    return tensor.masked_fill(where, value)


def check_fits_dtype(value: complex | bool, dtype: torch.dtype) -> None:
    """Raise ``ValueError`` if storing ``value`` as ``dtype`` would change it in kind: a fraction, NaN, or overflow."""
    if type(value) in (int, float) and value == 0:  # as usual
        return
    if not isinstance(value, (*NUMBERS, complex, np.complexfloating, np.bool_, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"a filler value must be a number, got {type(value).__name__}")
    if dtype.is_complex:
        return
    if isinstance(value, (complex, np.complexfloating)):
        fits = False
    elif dtype.is_floating_point:
        fits = not math.isfinite(value) or abs(value) <= torch.finfo(dtype).max
    elif dtype is torch.bool:
        fits = value in (0, 1)
    else:
        info = torch.iinfo(dtype)
        fits = math.isfinite(value) and value == int(value) and info.min <= value <= info.max
    if not fits:
        raise ValueError(f"a filler value must be representable in {dtype}, got {value}")


def lowest_of(dtype: torch.dtype) -> Number:
    """What is never above a number of this dtype."""
    if dtype.is_floating_point:
        return float("-inf")
    return False if dtype is torch.bool else torch.iinfo(dtype).min


def highest_of(dtype: torch.dtype) -> Number:
    """What is never below a number of this dtype."""
    if dtype.is_floating_point:
        return float("inf")
    return True if dtype is torch.bool else torch.iinfo(dtype).max
