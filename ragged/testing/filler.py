"""What padding may hold in a test: anything that its dtype can."""

from __future__ import annotations

import math

import torch

from ragged.batch.ragged_batch import RaggedBatch

FILLERS = ("zeros", "garbage", "nan", "inf", "lowest")
"""What padding is filled with by the strategies; ``filler_value`` gives the number."""


def filler_value(kind: str, dtype: torch.dtype) -> float | int | bool:
    """A value to put into the filler of a batch.

    Args:
        kind: ``"zeros"``, ``"garbage"`` (a number that stands out), ``"nan"``, ``"inf"``, or ``"lowest"`` (negative
            infinity). Integers have the largest and the smallest value of their dtype for the last three.
        dtype: That of the batch.

    >>> filler_value("nan", torch.float32), filler_value("nan", torch.uint8), filler_value("garbage", torch.bool)
    (nan, 255, True)
    """
    if kind not in FILLERS:
        raise ValueError(f"kind of filler must be one of {', '.join(FILLERS)}, got {kind!r}")
    if kind == "zeros":
        return 0
    if dtype is torch.bool:
        return True
    if dtype.is_floating_point or dtype.is_complex:
        return {"garbage": -77.0, "nan": math.nan, "inf": math.inf, "lowest": -math.inf}[kind]
    info = torch.iinfo(dtype)
    return {"garbage": 77, "nan": info.max, "inf": info.max, "lowest": info.min}[kind]


def refilled(batch: RaggedBatch, kind: str) -> RaggedBatch:
    """The same samples with another filler; see ``filler_value``."""
    return batch.with_padded_set_to(filler_value(kind, batch.dtype))
