"""Values of targets as datasets write them, brought into the dtypes that targets have."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ragged.ops.samples import objects_message
from ragged.values.checks import STORED_INTEGER_DTYPES, check_is_tensor, check_values

_DTYPE_OF_NOTHING = {"labels": torch.int64, "ignore": torch.bool, "iscrowd": torch.bool}


def as_tensor(item: Any, name: str, index: int) -> Tensor:
    """What a dataset has of one image, as a tensor; a ``TypeError`` that names the sample if it is none."""
    if isinstance(item, np.ndarray) and item.dtype == object:
        raise TypeError(objects_message(f"{name} of sample {index}"))
    try:
        tensor = torch.as_tensor(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} of sample {index} must be a tensor, an array or a list of numbers: {error}") from None
    if not isinstance(item, (Tensor, np.ndarray)) and tensor.is_floating_point():
        tensor = torch.as_tensor(item, dtype=torch.float32)  # whatever the default dtype is
    if tensor.numel() == 0 and not isinstance(item, Tensor):  # an empty list has no number to tell its dtype by
        tensor = tensor.to(_DTYPE_OF_NOTHING.get(name, torch.float32))
    check_is_tensor(tensor, f"{name} of sample {index}")
    return tensor


def flags_of(values: Any, name: str, *, counts: Tensor | None = None) -> Tensor:
    """Booleans, also if they are written as 0 and 1; ``counts`` says which are looked at, by default all."""
    check_is_tensor(values, name)
    if values.dtype == torch.bool:
        return values
    if values.dtype not in STORED_INTEGER_DTYPES:
        raise TypeError(f"{name} must be a boolean or integer tensor, got {values.dtype}")
    values = values.to(torch.int64)
    ok = (values == 0) | (values == 1)
    check_values(
        ok if counts is None else ok | ~counts,
        lambda at: f"{name} must be True or 1, or False or 0, got {int(values[at])} at {at}",
        summary=f"targets: {name} is neither 0 nor 1",
    )
    return values == 1


def exact_integers(values: Tensor, what: str) -> Tensor:
    """Whole numbers of any dtype as int64; a ``ValueError`` where a floating dtype cannot tell them from others."""
    if not values.is_floating_point():
        return values.to(torch.int64)
    limit = 2 / torch.finfo(values.dtype).eps
    check_values(
        ~(values >= limit),  # what is not a number is for others to refuse
        lambda at: (
            f"the {what} {values[at].item():g} at {at} cannot be told from its neighbours in {values.dtype}: give "
            "integers, or float32"
        ),
        summary=f"targets: a {what} is too large for its dtype",
    )
    return values.to(torch.int64)
