"""Hypothesis strategies: the structure is drawn, so that it shrinks; the many values come from a drawn seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from ragged import RaggedBatch

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)
FILLERS = ("zeros", "garbage", "nan", "inf", "lowest")


def values(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Small integers as any dtype: many ties, and sums that are exact."""
    drawn = torch.randint(0 if dtype in (torch.uint8, torch.bool) else -4, 5, tuple(shape), generator=generator)
    return (drawn > 0) if dtype is torch.bool else drawn.to(dtype)


def filler_value(kind: str, dtype: torch.dtype) -> float | int | bool:
    if kind == "zeros":
        return 0
    if dtype is torch.bool:
        return True
    if dtype.is_floating_point or dtype.is_complex:
        return {"garbage": -77.0, "nan": math.nan, "inf": math.inf, "lowest": -math.inf}[kind]
    info = torch.iinfo(dtype)
    return {"garbage": 77, "nan": info.max, "inf": info.max, "lowest": info.min}[kind]


@st.composite
def ragged_batches(
    draw: st.DrawFn,
    dtypes: Sequence[torch.dtype] = FLOATS,
    batch_shape: tuple[int, ...] | None = None,
    max_dims: int = 2,
) -> RaggedBatch:
    """Batches of 1 to 3 batch dims, sizes with 0 and 1 among them, the ragged dim anywhere, any amount of filler."""
    if batch_shape is None:
        batch_shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    count = math.prod(batch_shape)
    sizes = draw(st.lists(st.sampled_from([0, 1, 2, 5]), min_size=count, max_size=count))
    slack = draw(st.sampled_from([0, 1, 3]))
    data_shape = draw(st.lists(st.integers(1, 3), max_size=max_dims))
    axis = draw(st.integers(0, len(data_shape)))
    dtype = draw(st.sampled_from(dtypes))
    kind = draw(st.sampled_from(FILLERS))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    shape = (*batch_shape, *data_shape[:axis], max(sizes) + slack, *data_shape[axis:])
    batch = RaggedBatch(
        values(shape, dtype, generator),
        sample_sizes=torch.tensor(sizes).reshape(batch_shape),
        non_uniform_dim=len(batch_shape) + axis,
    )
    return batch.with_padded_set_to(filler_value(kind, dtype))


@st.composite
def index_batches(draw: st.DrawFn, limits: Tensor, *, max_count: int = 4, distinct: bool = False) -> RaggedBatch:
    """Valid indices for samples of the given sizes, garbage in the filler."""
    lists = []
    for limit in limits.reshape(-1).tolist():
        index = st.integers(0, max(limit - 1, 0))
        lists.append(draw(st.lists(index, max_size=max_count if limit else 0, unique=distinct)))
    width = max((len(each) for each in lists), default=0) + draw(st.integers(0, 1))
    garbage = draw(st.sampled_from([-1, 100, torch.iinfo(torch.int64).min]))
    padded = [each + [garbage] * (width - len(each)) for each in lists]
    return RaggedBatch(
        torch.tensor(padded, dtype=torch.int64).reshape(*limits.shape, width),
        sample_sizes=torch.tensor([len(each) for each in lists]).reshape(limits.shape),
    )
