"""The checkers say nothing of right operations, whatever they are given and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import ragged
from matchers import Assignment, ClosestTarget, Targets, pairwise
from matchers.geometry.boxes import coordinates
from ragged import RaggedBatch
from ragged.interop.registration import register_dataclass
from ragged.testing import (
    PROPERTIES,
    assert_compiles,
    assert_gradients,
    assert_matches_per_sample,
    check_op,
)

pytestmark = pytest.mark.hunts

SIZES: dict[str, Any] = {
    "one batch dimension": [3, 0, 1, 2],
    "two batch dimensions": [[3, 0], [1, 2], [0, 3]],
    "no sample": torch.zeros(0, dtype=torch.int64),
    "no entry": [0, 0],
    "one full sample": [3],
}
QUICK = set(PROPERTIES) - {"compilation"}
# What cannot be checked without floating numbers, without integers, without a result that has a gradient.
OF_SOME = {"gradients", "integers", "nonfinite", "precision", "zeros"}


class Sums(NamedTuple):
    total: Tensor
    squares: RaggedBatch


@dataclass(frozen=True)
class Scaled:
    data: RaggedBatch
    factor: Tensor
    name: str = "constant"


register_dataclass(Scaled, constants=("name",))


def batch(
    sizes: Any, *data_shape: int, axis: int = 0, dtype: torch.dtype = torch.float32, width: int = 4
) -> RaggedBatch:
    counts = torch.as_tensor(sizes)
    shape = (*counts.shape, *data_shape[:axis], width, *data_shape[axis:])
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    return RaggedBatch(values.to(dtype), sample_sizes=counts, non_uniform_dim=counts.dim() + axis)


def per_sample(data: RaggedBatch, *shape: int) -> Tensor:
    return torch.randn(*data.batch_shape, *shape, generator=torch.Generator().manual_seed(1))


def writes_into_a_copy(data: RaggedBatch) -> Tensor:
    copy = data.tensor.clone()
    copy.masked_fill_(~data.aligned_mask, 0)
    return copy.sum(data.non_uniform_dim)


def writes_into_what_it_made(data: RaggedBatch) -> RaggedBatch:
    doubled = data * 2
    doubled.set_padded_to(1.0)
    return doubled


# Operation, its arguments for sizes of samples, and what it gives for one sample.
OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[[Any], tuple[Any, ...]], Callable[..., Any] | None]] = {
    "sum": (ragged.sum_over_targets, lambda sizes: (batch(sizes, 2),), lambda sample: sample.sum(0)),
    "ragged dimension last": (
        ragged.sum_over_targets,
        lambda sizes: (batch(sizes, 2, 3, axis=2),),
        lambda sample: sample.sum(2),
    ),
    "softmax": (ragged.softmax_over_targets, lambda sizes: (batch(sizes, 2, axis=1),), lambda sample: sample.softmax(1)),
    "infinite for no entry": (ragged.logsumexp_over_targets, lambda sizes: (batch(sizes),), lambda sample: sample.logsumexp(0)),
    "tuple": (lambda data: ragged.sort_over_targets(data), lambda sizes: (batch(sizes, 2),), lambda sample: tuple(sample.sort(0))),
    "integers": (ragged.count_over_targets, lambda sizes: (batch(sizes, dtype=torch.int32),), lambda sample: (sample != 0).sum(0)),
    "booleans": (ragged.any_over_targets, lambda sizes: (batch(sizes, dtype=torch.bool),), lambda sample: sample.any(0)),
    "complex": (
        lambda data: ragged.sum_over_targets(data * data).conj(),
        lambda sizes: (batch(sizes, 2, dtype=torch.complex64) * (1 + 2j),),
        lambda sample: (sample * sample).sum(0).conj(),
    ),
    "float64": (ragged.cumsum_over_targets, lambda sizes: (batch(sizes, dtype=torch.float64),), lambda sample: sample.cumsum(0)),
    "no gradient": (ragged.argmax_over_targets, lambda sizes: (batch(sizes),), lambda sample: sample.argmax(0) if len(sample) else -1),
    "dict": (
        lambda given: {"sum": ragged.sum_over_targets(given["data"]) * given["factor"], "data": given["data"]},
        lambda sizes: ({"data": (data := batch(sizes)), "factor": per_sample(data)},),
        lambda given: {"sum": given["data"].sum(0) * given["factor"], "data": given["data"]},
    ),
    "named tuple": (
        lambda data: Sums(ragged.sum_over_targets(data), data * data),
        lambda sizes: (batch(sizes),),
        lambda sample: Sums(sample.sum(0), sample * sample),
    ),
    "dataclass": (
        lambda given: replace(given, data=given.data * given.factor.unsqueeze(-1)),
        lambda sizes: (Scaled(data := batch(sizes), per_sample(data)),),
        lambda given: replace(given, data=given.data * given.factor),
    ),
    "an unused argument": (lambda data, other: data * 2, lambda sizes: (batch(sizes), batch(sizes, 2)), lambda data, other: data * 2),
    "its argument": (lambda data: data, lambda sizes: (batch(sizes),), lambda sample: sample),
    "sizes": (lambda data: (data.sample_sizes, None), lambda sizes: (batch(sizes),), lambda sample: (len(sample), None)),
    "detached": (lambda data: data.detach() * 2, lambda sizes: (batch(sizes),), lambda sample: sample.detach() * 2),
    "writes into a copy": (writes_into_a_copy, lambda sizes: (batch(sizes, 2),), lambda sample: sample.sum(0)),
    "writes into what it made": (writes_into_what_it_made, lambda sizes: (batch(sizes, 2),), lambda sample: sample * 2),
    "no data": (ragged.sum_over_targets, lambda sizes: (batch(sizes, 0),), lambda sample: sample.sum(0)),
}  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_property(name: str, sizes: str) -> None:
    op, arguments, reference = OPERATIONS[name]
    given = arguments(SIZES[sizes])
    if name == "infinite for no entry" and sizes != "one full sample":
        reference = None  # whose gradient torch has as NaN there
    checked = check_op(op, *given, reference=reference, without=["compilation"])
    if sizes == "one batch dimension":
        has_gradient = name not in ("integers", "booleans", "no gradient", "sizes", "detached")
        assert ("gradients" in checked) == has_gradient
        assert set(checked) - {*OF_SOME, "reference"} == QUICK - OF_SOME
        assert set(checked.unchecked) == set(PROPERTIES) - set(checked)


def test_width_zero() -> None:
    data = RaggedBatch(torch.zeros(2, 0, 3), sample_sizes=[0, 0])
    assert "gradients" in check_op(lambda data: data * 2, data, without=["compilation"])


def test_a_matcher() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 4, 2, generator=generator)
    boxes = RaggedBatch(torch.cat([corner, corner + 0.5], -1), sample_sizes=[3, 0, 1])
    targets = Targets(boxes, boxes.create_with_sample_sizes_like_self(torch.zeros(3, 4, dtype=torch.int64)))
    matcher = ClosestTarget(lambda pairs: 1 - pairs.predicted.x1 + pairs.gt.x1)

    def op(logits: Tensor, boxes: Tensor, targets: Targets) -> Assignment:
        return matcher({"pred_logits": logits, "pred_boxes": boxes}, targets)

    predicted = torch.cat([corner[:, :2], corner[:, :2] + 0.4], -1)
    assert "gradients" not in check_op(op, torch.zeros(3, 2, 5), predicted, targets, without=["compilation"])


def test_shared_arguments() -> None:
    def op(data: RaggedBatch, points: Tensor, options: dict[str, Any]) -> RaggedBatch:
        return data.create_with_sample_sizes_like_self((data.tensor.unsqueeze(-1) - points) * options["scale"])

    shared = (torch.arange(5.0), {"scale": 2})
    check_op(
        op, batch([2, 0, 1]), shared=shared, reference=lambda sample, points, options: (sample[:, None] - points) * 2
    )


def test_a_module_with_parameters() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(2, 3), nn.LayerNorm(3)
            self.register_buffer("scale", torch.ones(3))

        def forward(self, data: RaggedBatch) -> RaggedBatch:
            given = data.with_padded_set_to(0).tensor
            return data.create_with_sample_sizes_like_self(self.norm(self.linear(given).tanh()) * self.scale)

    # Its parameters are no arguments: they are neither cast to float64 nor to half precision.
    assert "synchronisation" in check_op(Head(), batch([2, 0, 1], 2), without=["gradients", "precision"])


@pytest.mark.parametrize("op", [ragged.sum_over_targets, lambda data: {"data": data * data}])
def test_compilation(op: Callable[..., Any]) -> None:
    assert_compiles(op, batch([3, 0, 1], 2))


def test_plain_tensors_alone() -> None:
    """Without a ragged batch, the first dimension is that of the samples."""
    boxes = torch.rand(3, 4, 4) + torch.tensor([0.0, 0, 1, 1])
    check_op(lambda boxes: coordinates(boxes).area, boxes, without=["compilation"])

    def distances(boxes: Tensor) -> Tensor:
        return pairwise(lambda first, second: (first - second).square().sum(-1), boxes, boxes)

    assert_matches_per_sample(distances, lambda own: (own[:, None] - own[None]).square().sum(-1), boxes)


def test_a_reference_that_looks_at_nothing() -> None:
    """A gradient of zeros and none at all say the same; and a sample without entries may have a plain number."""
    assert_matches_per_sample(
        ragged.sum_over_targets, lambda sample: sample.sum() if len(sample) else 0.0, batch([2, 0, 1])
    )
    assert_matches_per_sample(
        lambda data, other: ragged.sum_over_targets(data) + 0 * other,
        lambda data, other: data.sum(),
        batch([2, 1]),
        torch.ones(2),
    )


def test_second_derivatives_may_be_left_out() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * 2 * ctx.saved_tensors[0].detach()

    def op(data: RaggedBatch) -> RaggedBatch:
        return data.create_with_sample_sizes_like_self(Square.apply(data.with_padded_set_to(0).tensor))

    assert_gradients(op, batch([2, 0, 1]), second=False)
