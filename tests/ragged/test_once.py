"""What is made once is shared, unless somebody has written into it, or it cannot be used again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ragged.values import once
from ragged.values.once import made_once


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


def test_no_result_is_dropped_for_another(counting: Callable[[int], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "_MOST", 2)
    kept = [counting(size) for size in (1, 2)]
    assert counting(3) is not counting(3)
    assert [counting(size) for size in (1, 2)] == kept
