"""Misuse of the kit: an error that says what was expected, and what was got."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import ragged
from ragged import RaggedBatch
from ragged.testing import (
    PROPERTIES,
    PropertyViolation,
    assert_batch_equivariant,
    assert_dtype_stable,
    assert_filler_invariant,
    assert_gradients,
    assert_matches_per_sample,
    assert_padding_invariant,
    assert_pure,
    assert_sample_independent,
    check_op,
)

BATCH = RaggedBatch(torch.rand(2, 3), sample_sizes=[2, 0])
OTHER = RaggedBatch(torch.rand(3, 3), sample_sizes=[2, 0, 1])
CHECKERS = [
    assert_batch_equivariant,
    assert_dtype_stable,
    assert_filler_invariant,
    assert_padding_invariant,
    assert_pure,
    assert_sample_independent,
    check_op,
]


@dataclass
class Unknown:
    """Not registered with torch."""

    data: RaggedBatch
    name: str = "x"


def give(*arguments: Any) -> Any:
    return arguments[0]


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), ValueError, "the arguments hold neither a ragged batch nor a tensor with a dimension"),
        ((1, "x", None), ValueError, "the arguments hold neither a ragged batch nor a tensor with a dimension"),
        ((torch.tensor(1.0),), ValueError, "the arguments hold neither a ragged batch nor a tensor with a dimension"),
        (
            (BATCH, {"a": OTHER}),
            ValueError,
            r"all ragged batches must have the same batch shape, got \[\(2,\), \(3,\)\]",
        ),
        (
            (Unknown(BATCH),),
            TypeError,
            "^argument 0 is a Unknown, whose tensors torch does not see: register Unknown as",
        ),
        ((BATCH, [1, Unknown(BATCH)]), TypeError, r"^argument 1\[1\] is a Unknown, whose tensors torch does not see"),
    ],
)
def test_arguments(
    checker: Callable[..., None], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        checker(give, *arguments)


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("nothing", [None, (), {"a": None}, [None, None]])
def test_no_result(checker: Callable[..., None], nothing: Any) -> None:
    with pytest.raises(TypeError, match="the operation gives no result that could be checked"):
        checker(lambda data: nothing, BATCH)


@pytest.mark.parametrize("checker", CHECKERS)
def test_result_that_torch_does_not_see(checker: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match=r"^result\['a'\] is a Unknown, whose tensors torch does not see"):
        checker(lambda data: {"a": Unknown(data)}, BATCH)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: check_op(give, BATCH, without=["speed"]),
            "unknown property 'speed'; there are randomness, purity, filler, padding,",
        ),
        (lambda: assert_filler_invariant(give, BATCH, fillers=["odd"]), "kind of filler must be one of .*, got 'odd'"),
        (
            lambda: assert_gradients(ragged.argmax_over_targets, BATCH),
            "no result depends on a floating argument: there is nothing to differentiate",
        ),
        (
            lambda: assert_gradients(ragged.count_over_targets, BATCH.to_dtype(torch.int64)),
            "no result depends on a floating argument: there is nothing to differentiate",
        ),
        (
            lambda: assert_matches_per_sample(ragged.sum_over_targets, _without_gradient, BATCH),
            r"_without_gradient gives no gradient of argument 0; to compare values alone, say gradients=False",
        ),
    ],
)
def test_options(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def _without_gradient(sample: Tensor) -> Tensor:
    return sample.detach().sum(0)


def test_values_alone() -> None:
    assert_matches_per_sample(ragged.sum_over_targets, _without_gradient, BATCH, gradients=False)


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hypothesis":
            raise ModuleNotFoundError("No module named 'hypothesis'", name="hypothesis")

sys.meta_path.insert(0, Blocker())
import ragged, matchers, losses
try:
    import ragged.testing
except ImportError as error:
    print(error)
"""
UNTOUCHED = """
import sys, ragged, matchers, losses
print([name for name in ("hypothesis", "ragged.testing", "scipy", "torch._dynamo") if name in sys.modules])
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (BLOCKED, 'ragged.testing needs hypothesis: pip install "ragged-batch[testing]"\n'),
        (UNTOUCHED, "[]\n"),
    ],
)
def test_what_is_imported_when_it_is_needed_alone(code: str, shown: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == shown


def test_a_tensor_that_an_operation_holds_is_named() -> None:
    """No checker can change it along with the arguments."""
    batch = RaggedBatch(torch.rand(3, 4, 2), sample_sizes=[4, 1, 2])
    of_samples, weight = torch.rand(3, 1, 1), torch.rand(2, 2, requires_grad=True)
    words = r"holds a tensor 'of_samples' of shape \(3, 1, 1\), as if it had a part for each sample: pass it as an arg"
    with pytest.raises(PropertyViolation, match=words):
        check_op(lambda batch: batch * of_samples, batch, without=["compilation"])
    words = r"holds a tensor 'weight' of shape \(2, 2\), which requires a gradient: pass it in shared="
    with pytest.raises(PropertyViolation, match=words):
        check_op(lambda batch: batch.apply(lambda data: data @ weight), batch, without=["compilation"])
    others = [name for name in PROPERTIES if name != "order"]
    unchecked = check_op(lambda batch: batch * weight.sum(), batch, without=others).unchecked
    assert unchecked["gradient of weight"] == "the operation holds this tensor: pass it in shared="
