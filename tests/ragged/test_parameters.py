"""Modules that are declared as dataclasses are modules like any other."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import field
from typing import ClassVar

import pytest
import torch
from torch import nn

from ragged.values.parameters import module_dataclass


@module_dataclass
class Scaled(nn.Module):
    kind: ClassVar[str] = "scaled"
    first: nn.Module | None = field(default=None, kw_only=False)
    factor: float = 2.0

    def __post_init__(self) -> None:
        self.checked = [self.factor]


@module_dataclass
class Shifted(Scaled):
    factor: float = 3.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.checked.append(self.shift)


class Own(Shifted):
    def __init__(self, factor: float) -> None:
        super().__init__(nn.Linear(1, 1), factor=factor)


def test_the_signature_names_parameters_of_bases_and_their_defaults() -> None:
    assert str(inspect.signature(Shifted)) == (
        "(first: torch.nn.modules.module.Module | None = None, *, factor: float = 3.0, shift: float = 1.0) -> None"
    )


def test_submodules_are_seen() -> None:
    module = Shifted(nn.Linear(2, 3), shift=4.0)
    assert isinstance(module.first, nn.Linear)
    assert [name for name, _ in module.named_parameters()] == ["first.weight", "first.bias"]
    assert module.to(torch.float64).first.weight.dtype == torch.float64
    assert module.checked == [3.0, 4.0]
    assert Shifted().first is None
    assert module.kind == "scaled"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_equal(again) -> None:
    module = Shifted(nn.Linear(2, 3), factor=5.0)
    copied = again(module)
    assert (copied.factor, copied.shift, copied.checked) == (5.0, 1.0, [5.0, 1.0])
    assert torch.equal(copied.first.weight, module.first.weight)


def test_a_class_may_be_derived_by_hand() -> None:
    module = Own(factor=6.0)
    assert (module.factor, module.checked) == (6.0, [6.0, 1.0])
    assert len(list(module.parameters())) == 2


def test_what_is_no_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'factr'"):
        Shifted(factr=1.0)
    with pytest.raises(TypeError, match="positional argument"):
        Shifted(None, 1.0)


def test_modules_are_compared_by_identity() -> None:
    first, second = Scaled(), Scaled()
    assert first != second
    assert len({first, second}) == 2
