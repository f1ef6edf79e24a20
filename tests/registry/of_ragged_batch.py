"""``RaggedBatch``: ways to make one, its methods, operators, and the torch functions that it lets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ragged import RaggedBatch
from registry.entries import (
    GIVEN_SIZE,
    NESTED_SIZES,
    NO_SAMPLE,
    ON_THE_HOST,
    SYNCHRONISES,
    Elsewhere,
    Operation,
    data,
    integers,
    uniform,
    wrapped,
)

TEST = "tests/ragged/test_batch.py"
NO_VALUE = "says what the object is, and computes nothing"
ROUNDS = {"gradients": "rounds to a dtype in which finite differences are none"}
NARROWS = {"precision": "gives float32 for float64"}
COMPARES = {**ON_THE_HOST, "nonfinite": "a batch with NaN is not equal to itself"}
IN_PLACE = "changes the state of the object, and computes nothing"


def one(function: Callable[..., Any], reference: Callable[..., Any] | None = None, **options: Any) -> Operation:
    """Of a batch with entries (2,)."""
    return Operation(function, lambda: (data(2),), reference=reference, **options)


def same(function: Callable[..., Any], **options: Any) -> Operation:
    """Of a batch with entries (2,), where the samples do not change."""
    return one(function, lambda sample: sample, **options)


def elementwise(function: Callable[[Any], Any]) -> Operation:
    """The same for a batch and for a sample."""
    return one(function, function)


def binary(function: Callable[[Any, Any], Any]) -> Operation:
    return Operation(function, lambda: (data(2), data(2, seed=1)), reference=function)


def whole(function: Callable[[Any, Any], Any], **options: Any) -> Operation:
    def numbers(seed: int) -> RaggedBatch:
        return wrapped(integers(9, 3, 5, seed=seed, low=1))

    return Operation(function, lambda: (numbers(0), numbers(1)), reference=function, **options)


def layer(function: Callable[..., Any], reference: Callable[..., Any], *weights: Tensor, **options: Any) -> Operation:
    """Of a batch with entries (2,), and of weights that all samples share."""
    return Operation(function, lambda: (data(2),), shared=weights, reference=reference, **options)


def item_of_sample(sample: Tensor) -> tuple[Tensor, ...]:
    return sample[..., 0], sample[None], sample[..., [1, 0]]


def set_tensor(batch: RaggedBatch) -> RaggedBatch:
    copy = batch * 1
    copy.set_tensor(batch.tensor * 2)
    return copy


def set_padded_to(batch: RaggedBatch) -> Tensor:
    copy = batch * 1
    copy.set_padded_to(0.0)
    return copy.tensor.sum(1)


def set_item(batch: RaggedBatch) -> RaggedBatch:
    copy = batch.clone()
    copy[..., 0] = 3.0
    return copy


def with_first_column(sample: Tensor) -> Tensor:
    return torch.cat([torch.full_like(sample[..., :1], 3.0), sample[..., 1:]], -1)


MAKING = {
    "RaggedBatch": same(lambda b: RaggedBatch(b.tensor, sample_sizes=b.sample_sizes)),
    "RaggedBatch[mask]": same(lambda b: RaggedBatch(b.tensor, b.mask)),
    "RaggedBatch.from_full_tensor": Operation(
        lambda t: RaggedBatch.from_full_tensor(t) * 2, lambda: (uniform(3, 4, 2),), reference=lambda s: s * 2
    ),
    "RaggedBatch.from_oversize_tensor": same(
        lambda b: RaggedBatch.from_oversize_tensor(b.tensor, sample_sizes=b.sample_sizes, max_size=4),
        without=GIVEN_SIZE,
    ),
    "RaggedBatch.from_oversize_tensor[reading]": same(
        lambda b: RaggedBatch.from_oversize_tensor(b.tensor, sample_sizes=b.sample_sizes), without=ON_THE_HOST
    ),
    "RaggedBatch.empty": Operation(
        lambda t: RaggedBatch.empty(t.shape[:1], (2,), device=t.device),
        lambda: (uniform(3, 4),),
        reference=lambda s: torch.empty(0, 2),
    ),
    "RaggedBatch.create_with_sample_sizes_like_self": one(
        lambda b: b.create_with_sample_sizes_like_self(b.tensor.mT, 2), lambda s: s.mT
    ),
}

SHAPES = {
    "RaggedBatch.with_max_sample_size": same(lambda b: b.with_max_sample_size(7 + b.max_sample_size)),
    "RaggedBatch.with_max_sample_size[less]": same(lambda b: b.with_max_sample_size(4), without=GIVEN_SIZE),
    "RaggedBatch.get_non_uniform_dimension_transposed_to": one(
        lambda b: b.get_non_uniform_dimension_transposed_to(2), lambda s: s.mT
    ),
    "RaggedBatch.unsqueeze_data_dim": one(lambda b: b.unsqueeze_data_dim(1), lambda s: s.unsqueeze(0)),
    "RaggedBatch.split": one(
        lambda b: torch.stack([sample.sum(0) for sample in b.split()]),
        lambda s: s.sum(0),
        without={**SYNCHRONISES, **NO_SAMPLE},
    ),
    "RaggedBatch.repeat_samples": one(lambda b: b.unsqueeze_batch_dim(1).repeat_samples((1, 2))),
    "RaggedBatch.unsqueeze_batch_dim": one(lambda b: b.unsqueeze_batch_dim(1)),
    "RaggedBatch.squeeze_batch_dim": same(lambda b: b.unsqueeze_batch_dim(0).squeeze_batch_dim(0)),
    "RaggedBatch.reshape_batch_dims": one(lambda b: b.reshape_batch_dims((-1, 1))),
    "RaggedBatch.flatten_batch_dims": Operation(
        lambda b: b.flatten_batch_dims().reshape_batch_dims(b.batch_shape),
        lambda: (data(2, sizes=NESTED_SIZES),),
        reference=lambda s: s,
    ),
    "RaggedBatch.broadcast_batch_dims_to_shape": one(
        lambda b: b.unsqueeze_batch_dim(1).broadcast_batch_dims_to_shape((b.batch_shape[0], 2))
    ),
    "RaggedBatch.broadcast_batch_dims": one(
        lambda b: RaggedBatch.broadcast_batch_dims([b.unsqueeze_batch_dim(1), b.unsqueeze_batch_dim(1) * 2])
    ),
}

VALUES = {
    "RaggedBatch.apply": one(lambda b: b.apply(lambda tensor, mask: tensor * mask.unsqueeze(-1) * 2), lambda s: s * 2),
    "RaggedBatch.apply[parameters]": layer(
        # Finite at the entries, and at no number that could be chosen beforehand.
        lambda b, w: torch.log(b).apply(lambda t: (t / t.std(-1, keepdim=True)) @ w.mT.to(t.dtype)),
        lambda s, w: (s.log() / s.log().std(-1, keepdim=True)) @ w.mT.to(s.dtype),
        uniform(3, 2, seed=5),
    ),
    "RaggedBatch.set_tensor": one(set_tensor, lambda s: s * 2),
    "RaggedBatch.set_padded_to": one(set_padded_to, lambda s: s.sum(0)),
    "RaggedBatch.with_padded_set_to": one(lambda b: b.with_padded_set_to(0.0).tensor.sum(1), lambda s: s.sum(0)),
    "RaggedBatch.get_existence_weights": one(
        lambda b: b.get_existence_weights().tensor.sum(1), lambda s: float(len(s))
    ),
    "RaggedBatch.get_existence_weights[in_data_shape]": one(
        lambda b: b.get_existence_weights(b.dtype, in_data_shape=True), torch.ones_like
    ),
    "RaggedBatch.aligned_mask": one(lambda b: b.aligned_mask.sum((1, 2)), len),
    "RaggedBatch.__getitem__": one(lambda b: b[..., 1:], lambda s: s[..., 1:]),
    "RaggedBatch.__getitem__[several]": one(lambda b: (b[..., 0], b[:, None], b[..., [1, 0]]), item_of_sample),
    "RaggedBatch.__setitem__": one(set_item, with_first_column),
    "RaggedBatch.detach": one(lambda b: b.detach(), lambda s: s.detach()),
    "RaggedBatch.clone": same(lambda b: b.clone()),
    "RaggedBatch.to": same(lambda b: b.to(b.device, b.dtype)),
    "RaggedBatch.to_device": same(lambda b: b.to_device(b.device)),
    "RaggedBatch.to_dtype": one(lambda b: b.to_dtype(torch.float64) * 2, lambda s: s.double() * 2),
    "RaggedBatch.cpu": same(
        lambda b: b.cpu(), without={"synchronisation": "is there to bring the batch to the host, which waits for it"}
    ),
    "RaggedBatch.equal": one(lambda b: torch.full(b.batch_shape, b.equal(b * 1)), lambda s: True, without=COMPARES),
    "RaggedBatch.allclose": one(
        lambda b: torch.full(b.batch_shape, b.allclose(b * 1)), lambda s: True, without=COMPARES
    ),
    "RaggedBatch.largest_sample_size": Operation(
        lambda b: b.unsqueeze_batch_dim(0).largest_sample_size(),
        lambda: (data(2),),
        without={**SYNCHRONISES, "independence": "is a number of the whole batch"},
    ),
    "RaggedBatch.total_num_entries": Operation(
        lambda b: b.total_num_entries,
        lambda: (data(2),),
        without={**SYNCHRONISES, "independence": "is a number of the whole batch"},
    ),
    **{
        f"RaggedBatch.{name}": elementwise(lambda x, name=name: getattr(x, name)())
        for name in ("bool", "int", "long", "double")
    },
    **{
        f"RaggedBatch.{name}": one(
            lambda b, name=name: getattr(b, name)(),
            lambda s, name=name: getattr(s, name)(),
            without=NARROWS if name == "float" else ROUNDS,
        )
        for name in ("half", "bfloat16", "float")
    },
    "RaggedBatch.cfloat": one(lambda b: torch.real(b.cfloat()), lambda s: s.cfloat().real, without=NARROWS),
    "RaggedBatch.cdouble": one(lambda b: torch.real(b.cdouble()), lambda s: s.cdouble().real),
}

OPERATORS = {
    "RaggedBatch.__add__": binary(lambda a, b: a + b),
    "RaggedBatch.__radd__": elementwise(lambda x: 2 + x),
    "RaggedBatch.__sub__": binary(lambda a, b: a - b),
    "RaggedBatch.__rsub__": elementwise(lambda x: 2 - x),
    "RaggedBatch.__mul__": binary(lambda a, b: a * b),
    "RaggedBatch.__rmul__": elementwise(lambda x: 0.5 * x),
    "RaggedBatch.__truediv__": binary(lambda a, b: a / b),
    "RaggedBatch.__rtruediv__": elementwise(lambda x: 1 / x),
    "RaggedBatch.__pow__": binary(lambda a, b: a**b),
    "RaggedBatch.__rpow__": elementwise(lambda x: 2**x),
    "RaggedBatch.__floordiv__": whole(lambda a, b: a // b),
    "RaggedBatch.__rfloordiv__": whole(lambda a, b: 7 // a),
    "RaggedBatch.__mod__": whole(lambda a, b: a % b),
    "RaggedBatch.__rmod__": whole(lambda a, b: 7 % a),
    "RaggedBatch.__and__": whole(lambda a, b: a & b),
    "RaggedBatch.__rand__": whole(lambda a, b: 5 & a),
    "RaggedBatch.__or__": whole(lambda a, b: a | b),
    "RaggedBatch.__ror__": whole(lambda a, b: 5 | a),
    "RaggedBatch.__xor__": whole(lambda a, b: a ^ b),
    "RaggedBatch.__rxor__": whole(lambda a, b: 5 ^ a),
    "RaggedBatch.__lt__": binary(lambda a, b: a < b),
    "RaggedBatch.__gt__": binary(lambda a, b: a > b),
    "RaggedBatch.__le__": binary(lambda a, b: a <= b),
    "RaggedBatch.__ge__": binary(lambda a, b: a >= b),
    "RaggedBatch.__eq__": whole(lambda a, b: a == b),
    "RaggedBatch.__ne__": whole(lambda a, b: a != b),
    "RaggedBatch.__neg__": elementwise(lambda x: -x),
    "RaggedBatch.__pos__": elementwise(lambda x: +x),
    "RaggedBatch.__abs__": elementwise(lambda x: abs(x - 0.55)),
    "RaggedBatch.__invert__": whole(
        lambda a, b: ~a,
        without={"compilation": "torch's compiler knows ~ of no object but a tensor; bitwise_not works"},
    ),
    "RaggedBatch.__torch_function__[bitwise_not]": whole(lambda a, b: torch.bitwise_not(a)),
    "RaggedBatch.__torch_function__[functions]": elementwise(lambda x: torch.exp(x) * torch.sigmoid(torch.log(x))),
    "RaggedBatch.__torch_function__[where]": elementwise(lambda x: torch.where(x > 0.5, x * 2, torch.zeros_like(x))),
    "RaggedBatch.__torch_function__[clamp]": elementwise(lambda x: torch.sqrt(torch.clamp(x, min=0.3))),
    "RaggedBatch.__torch_function__[along data]": elementwise(lambda x: torch.sum(torch.softmax(x, -1) * x, dim=-1)),
    "RaggedBatch.__torch_function__[values along data]": one(
        lambda b: [*torch.max(b, -1), *torch.sort(b, -1), *torch.topk(b, 1)],
        lambda s: [*torch.max(s, -1), *torch.sort(s, -1), *torch.topk(s, 1)],
    ),
    "RaggedBatch.__torch_function__[linear]": layer(
        lambda b, w, bias: functional.linear(b, w.to(b.dtype), bias.to(b.dtype)),
        lambda s, w, bias: functional.linear(s, w.to(s.dtype), bias.to(s.dtype)),
        uniform(3, 2, seed=5),
        uniform(3, seed=6),
    ),
    "RaggedBatch.__torch_function__[layer_norm]": layer(
        lambda b, w, bias: functional.layer_norm(b, (2,), w.to(b.dtype), bias.to(b.dtype), 0.1),
        lambda s, w, bias: functional.layer_norm(s, (2,), w.to(s.dtype), bias.to(s.dtype), 0.1),
        uniform(2, seed=5),
        uniform(2, seed=6),
    ),
    "RaggedBatch.__torch_function__[layer_norm without eps]": layer(
        lambda b, w: functional.layer_norm(b, (2,), w.to(b.dtype), None, 0.0),
        lambda s, w: functional.layer_norm(s, (2,), w.to(s.dtype), None, 0.0),
        uniform(2, seed=5),
    ),
    "RaggedBatch.__torch_function__[rms_norm]": layer(
        lambda b, w: functional.rms_norm(b, (2,), w.to(b.dtype), 0.1),
        lambda s, w: functional.rms_norm(s, (2,), w.to(s.dtype), 0.1),
        uniform(2, seed=5),
    ),
    "RaggedBatch.__torch_function__[embedding]": Operation(
        functional.embedding,
        lambda: (wrapped(integers(7, 3, 5, seed=2)),),
        shared=(uniform(7, 2, seed=5),),
        reference=functional.embedding,
    ),
    "RaggedBatch.__torch_function__[one_hot]": Operation(
        lambda b: functional.one_hot(b, 7),
        lambda: (wrapped(integers(7, 3, 5, seed=2)),),
        reference=lambda s: functional.one_hot(s, 7),
    ),
    "RaggedBatch.__torch_function__[dropout]": elementwise(lambda x: functional.dropout(x * 2, 0.5, training=False)),
    "RaggedBatch.__torch_function__[cat]": binary(lambda a, b: torch.cat([a, b * 2], -1)),
    "RaggedBatch.__torch_function__[stack]": binary(lambda a, b: torch.stack([a, b * 2], -1)),
    "RaggedBatch.__torch_function__[losses]": binary(
        lambda a, b: functional.smooth_l1_loss(a, b, reduction="none", beta=0.2)
    ),
}

NO_OPERATIONS = {
    **{
        f"RaggedBatch.{name}": Elsewhere(TEST, NO_VALUE)
        for name in [
            "batch_shape",
            "device",
            "dim",
            "dtype",
            "max_sample_size",
            "non_uniform_dim",
            "num_batch_dims",
            "requires_grad",
            "retains_grad",
            "shape",
            "size",
            "total_num_samples_in_batch",
        ]
    },
    **{f"RaggedBatch.{name}": Elsewhere(TEST, IN_PLACE) for name in ("requires_grad_", "retain_grad")},
    "RaggedBatch.cuda": Elsewhere("tests/ragged/test_cuda.py", "needs a CUDA device"),
    "RaggedBatch.pin_memory": Elsewhere("tests/ragged/test_cuda.py", "needs a CUDA device"),
}

PACKAGE = "ragged"
ENTRIES: dict[str, Operation | Elsewhere] = {**MAKING, **SHAPES, **VALUES, **OPERATORS, **NO_OPERATIONS}
