"""Hypothesis strategies of ragged batches, indices, masks and orders.

Structure is drawn (sizes, dimensions, dtype, the kinds of values and of filler) and shrinks to the smallest failing
batch; the many values come from a drawn seed, which is quick. A failing example is printed as code, ready to be pasted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import note
from hypothesis import strategies as st
from torch import Tensor

from ragged.batch.ragged_batch import RaggedBatch
from ragged.testing.as_code import as_code
from ragged.testing.filler import FILLERS, refilled

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""The floating dtypes."""
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)
"""All dtypes that batches are drawn in."""
VALUES = ("generic", "integers", "unit", "normal", "distinct", "extreme")
"""Kinds of values, as ``draw_values`` draws them."""


def draw_values(shape: Sequence[int], dtype: torch.dtype, kind: str, generator: torch.Generator) -> Tensor:
    """Values of any dtype.

    Args:
        shape: Of the tensor.
        dtype: For integers and bool, ``"generic"``, ``"unit"`` and ``"normal"`` are rounded.
        kind: ``"generic"`` from -4 to 4, all different and none near a multiple of 1/2 (neither ties nor kinks),
            ``"integers"`` from -4 to 4 (many ties, exact sums), ``"unit"`` from 0 to 1, ``"normal"``, ``"distinct"``
            (no ties, none near 0), or ``"extreme"``: 0, and the smallest and largest numbers of the dtype.
        generator: Of torch.
    """
    if kind not in VALUES:
        raise ValueError(f"kind of values must be one of {', '.join(VALUES)}, got {kind!r}")
    shape = tuple(shape)
    signed = not (dtype is torch.bool or dtype is torch.uint8)
    if kind == "unit":
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    elif kind == "generic" and (dtype.is_floating_point or dtype.is_complex):
        drawn = _off_kinks(shape, generator)
    elif kind == "normal":
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    elif kind == "distinct":
        drawn = (torch.randperm(math.prod(shape), generator=generator) + 1.0).reshape(shape)
    elif kind == "extreme":
        choices = _extremes(dtype)
        return choices[torch.randint(len(choices), shape, generator=generator)]
    else:
        drawn = torch.randint(-4, 5, shape, generator=generator)
    drawn = drawn if signed else drawn.abs()
    return drawn > 0.5 if dtype is torch.bool else drawn.to(dtype)


