"""Each checker finds what it is for, and says where: the property, the sample, the position, and both values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ragged
from ragged import RaggedBatch
from ragged.testing import (
    PROPERTIES,
    HostSyncError,
    PropertyViolation,
    assert_batch_equivariant,
    assert_compiles,
    assert_dtype_stable,
    assert_filler_invariant,
    assert_gradients,
    assert_matches_per_sample,
    assert_no_host_sync,
    assert_padding_invariant,
    assert_pure,
    assert_sample_independent,
    check_op,
)

BATCH = RaggedBatch(torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]]), sample_sizes=[2, 1])
TWO_DIMS = RaggedBatch(
    torch.arange(1.0, 13.0).view(2, 1, 2, 3), sample_sizes=torch.tensor([[3], [1]]), non_uniform_dim=3
)
FULL = RaggedBatch(torch.tensor([[1.0], [2.0]]), sample_sizes=[1, 1])
SCALES = torch.tensor([1.0, 2.0])
INTEGERS = RaggedBatch(torch.tensor([[1, 2, 0], [3, 0, 0]]), sample_sizes=[2, 1])


def zeroed(data: RaggedBatch) -> Tensor:
    return data.with_padded_set_to(0).tensor


def like(data: RaggedBatch, tensor: Tensor) -> RaggedBatch:
    return data.create_with_sample_sizes_like_self(tensor)


def projected(data: RaggedBatch, weight: Tensor) -> RaggedBatch:
    """NaN filler times a zero gradient is a NaN in the gradient of the weight, and in nothing else."""
    return like(data, data.tensor.unsqueeze(-1) @ weight.to(data.dtype))


def projected_safely(data: RaggedBatch, weight: Tensor) -> RaggedBatch:
    return like(data, zeroed(data).unsqueeze(-1) @ weight.to(data.dtype))


class _Square(torch.autograd.Function):
    """The square with a wrong derivative, or a right one that has none itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor * ctx.saved_tensors[0].detach(), None


class _Cached:
    """Remembers what it was called with."""

    def __init__(self, key: Callable[[RaggedBatch], Any]) -> None:
        self.key, self.kept = key, {}

    def __call__(self, data: RaggedBatch) -> Tensor:
        return self.kept.setdefault(self.key(data), ragged.sum_over_targets(data).detach().clone())


class _CountingCalls:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, data: RaggedBatch) -> Tensor:
        self.calls += 1
        return data.sample_sizes + self.calls


