"""Code that a failed check prints makes the same arguments again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf, nan
from typing import Any, NamedTuple

import pytest
import torch
from effort import examples
from hypothesis import HealthCheck, given, settings
from torch import Tensor
from torch.utils import _pytree as pytree

from matchers import Assignment, Targets
from ragged import RaggedBatch
from ragged.testing import DTYPES, VALUES, as_code, draw_values, ragged_batches


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Options:
    data: Tensor
    scale: float = 1.0
    name: str = "x"


NAMES = {each.__name__: each for each in (RaggedBatch, Targets, Assignment, Pair, Options, OrderedDict)} | {
    "torch": torch,
    "inf": inf,
    "nan": nan,
}


def again(value: Any) -> Any:
    return eval(as_code(value), dict(NAMES))


def assert_equal(found: Any, expected: Any) -> None:
    """The same structure, classes, dtypes, shapes and numbers, NaN and filler included."""
    leaves, structure = pytree.tree_flatten(expected)
    others, other_structure = pytree.tree_flatten(found)
    assert type(found) is type(expected) and other_structure == structure
    for one, other in zip(others, leaves, strict=True):
        if isinstance(other, Tensor):
            assert one.dtype == other.dtype and one.shape == other.shape
            assert torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all()
        else:
            assert one == other or other != other


@given(ragged_batches(dtypes=DTYPES, values=VALUES))
@settings(examples(150), suppress_health_check=[HealthCheck.too_slow])
def test_batches(batch: RaggedBatch) -> None:
    assert_equal(again(batch), batch)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int8, torch.int16, torch.complex128])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (0, 3), (1, 2, 2)])
@pytest.mark.parametrize("kind", VALUES)
def test_tensors(dtype: torch.dtype, shape: tuple[int, ...], kind: str) -> None:
    tensor = draw_values(shape, dtype, kind, torch.Generator().manual_seed(0))
    assert_equal(again(tensor), tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_numbers_that_are_none(dtype: torch.dtype) -> None:
    tensor = torch.tensor([inf, -inf, nan, 0.1], dtype=dtype)
    assert_equal(again(tensor), tensor)
    if dtype.is_complex:
        parts = torch.tensor([nan, inf, -inf, 1.5])
        both = torch.complex(parts, parts.flip(0))
        assert again(both).isnan().tolist() == both.isnan().tolist()
        assert again(both)[1].real == inf and again(both)[1].imag == -inf


TENSOR = torch.tensor([1.0, nan])


@pytest.mark.parametrize(
    "value",
    [
        (),
        (TENSOR,),
        [TENSOR, [TENSOR], None],
        {"a": TENSOR, 3: (1, "x", True, None, 2.5, -inf)},
        Pair(TENSOR, {"b": [TENSOR]}),
        (torch.device("cpu"), torch.float16),
        Targets(
            RaggedBatch(torch.rand(2, 3, 4), sample_sizes=[3, 0]),
            RaggedBatch(torch.tensor([[1, 2, 3], [-1, -1, -1]]), sample_sizes=[3, 0]),
            box_format="cxcywh",
            normalized=True,
            canvas_size=torch.tensor([[4, 5], [6, 7]]),
        ),
        Assignment.from_index(torch.tensor([[0, -1, -2]]), num_targets=torch.tensor([1]), max_num_targets=4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_containers(value: Any) -> None:
    assert_equal(again(value), value)


def test_plain_dataclasses() -> None:
    assert as_code(Options(torch.ones(1))) == "Options(data=torch.tensor([1.0]))"
    found = again(Options(TENSOR, scale=nan, name="y"))
    assert_equal([found.data, found.scale, found.name], [TENSOR, nan, "y"])


def test_what_nobody_pastes() -> None:
    assert as_code(torch.zeros(2001)) == "torch.empty((2001,), dtype=torch.float32)"
    assert as_code(torch.zeros(2, device="meta")) == "torch.empty((2,), dtype=torch.float32)"
    assert as_code(torch.zeros(2000)).count("0.0") == 2000
    assert as_code(torch.ones(1, requires_grad=True)) == "torch.tensor([1.0])"
