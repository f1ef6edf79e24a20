"""What is made once is shared, unless somebody has written into it, or it cannot be used again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ragged.values import once
from ragged.values.once import known_range, made_once, of_constant


@pytest.fixture
def counting() -> Callable[[int], Tensor]:
    @made_once
    def count_up(size: int) -> Tensor:
        return torch.arange(float(size))

    return count_up


def test_equal_arguments_give_the_same_tensor(counting: Callable[[int], Tensor]) -> None:
    assert counting(3) is counting(3)
    assert counting(4) is not counting(3)


def test_what_was_written_into_is_made_again(counting: Callable[[int], Tensor]) -> None:
    counting(3).add_(1)
    assert torch.equal(counting(3), torch.arange(3.0))
    assert counting(3) is counting(3)


def test_nothing_is_kept_in_inference_mode(counting: Callable[[int], Tensor]) -> None:
    with torch.inference_mode():
        counting(3)
    factor = torch.ones(3, requires_grad=True)
    (factor * counting(3)).sum().backward()
    assert torch.equal(factor.grad, torch.arange(3.0))


def test_a_trace_of_fake_tensors_gets_its_own(counting: Callable[[int], Tensor]) -> None:
    before = counting(3)
    with FakeTensorMode():
        assert isinstance(counting(3), FakeTensor)
    assert counting(3) is before


@pytest.mark.graphs
def test_compiled(counting: Callable[[int], Tensor]) -> None:
    compiled = torch.compile(lambda values: values + counting(3), backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.ones(3)), torch.arange(3.0) + 1)


class Made:
    """Counts how often something is made of a tensor."""

    def __init__(self) -> None:
        self.times = 0

    def of(self, constant: Tensor, name: str = "double") -> Tensor:
        def make() -> Tensor:
            self.times += 1
            return constant * 2

        return of_constant(constant, name, make)


def test_what_is_made_of_a_constant_is_kept_until_it_is_written_into() -> None:
    made, constant = Made(), torch.zeros(3, device="meta")
    first = made.of(constant)
    assert made.of(constant) is first and made.of(constant, "another") is not first
    assert made.of(torch.zeros(3, device="meta")) is not first
    constant.add_(1)
    assert made.of(constant) is not first
    assert made.times == 4


def test_what_is_made_of_a_constant_dies_with_it() -> None:
    constant = torch.zeros(3, device="meta")
    result = weakref.ref(Made().of(constant))
    assert result() is not None
    del constant
    gc.collect()
    assert result() is None


@pytest.mark.parametrize("kind", ["cpu", "gradient", "inference", "fake", "transform"])
def test_nothing_is_kept_of_what_may_be_another_one(kind: str) -> None:
    made = Made()
    constant = torch.zeros(3, device="cpu" if kind == "cpu" else "meta", requires_grad=kind == "gradient")
    for _ in range(2):
        if kind == "inference":
            with torch.inference_mode():
                made.of(constant)
        elif kind == "fake":
            with FakeTensorMode() as mode:
                made.of(mode.from_tensor(constant))
        elif kind == "transform":
            torch.func.vmap(lambda _: made.of(constant))(torch.zeros(1, device="meta"))
        else:
            made.of(constant)
    assert made.times == 2


def test_ranges() -> None:
    for device in map(torch.device, ("cpu", "meta")):
        assert (known_range(5, device) is known_range(5, device)) == (device.type == "meta")
    assert known_range(3, torch.device("cpu")).tolist() == [0, 1, 2]


def test_no_result_is_dropped_for_another(counting: Callable[[int], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "_MOST", 2)
    kept = [counting(size) for size in (1, 2)]
    assert counting(3) is not counting(3)
    assert [counting(size) for size in (1, 2)] == kept
