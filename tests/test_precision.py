"""Float32 stays float32: no criterion and no matcher makes float64 of it where a device has none, as Apple's MPS.

Nothing here runs on such a device. Meta tensors stand in for it, and go the way of all devices but the CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import EVERY_CRITERION, EVERY_MATCHER, ON_THE_HOST, scene
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from losses.testing import CriterionCase
from matchers.transport import transport
from matchers.transport.transport import demands
from ragged.values.precision import widest


class NoFloat64(TorchDispatchMode):
    """Fails at the operation that makes one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = {leaf.dtype for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)}
        assert not made & {torch.float64, torch.complex128}, f"{func} makes {made}"
        return result


def to_meta(values: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, values)


@pytest.fixture
def without_float64(monkeypatch: pytest.MonkeyPatch) -> NoFloat64:
    monkeypatch.setattr(transport, "widest", lambda device: widest(torch.device("mps")))
    return NoFloat64()


@pytest.mark.parametrize("name", EVERY_CRITERION)
def test_criteria_make_no_float64(name: str, without_float64: NoFloat64) -> None:
    case: CriterionCase = EVERY_CRITERION[name]
    criterion = case.make().to("meta")
    predictions = to_meta(case.cast(case.predictions([3, 0, 1]), torch.float32))
    targets = to_meta(case.targets([3, 0, 1]))
    with without_float64:
        _, gradients = case.value_and_gradients(criterion, predictions, targets)
    assert any(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in EVERY_MATCHER if name not in ON_THE_HOST])
def test_matchers_make_no_float64(name: str, without_float64: NoFloat64) -> None:
    matcher, priors = EVERY_MATCHER[name]
    arguments = to_meta((*scene(3, 0, 5), *([] if priors is None else [priors])))
    with without_float64:
        result = matcher(*arguments)
    assert pytree.tree_leaves(result)[0].is_meta


def test_float64_is_noticed() -> None:
    with NoFloat64(), pytest.raises(AssertionError, match=r"_to_copy.* makes \{torch.float64\}"):
        torch.ones(2, device="meta").double()


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "meta", "xpu"])
def test_float64_is_the_widest(device: str) -> None:
    assert widest(torch.device(device)) == torch.float64


@pytest.mark.parametrize("device", ["mps", "mps:0"])
def test_float32_is_the_widest_of_apple(device: str) -> None:
    assert widest(torch.device(device)) == torch.float32


@pytest.mark.parametrize("background", [True, False])
def test_demands_in_float32_are_as_good(background: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = torch.rand(7, 40, generator=torch.Generator().manual_seed(0)) < 0.6
    valid[0] = False
    exact = demands(valid, 30, background=background)
    assert exact.dtype == torch.float64
    monkeypatch.setattr(transport, "widest", lambda device: torch.float32)
    found = demands(valid, 30, background=background)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=2e-7, atol=0)