def _off_kinks(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers from -4 to 4, each in an interval of its own, and a twentieth away from the multiples of 1/2."""
    count = math.prod(shape)
    place = torch.randperm(count, generator=generator) + 0.2 + 0.6 * torch.rand(count, generator=generator).double()
    halves = place / max(count, 1) * 16 - 8
    return ((halves.floor() + 0.1 + 0.8 * halves.frac().remainder(1.0)) / 2).reshape(shape)


def _extremes(dtype: torch.dtype) -> Tensor:
    if dtype is torch.bool:
        return torch.tensor([False, True])
    if dtype.is_floating_point or dtype.is_complex:
        info = torch.finfo(dtype)
        return torch.tensor([0.0, info.tiny, -info.tiny, info.max, info.min, 1.0, -1.0], dtype=torch.float64).to(dtype)
    whole = torch.iinfo(dtype)
    return torch.tensor([0, whole.max, whole.min, 1], dtype=dtype)


@st.composite
def sample_sizes(draw: st.DrawFn, batch_shape: Sequence[int] | None = None, *, max_size: int = 5) -> Tensor:
    """Sizes ``(*batch,)`` of samples: 0, 1 and the largest are drawn more often than others.

    Args:
        batch_shape: By default one to three dimensions of size 1 to 3.
        max_size: The largest size.
    """
    if batch_shape is None:
        batch_shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    count = math.prod(batch_shape)
    # In one list, smallest first, so that a size shrinks to the least that fails.
    edges = [0, min(1, max_size), max_size] * (max_size // 2 + 1)
    size = st.sampled_from([*range(max_size + 1), *edges])
    sizes = draw(st.lists(size, min_size=count, max_size=count))
    return torch.tensor(sizes, dtype=torch.int64).reshape(tuple(batch_shape))


@st.composite
def ragged_batches(
    draw: st.DrawFn,
    *,
    sizes: Tensor | None = None,
    batch_shape: Sequence[int] | None = None,
    max_size: int = 5,
    data_shape: Sequence[int] | None = None,
    max_data_dims: int = 2,
    ragged_axis: int | None = None,
    dtypes: Sequence[torch.dtype] = FLOATS,
    values: Sequence[str] = ("generic",),
    fillers: Sequence[str] = FILLERS,
    max_slack: int = 3,
) -> RaggedBatch:
    """Batches with samples of any size, the ragged dimension anywhere, and any amount and kind of filler.

    Args:
        sizes: ``(*batch,)``; by default drawn by ``sample_sizes``.
        batch_shape, max_size: For ``sample_sizes``.
        data_shape: Sizes of the other dimensions after those of the batch; by default up to ``max_data_dims`` of them.
        ragged_axis: Place of the ragged dimension among the dimensions after those of the batch; by default any.
        dtypes: Those to draw from.
        values: Kinds of values to draw from, see ``draw_values``. By default there are no ties and kinks, where right
            operations may differ in their gradients; ``"integers"`` has many.
        fillers: Kinds of filler to draw from, see ``filler_value``.
        max_slack: The most slots of padding that no sample needs.
    """
    if sizes is None:
        sizes = draw(sample_sizes(batch_shape, max_size=max_size))
    if data_shape is None:
        data_shape = draw(st.lists(st.integers(1, 3), max_size=max_data_dims))
    if ragged_axis is None:
        ragged_axis = draw(st.integers(0, len(data_shape)))
    width = (int(sizes.max()) if sizes.numel() else 0) + draw(st.integers(0, max_slack))
    shape = (*sizes.shape, *data_shape[:ragged_axis], width, *data_shape[ragged_axis:])
    dtype, kind = draw(st.sampled_from(tuple(dtypes))), draw(st.sampled_from(tuple(values)))
    tensor = draw_values(shape, dtype, kind, draw(_generators()))
    batch = RaggedBatch(tensor, sample_sizes=sizes, non_uniform_dim=sizes.dim() + ragged_axis)
    batch = refilled(batch, draw(st.sampled_from(tuple(fillers))))
    note(f"batch = {as_code(batch)}")
    return batch


@st.composite
def batches_sharing_sizes(draw: st.DrawFn, /, count: int = 2, **options: Any) -> tuple[RaggedBatch, ...]:
    """Several batches that describe the same objects: one mask and sizes, other data, dtypes, filler.

    Args:
        count: How many.
        options: For ``ragged_batches``; by default the data have dimensions of their own.
    """
    first = draw(ragged_batches(**options))
    options |= {"sizes": first.sample_sizes, "max_slack": 0}
    others = []
    for _ in range(count - 1):
        other = draw(ragged_batches(**options))
        other = other.with_max_sample_size(first.max_sample_size)
        others.append(first.create_with_sample_sizes_like_self(other.tensor, other.non_uniform_dim))
    return (first, *others)


@st.composite
def index_batches(
    draw: st.DrawFn, limits: Tensor | RaggedBatch, *, max_count: int = 4, distinct: bool = False
) -> RaggedBatch:
    """Valid indices into samples, with garbage in the filler.

    Args:
        limits: ``(*batch,)``, the sizes of the samples, or a batch with these samples.
        max_count: The most indices for a sample; one without entries has none.
        distinct: No index twice in a sample.
    """
    limits = limits.sample_sizes if isinstance(limits, RaggedBatch) else limits
    lists = []
    for limit in limits.reshape(-1).tolist():
        index = st.integers(0, max(limit - 1, 0))
        lists.append(draw(st.lists(index, max_size=max_count if limit else 0, unique=distinct)))
    width = max((len(each) for each in lists), default=0) + draw(st.integers(0, 1))
    garbage = draw(st.sampled_from([-1, 100, torch.iinfo(torch.int64).min]))
    padded = [each + [garbage] * (width - len(each)) for each in lists]
    batch = RaggedBatch(
        torch.tensor(padded, dtype=torch.int64).reshape(*limits.shape, width),
        sample_sizes=torch.tensor([len(each) for each in lists], dtype=torch.int64).reshape(limits.shape),
    )
    note(f"indices = {as_code(batch)}")
    return batch


@st.composite
def masks(draw: st.DrawFn, shape: Sequence[int]) -> Tensor:
    """Boolean tensors of a shape: all false, all true, or any."""
    fraction = draw(st.sampled_from([0.0, 1.0, 0.5, 0.1]))
    return torch.rand(tuple(shape), generator=draw(_generators())) < fraction


@st.composite
def permutations(draw: st.DrawFn, count: int) -> Tensor:
    """Orders of so many samples, ``(count,)``, the present one first when shrinking."""
    return torch.tensor(draw(st.permutations(range(count))), dtype=torch.int64)


def _generators() -> st.SearchStrategy[torch.Generator]:
    return st.integers(0, 2**16).map(lambda seed: torch.Generator().manual_seed(seed))
