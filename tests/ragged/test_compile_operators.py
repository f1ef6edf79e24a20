"""Everyday arithmetic in one graph: every operator, with a batch at either side, does what it does eagerly."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from effort import mostly_thorough
from torch import Tensor
from torch.nn import functional

import ragged
from ragged import RaggedBatch

pytestmark = pytest.mark.graphs

NAN = float("nan")
ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
LOGICAL = ("and_", "or_", "xor")
IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor")
GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _forget_graphs() -> None:
    torch._dynamo.reset()


def reals(*shape: int) -> Tensor:
    return torch.rand(shape, generator=GENERATOR) + 0.5


def batch() -> RaggedBatch:
    return RaggedBatch(reals(2, 3, 4), sample_sizes=torch.tensor([3, 1])).with_padded_set_to(NAN)


BATCH = batch()
WHOLE = BATCH.create_with_sample_sizes_like_self(torch.randint(1, 5, (2, 3, 4), generator=GENERATOR))
WHOLE = WHOLE.with_padded_set_to(0)  # by which no whole number can be divided
TRUTH = BATCH > 1
OTHERS: dict[str, tuple[RaggedBatch, Any]] = {
    "a batch": (BATCH, BATCH.create_with_sample_sizes_like_self(reals(2, 3, 4)).with_padded_set_to(NAN)),
    "a tensor": (BATCH, reals(4)),
    "a tensor of the same shape": (BATCH, reals(2, 3, 4)),
    "a tensor for each sample": (BATCH, reals(2, 1, 1)),
    "a tensor without dimensions": (BATCH, torch.tensor(1.5)),
    "a whole number": (BATCH, 2),
    "a fraction": (BATCH, 1.5),
    "float64 of numpy": (BATCH, np.float64(1.5)),
    "float32 of numpy": (BATCH, np.float32(1.5)),
    "int64 of numpy": (BATCH, np.int64(2)),
    "whole numbers, a batch": (WHOLE, WHOLE),
    "whole numbers, a tensor": (WHOLE, torch.tensor([1, 2, 3, 1])),
    "whole numbers, a number": (WHOLE, 2),
    "whole numbers, int32 of numpy": (WHOLE, np.int32(2)),
    "whole numbers, float64 of numpy": (WHOLE, np.float64(1.5)),
    "truth values, a batch": (TRUTH, TRUTH),
    "truth values, a tensor": (TRUTH, torch.tensor([True, False, False, True])),
    "truth values, a truth value": (TRUTH, True),
    "truth values, one of numpy": (TRUTH, np.bool_(True)),
}
USUAL = [
    "a batch", "a tensor", "a whole number", "float64 of numpy", "whole numbers, a tensor",
    "whole numbers, float64 of numpy", "truth values, a tensor", "truth values, one of numpy",
]  # fmt: skip


def names_for(batch: RaggedBatch, other: Any) -> tuple[str, ...]:
    logical = (*LOGICAL, *IN_PLACE[-3:])
    if batch.dtype is torch.bool:
        return (*logical, "eq", "ne")
    real = batch.tensor.is_floating_point() or isinstance(other, np.floating)
    return (*ARITHMETIC, *COMPARISONS, *IN_PLACE[:-3], *(() if real else logical))


def every_operator(names: tuple[str, ...]) -> Callable[[RaggedBatch, Any], dict[str, RaggedBatch]]:
    def compute(batch: RaggedBatch, other: Any) -> dict[str, RaggedBatch]:
        constants = [each.detach() if isinstance(each, (RaggedBatch, Tensor)) else each for each in (batch, other)]
        results = {}
        for name in names:
            # torch has no derivative of a whole quotient, and none of the remainder of a number.
            a, b = constants if "floordiv" in name else (batch, other)
            results[f"batch {name} other"] = getattr(operator, name)(a, b)
            if name not in IN_PLACE:  # what stands on the left may be a tensor, and would be written to
                a, b = constants if name in ("floordiv", "mod") else (batch, other)
                results[f"other {name} batch"] = getattr(operator, name)(b, a)
        return results

    return compute


def gradients(results: dict[str, RaggedBatch], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    total = sum(ragged.sum_over_targets(each).sum() for each in results.values() if each.requires_grad)
    return torch.autograd.grad(total, leaves) if leaves else ()


@pytest.mark.parametrize("kind", mostly_thorough(OTHERS, usual=USUAL))
def test_operators_do_what_they_do_eagerly(kind: str) -> None:
    batch, other = OTHERS[kind]
    batch, leaves = batch.clone(), []
    for each in (batch, other):
        if isinstance(each, (RaggedBatch, Tensor)) and each.dtype.is_floating_point:
            leaves.append(each.tensor if isinstance(each, RaggedBatch) else each)
            leaves[-1].requires_grad_()
    compute = every_operator(names_for(batch, other))
    expected = compute(batch, other)
    computed = torch.compile(compute, fullgraph=True, backend="eager")(batch, other)
    for name, reference in expected.items():
        assert isinstance(computed[name], RaggedBatch) and computed[name].dtype == reference.dtype, name
        for a, b in zip(computed[name].split(), reference.split(), strict=True):
            torch.testing.assert_close(a, b, msg=lambda words, name=name: f"{name}: {words}")
    found = gradients(computed, leaves)
    torch.testing.assert_close(found, gradients(expected, leaves))
    for gradient, each in zip(found, (batch, other), strict=False):
        assert gradient.isfinite().all()
        assert not isinstance(each, RaggedBatch) or not gradient[~batch.mask].any()


EVERYDAY: dict[str, Callable[[RaggedBatch], Any]] = {
    "-": operator.neg,
    "+": operator.pos,
    "abs": abs,
    "not": lambda batch: torch.bitwise_not(batch > 1),  # dynamo knows ``~`` of tensors only
    "exp": torch.exp,
    "log": torch.log,
    "power": lambda batch: torch.pow(batch, exponent=2),
    "relu": functional.relu,
    "softplus": functional.softplus,
    "clamp": lambda batch: torch.clamp(batch, min=0.5, max=1.0),
    "clamp of numpy": lambda batch: torch.clamp(batch, min=np.float64(0.7)),
    "where": lambda batch: torch.where(batch > 1, batch, 0.0),
    "isnan": torch.isnan,
    "zeros_like": torch.zeros_like,
    "loss": lambda batch: functional.mse_loss(batch, torch.ones(2, 3, 4), reduction="none"),
    "softmax": lambda batch: torch.softmax(batch, -1),
    "sum": lambda batch: torch.sum(batch, -1),
    "keyword": lambda batch: torch.add(torch.ones(4), other=batch, alpha=2),
    "to": lambda batch: batch.to(torch.float64),
    "to device": lambda batch: batch.to("cpu"),
    "to_dtype": lambda batch: batch.to_dtype(torch.int64),
    "half": lambda batch: batch.half(),
    "set padding": lambda batch: batch.with_padded_set_to(0),
    "apply": lambda batch: batch.apply(lambda tensor: tensor * 2),
    "apply with a mask": lambda batch: batch.apply(lambda tensor, mask: tensor * mask.unsqueeze(-1)),
    "detach": lambda batch: batch.detach(),
    "clone": lambda batch: batch.clone(),
    "size": lambda batch: batch.with_max_sample_size(5),
    "unsqueeze": lambda batch: batch.unsqueeze_data_dim(-1),
    "transpose": lambda batch: batch.get_non_uniform_dimension_transposed_to(2),
    "batch dim": lambda batch: batch.unsqueeze_batch_dim(0).flatten_batch_dims(),
    "repeat": lambda batch: batch.repeat_samples(2),
    "weights": lambda batch: batch.get_existence_weights(),
    "like": lambda batch: batch.create_with_sample_sizes_like_self(batch.tensor[..., 0]),
    "item": lambda batch: batch.with_padded_set_to(0)[..., :2],
    "sum over targets": ragged.sum_over_targets,
    "average": ragged.average_over_targets,
    "max": ragged.max_over_targets,
    "size of": lambda batch: batch * batch.max_sample_size + batch.num_batch_dims,
}


# In few graphs, so that it is quick.
@pytest.mark.parametrize("part", range(4))
def test_everyday_functions_do_what_they_do_eagerly(part: int) -> None:
    chosen = dict(list(EVERYDAY.items())[part::4])

    def compute(batch: RaggedBatch) -> dict[str, Any]:
        return {name: function(batch) for name, function in chosen.items()}

    expected = compute(BATCH)
    computed = torch.compile(compute, fullgraph=True, backend="eager")(BATCH)
    for name, reference in expected.items():
        found = computed[name]
        assert type(found) is type(reference) and found.dtype == reference.dtype, name
        same = found.equal(reference) if isinstance(found, RaggedBatch) else torch.equal(found, reference)
        assert same, name


def test_a_shape_that_does_not_broadcast_is_named_in_a_graph() -> None:
    compiled = torch.compile(lambda batch, other: batch + other, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"add: a tensor of shape \(2, 5\) does not broadcast to the batch of shape"):
        compiled(BATCH, torch.ones(2, 5))


def test_a_tensor_is_not_written_to_in_a_graph() -> None:
    def add(tensor: Tensor, batch: RaggedBatch) -> RaggedBatch:
        tensor += batch  # a new batch if it runs eagerly
        return tensor  # type: ignore[return-value]

    assert isinstance(add(torch.ones(4), BATCH), RaggedBatch)
    with pytest.raises(Exception, match=r"add_ would write a RaggedBatch into a tensor; use torch.add"):
        torch.compile(add, fullgraph=True, backend="eager")(torch.ones(4), BATCH)