class _OneBuffer:
    """Gives the same tensor every time."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(2)

    def __call__(self, data: RaggedBatch) -> Tensor:
        return self.buffer.copy_(ragged.sum_over_targets(data).detach())


def writes(data: RaggedBatch) -> Tensor:
    data.tensor.masked_fill_(~data.aligned_mask, 7)
    return data.sample_sizes


def writes_mask(data: RaggedBatch) -> Tensor:
    data.mask.fill_(True)
    return data.sample_sizes


Failure = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], str]
FAILURES: dict[str, Failure] = {
    "filler": (assert_filler_invariant, lambda data: data.tensor.sum(1), (BATCH,),
        'filler ("garbage" filler): result of sample 0 is -151.0, expected 3.0'),
    "filler, NaN alone": (assert_filler_invariant, lambda data: (data.tensor * data.mask).sum(1), (BATCH,),
        'filler ("nan" filler): result of sample 0 is nan, expected 3.0'),
    "filler, two batch dimensions": (
        assert_filler_invariant, lambda data: like(data, data.tensor.flip(-1)), (TWO_DIMS,),
        'filler ("garbage" filler): result of sample (0, 0) at position (0, 0) is -77.0, expected 0.0'),
    "filler, in a dict": (
        assert_filler_invariant, lambda data: {"a": [data, data.tensor[:, -1]]}, (BATCH,),
        "filler (\"garbage\" filler): result['a'][1] of sample 0 is -77.0, expected 0.0"),
    "filler, integers": (assert_filler_invariant, lambda data: data.tensor.amax(1), (INTEGERS,),
        'filler ("garbage" filler): result of sample 0 is 77, expected 2'),
    "filler, gradient": (
        assert_filler_invariant, lambda data: torch.where(data.mask, data.tensor, data.tensor.detach() * 0 + data.tensor - data.tensor.detach()).nan_to_num(0, 0, 0).sum(1), (BATCH,),
        'filler ("zeros" filler): gradient of argument 0 is 1.79.* in the filler, at (0, 2)'),
    "filler, raises": (
        assert_filler_invariant, lambda data: torch.zeros(5)[data.tensor.long()].sum(1) * 0, (INTEGERS,),
        'filler ("garbage" filler): the operation raises IndexError: index 77 is out of bounds for dimension 0 with size 5'),
    "padding": (assert_padding_invariant, lambda data: zeroed(data).mean(1), (BATCH,),
        "padding (no more padding than needed): result of sample 0 is 1.5, expected 1.0"),
    "padding, a shape": (assert_padding_invariant, lambda data: zeroed(data), (BATCH,),
        "padding (no more padding than needed): result has shape (2, 2), expected (2, 3)"),
    "padding, a size": (assert_padding_invariant, lambda data: data.max_sample_size, (BATCH,),
        "padding (no more padding than needed): result is 2, expected 3"),
    "padding, raises": (assert_padding_invariant, lambda data: zeroed(data)[:, 2], (BATCH,),
        "padding (no more padding than needed): the operation raises IndexError: index 2 is out of bounds for dimension 1 with size 2"),
    "order": (assert_batch_equivariant, lambda data: ragged.sum_over_targets(data) + torch.arange(2), (BATCH,),
        "order (samples [1, 0] along dimension 0): result of sample 0 is 3.0, expected 4.0"),
    "order, two batch dimensions": (
        assert_batch_equivariant, lambda data: like(data, data.tensor[:1].expand_as(data.tensor)), (TWO_DIMS,),
        "order (samples [1, 0] along dimension 0): result of sample (0, 0) at position (0, 0) is 7.0, expected 1.0"),
    "order, one result for all": (assert_batch_equivariant, lambda data: zeroed(data)[0].square().sum(), (BATCH,),
        "order (samples [1, 0] along dimension 0): result is 9.0, expected 5.0"),
    "independence": (assert_sample_independent, lambda data: (total := ragged.sum_over_targets(data)) / total.sum(), (BATCH,),
        "independence (sample (0,) alone, then in its batch): result of sample 0 is 1.0, expected 0.5"),
    "independence, gradient": (
        assert_sample_independent, lambda data: (total := ragged.sum_over_targets(data)) + total.sum() - total.sum().detach(), (BATCH,),
        "independence (sample (0,) alone, then in its batch): gradient of argument 0 of sample 0 at position (0,) is 3.58.*, expected 5.37.*"),
    "independence, no samples": (assert_sample_independent, lambda data: {"loss": zeroed(data).sum()}, (BATCH,),
        "independence: result['loss'] does not begin with the batch shape (2,), so that no sample has a part of it"),
    "independence, sizes": (
        assert_sample_independent, lambda data: RaggedBatch(data.tensor, sample_sizes=data.sample_sizes.max().expand(2).clamp(max=data.sample_sizes.max()) if len(data.tensor) == 2 else data.sample_sizes), (BATCH,),
        "independence (sample (1,) alone, then in its batch): result has other sample sizes: of sample 0 is 1, expected 2"),
    "gradients": (assert_gradients, lambda data: _Square.apply(zeroed(data), 3.0).sum(1), (BATCH,),
        "gradients: gradient of argument 0 of sample 0 at position (0,) is 3, expected 2 by finite differences"),
    "gradients, second": (assert_gradients, lambda data: _Square.apply(zeroed(data), 2.0).sum(1), (BATCH,),
        "gradients: second derivative, from the gradient of argument 0 of sample 0 at position (0,), is 0, expected 2.8.*"),
    "gradients, detached part": (assert_gradients, lambda data: (zeroed(data) * zeroed(data).detach()).sum(1), (BATCH,),
        "gradients: gradient of argument 0 of sample 0 at position (0,) is 1, expected 2 by finite differences"),
    "gradients, empty": (
        assert_gradients, lambda data, scale: ragged.sum_over_targets(data) / data.sample_sizes * scale, (BATCH, SCALES),
        "gradients (the first sample empty): gradient of argument 1 of sample 0 is nan"),
    "gradients, all empty": (
        assert_gradients, lambda data, scale: scale / data.sample_sizes.sum() + 0 * ragged.sum_over_targets(data), (BATCH, SCALES),
        "gradients (every sample empty): gradient of argument 1 of sample 0 is inf"),
    "gradients, NaN everywhere": (assert_gradients, lambda data: ragged.sum_over_targets(data) * torch.nan, (BATCH,),
        "gradients: gradient of argument 0 of sample 0 at position (0,) is nan, expected 0 by finite differences"),
    "precision": (assert_dtype_stable, lambda data: (zeroed(data) * 200).square().sum(1).sqrt(), (BATCH,),
        "precision (torch.float16 inputs, then float32): result of sample 0 is inf, expected 447.21"),
    "precision, overflow of the result": (assert_dtype_stable, lambda data: (zeroed(data) * 200).square().sum(1), (BATCH,),
        "precision (torch.float16 inputs, then float32): result of sample 0 is inf, expected 200000.0"),
    "precision, accumulated": (
        assert_dtype_stable, lambda data: sum((zeroed(data.detach())[:, 0] for _ in range(600)), 0), (BATCH,),
        "precision (torch.bfloat16 inputs, then float32): result of sample 0 is 256.0, expected 600.0"),
    "autocast": (
        assert_dtype_stable, lambda data: ((wide := zeroed(data).float() * 200).unsqueeze(1) @ wide.unsqueeze(2)).flatten().sqrt(), (BATCH,),
        "precision (autocast to torch.float16, then float32): result of sample 0 is inf, expected 447.21"),
    "purity, filler": (assert_pure, writes, (BATCH,),
        "purity (an argument, after the call): argument 0.tensor of sample 0 at position (2,) is 7.0, expected 0.0"),
    "purity, integers": (assert_pure, writes, (INTEGERS,),
        "purity (an argument, after the call): argument 0.tensor of sample 0 at position (2,) is 7, expected 0"),
    "purity, mask": (assert_pure, writes_mask, (BATCH,),
        "purity (an argument, after the call): argument 0.mask of sample 0 at position (2,) is True, expected False"),
    "purity, one buffer": (assert_pure, _OneBuffer(), (FULL,),
        "purity (a result, after another call): result of sample 0 is 1.5, expected 1.0"),
    "purity, counter": (assert_pure, _CountingCalls(), (BATCH,),
        "purity (second call, then first): result of sample 0 is 5, expected 3"),
    "stale cache": (assert_batch_equivariant, _Cached(lambda data: data.shape), (FULL,),
        "order (samples [1, 0] along dimension 0): result of sample 0 is 1.0, expected 2.0"),
    "graph break": (assert_compiles, lambda data: data.tensor.sum(1) if data.sample_sizes.sum() > 1 else data.tensor.sum(1) * 2, (BATCH,),
        "compilation: torch gives up: .*"),
    "recompiles": (
        assert_compiles, lambda data: sum((zeroed(data).select(1, place) for place in range(data.max_sample_size)), zeroed(data)[:, 0] * 0), (BATCH,),
        "compilation: 4 graphs for 4 sizes, expected 3 at most"),
    "wrong when compiled": (
        assert_compiles, lambda data: zeroed(data).sum(1) + (1 if torch.compiler.is_compiling() else 0), (BATCH,),
        "compilation (0 more slots; first compiled, then eager): result of sample 0 is 4.0, expected 3.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_violations(name: str) -> None:
    checker, op, arguments, message = FAILURES[name]
    with pytest.raises(PropertyViolation) as caught:
        checker(op, *arguments)
    first, *rest = str(caught.value).splitlines()
    expected = re.escape(message).replace(r"\.\*", ".*")
    assert re.match(expected + "$" if not message.endswith((".*", "447.21")) else expected, first), first
    assert caught.value.property == first.partition(" ")[0].rstrip(":")
    assert "Reproduce with" in rest and rest[-2].startswith("    arguments = (RaggedBatch(torch.")
    assert rest[-1] == f"    {checker.__name__}(op, *arguments)"


REFERENCES: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "value": (ragged.sum_over_targets, lambda sample: sample.mean(0),
        "reference (sample (0,); first the operation, then the reference): result is 3.0, expected 1.5"),
    "position": (lambda data: data * 2, lambda sample: torch.cat([sample[:1] * 2, sample[1:] * 3]),
        "reference (sample (0,); first the operation, then the reference): result at position (1,) is 4.0, expected 6.0"),
    "gradient": (lambda data: like(data, zeroed(data).square().detach() + zeroed(data) - zeroed(data).detach()), lambda sample: sample.square(),
        "reference (sample (0,); first the operation, then the reference): gradient of argument 0 at position (0,) is 1.12"),
    "detached": (lambda data: (data * 2).detach(), lambda sample: sample * 2,
        "reference (sample (0,); first the operation, then the reference): there are result, expected result, gradient of argument 0"),
    "structure": (lambda data: (data, data), lambda sample: [sample],
        "reference (sample (0,); first the operation, then the reference): there are result[0], result[1], gradient of argument 0, expected result[0], gradient of argument 0"),
    "no samples": (lambda data: zeroed(data).sum(), lambda sample: sample.sum(),
        "reference: result does not begin with the batch shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFERENCES)
def test_references(name: str) -> None:
    op, reference, message = REFERENCES[name]
    with pytest.raises(PropertyViolation, match="^" + re.escape(message)):
        assert_matches_per_sample(op, reference, BATCH)
    if name != "no samples":
        with pytest.raises(PropertyViolation, match="^" + re.escape(message)):
            check_op(op, BATCH, reference=reference)


class _Reading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, data: RaggedBatch) -> Tensor:
        return ragged.sum_over_targets(data) * (2.0 if self.weight > 0 else 1.0)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (lambda data: data.tensor / data.sample_sizes.max().item(), "aten._local_scalar_dense.default depends on data"),
        (lambda data: data.tensor[data.mask], "aten.index.Tensor looks for the true entries of a mask"),
        (lambda data: data.mask.nonzero(), "aten.nonzero.default depends on data"),
        (lambda data: data.tensor * torch.tensor([1.0]).to(data.device), "mixes devices"),
        (lambda data: data.tensor.cpu().sum(1), "Cannot copy out of meta tensor"),
        (lambda data: data.tensor * torch.tensor([1.0, 2, 3], device=data.device), "copies values from the host"),
        (_Reading(), "aten._local_scalar_dense.default depends on data|is_nonzero"),
    ],
)
def test_synchronisation(op: Callable[..., Any], message: str) -> None:
    with pytest.raises(HostSyncError, match=message):
        assert_no_host_sync(op, BATCH)
    with pytest.raises(HostSyncError, match=message):
        check_op(op, BATCH, without=PROPERTIES.keys() - {"synchronisation"})


def test_all_at_once() -> None:
    """The first that does not hold, in the order of ``PROPERTIES``, unless it is left out."""
    with pytest.raises(PropertyViolation, match="^padding"):
        check_op(lambda data: zeroed(data).mean(1), BATCH)
    rest = check_op(lambda data: zeroed(data).mean(1), BATCH, without=["padding", "independence", "compilation"])
    assert rest == (
        "randomness", "purity", "filler", "order", "empty", "layout", "zeros", "sizes", "gradients", "precision",
        "synchronisation",
    )  # fmt: skip
    assert check_op(ragged.count_over_targets, INTEGERS, without=["compilation"]) == (
        "randomness", "purity", "filler", "padding", "order", "independence", "empty", "layout", "sizes", "integers",
        "synchronisation",
    )  # fmt: skip


def test_errors_of_the_operation() -> None:
    """They come out as they are; only where some other form of the arguments makes them, they are violations."""

    def refuses(data: RaggedBatch) -> Tensor:
        raise KeyError("nothing works")

    for checker in (assert_filler_invariant, assert_pure, check_op):
        with pytest.raises((KeyError, PropertyViolation), match="nothing works"):
            checker(refuses, BATCH)
    with pytest.raises(KeyError, match="nothing works"):
        check_op(refuses, BATCH)

    def needs_two(data: RaggedBatch) -> Tensor:
        if len(data.tensor) < 2:
            raise KeyError("two samples, please")
        return data.sample_sizes

    with pytest.raises(PropertyViolation, match="independence .*the operation raises KeyError: 'two") as caught:
        check_op(needs_two, BATCH)
    assert isinstance(caught.value.__cause__, KeyError)


# --- what samples share ---------------------------------------------------------------------------------------------

WEIGHT = torch.tensor([[0.5, -1.0, 2.0]])


def test_filler_that_reaches_shared_weights_is_found() -> None:
    with pytest.raises(PropertyViolation, match=r"^filler .*: gradient of shared argument 0 .* is nan"):
        assert_filler_invariant(projected, BATCH, shared=(WEIGHT,))
    with pytest.raises(
        PropertyViolation,
        match=r"^gradients \(the first sample empty\): gradient of shared argument 0 at position .* is nan",
    ):
        assert_gradients(projected, BATCH, shared=(WEIGHT,))
    checked = check_op(
        projected_safely, BATCH, shared=(WEIGHT,), reference=lambda sample, weight: sample.unsqueeze(-1) @ weight
    )
    assert {"filler", "gradients", "independence", "reference"} <= set(checked)


def test_filler_of_data_without_a_gradient_is_found() -> None:
    """A logarithm of data that is differentiated replaces filler, of other data not; the weights see the difference."""
    with pytest.raises(PropertyViolation, match=r"^filler .*: gradient of shared argument 0 .* is nan"):
        assert_filler_invariant(lambda data, weight: projected(torch.log(data), weight), BATCH, shared=(WEIGHT,))
    assert_filler_invariant(lambda data, weight: projected_safely(torch.log(data), weight), BATCH, shared=(WEIGHT,))


def test_gradients_of_shared_arguments_are_compared() -> None:
    def wrong(data: RaggedBatch, weight: Tensor) -> RaggedBatch:
        return projected_safely(data, weight.detach() + 0 * weight)

    with pytest.raises(
        PropertyViolation, match="^gradients: gradient of shared argument 0 at position .* by finite differences"
    ):
        assert_gradients(wrong, BATCH, shared=(WEIGHT,))
    assert_gradients(
        lambda data, weight: projected_safely(data, weight.detach()), BATCH, shared=(WEIGHT,), constants=[1]
    )
    with pytest.raises(
        PropertyViolation, match="there is a gradient of shared argument 0, expected none of a constant"
    ):
        assert_gradients(projected_safely, BATCH, shared=(WEIGHT,), constants=[1])
    reference = lambda sample, weight: sample.unsqueeze(-1) @ weight  # noqa: E731
    with pytest.raises(PropertyViolation, match=r"^reference \(all samples; .*gradient of shared argument 0"):
        assert_matches_per_sample(
            lambda data, weight: projected_safely(data, weight.detach() * 0.5 + weight * 0.5),
            reference,
            BATCH,
            shared=(WEIGHT,),
        )

    def of_the_batch(data: RaggedBatch, weight: Tensor) -> RaggedBatch:
        half = weight * 0.5 if data.total_num_samples_in_batch > 1 else weight
        return projected_safely(data, half + (weight - half).detach())

    with pytest.raises(PropertyViolation, match=r"^independence \(the sum over samples alone.*shared argument 0"):
        assert_sample_independent(of_the_batch, BATCH, shared=(WEIGHT,))


@pytest.mark.parametrize(
    "op",
    [lambda data: like(data, zeroed(data).unsqueeze(-1) @ WEIGHT), lambda data: nn.Linear(1, 2)(data[..., None])],
    ids=["closure", "layer"],
)
def test_a_tensor_that_the_operation_holds_is_named(op: Callable[[RaggedBatch], RaggedBatch]) -> None:
    with pytest.raises(PropertyViolation, match=r"float64 arguments: .*dtype.* if it holds a tensor .* in shared="):
        assert_gradients(op, BATCH)
    held = (
        r"device.*; if the operation holds a tensor \(a closure, a layer in it\), pass it as an argument.* in shared="
    )
    with pytest.raises(HostSyncError, match=held):
        assert_no_host_sync(op, BATCH)


def test_a_missing_second_derivative_is_reported() -> None:
    def distances(data: RaggedBatch) -> RaggedBatch:
        points = zeroed(data)[..., None]
        return like(data, torch.cdist(points, points.new_ones(1, 3, 1)[:, : points.shape[1]]).sum(-1))

    assert_gradients(distances, BATCH)
    checked = check_op(distances, BATCH, without=PROPERTIES.keys() - {"gradients"})
    assert checked == ("gradients",)
    assert re.search("no second derivative.*_cdist_backward", checked.unchecked["second derivatives"])
