"""What can be wrong with an argument, given a value that is right."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ragged import RaggedBatch


@dataclass(frozen=True)
class Child:
    """A value in place of the right one.

    Args:
        name: For people.
        value: Itself.
        keeps_shape: Whether the result must have the shape that it would have had.
        refused: Whether a result is wrong in any case: it must be an error.
    """

    name: str
    value: Any
    keeps_shape: bool = False
    refused: bool = False


# A dict with one of these keys is read by a reader of targets or predictions.
READ_KEYS = {"boxes", "bbox", "bboxes", "pred_boxes", "pred_logits", "dn_num_group", "num_positives"}


def mutations(value: Any) -> list[Child]:
    """Other values: of another kind, and of the same kind but wrong."""
    others = [
        Child("None", None),
        Child("'text'", "text"),
        Child("3", 3),
        Child("-1", -1),
        Child("1.5", 1.5),
        Child("nan", math.nan),
        Child("[]", []),
        Child("[1, 2]", [1, 2]),
        Child("{}", {}),
        Child("object()", object()),
        Child("tensor ()", torch.tensor(1.0)),
        Child("tensor (2, 3)", torch.ones(2, 3)),
        Child("an object array", np.array([None, "a"], dtype=object)),
    ]
    if isinstance(value, (Tensor, RaggedBatch)) and value.device.type == "meta":
        return others
    if isinstance(value, Tensor):
        # Twice, since there is more to be wrong with a tensor than its kind.
        return [*others, *of_tensor(value), *of_tensor(value)]
    if isinstance(value, RaggedBatch):
        return [*others, *of_batch(value), *of_batch(value)]
    if isinstance(value, bool):
        return [Child(each.name, each.value, refused=True) for each in others if each.name in NO_FLAGS]
    if isinstance(value, nn.Module):
        return [*others, *of_module(value)]
    if value is None:
        return [each for each in others if each.name in ("None", "'text'", "3", "tensor ()", "object()", "[]")]
    if isinstance(value, (int, float)):
        numbers = [0, -1, 1.5, 1000, math.nan, math.inf, True, "text", None, 1j]
        return [*others, *(Child(str(number), number) for number in numbers)]
    if isinstance(value, str):
        return [*others, Child("''", ""), Child("upper", value.upper()), Child("True", True)]
    if isinstance(value, dict):
        return [*others, *of_dict(value)]
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [*others, *of_sequence(value)]
    return others


NO_FLAGS = ("'text'", "3", "1.5", "tensor ()", "object()", "[]", "[1, 2]")


def of_module(value: nn.Module) -> list[Child]:
    """Modules of torch and of this package, as a model that is cast would hold them."""
    return [
        Child("its class", type(value), refused=True),
        Child("in half precision", copy.deepcopy(value).half()),
        Child("in bfloat16", copy.deepcopy(value).bfloat16()),
    ]


def of_tensor(value: Tensor) -> list[Child]:
    if value.is_nested:
        return [Child("not nested", torch.ones(2, 3)), Child("integers", value.to(torch.int64), True)]
    found = [
        Child("a dimension in front", value.unsqueeze(0)),
        Child("a dimension behind", value.unsqueeze(-1)),
        Child("an empty tensor", torch.zeros(0)),
        Child("sparse", value.to_sparse() if value.dim() else value),
        Child("on meta", value.to("meta")),
        Child(
            "a ragged batch",
            RaggedBatch.from_full_tensor(value, num_batch_dims=min(value.dim() - 1, 1)) if value.dim() else value,
        ),
        Child("an array", value.numpy()),
        Child("a list", value.tolist()),
        Child("bool", value.bool()),
        Child("complex", value.to(torch.complex64)),
        Child("negative", (value.float() - 1000).to(value.dtype)),
    ]
    if value.is_floating_point():
        found += [
            Child("integers", value.long()),
            Child("float16", value.half(), True),
            Child("float64", value.double(), True),
            Child("NaN", torch.full_like(value, math.nan)),
            Child("inf", torch.full_like(value, math.inf)),
            Child("float8", value.to(torch.float8_e4m3fn)),
        ]
    else:
        found += [
            Child("floats", value.float()),
            Child("int32", value.int()),
            Child("large", torch.full_like(value, 1000) if value.dtype != torch.bool else ~value),
        ]
    for dim in range(value.dim()):
        found.append(Child(f"the first of dim {dim}", value.select(dim, 0) if value.shape[dim] else value))
        found.append(Child(f"nothing in dim {dim}", value.narrow(dim, 0, 0)))
        if value.shape[dim] > 1:
            found.append(Child(f"one less in dim {dim}", value.narrow(dim, 0, value.shape[dim] - 1)))
        found.append(Child(f"twice in dim {dim}", torch.cat([value, value], dim)))
    return found


def of_batch(value: RaggedBatch) -> list[Child]:
    dims = value.num_batch_dims
    found = [
        Child("its tensor", value.tensor),
        Child("its mask", value.mask),
        Child("a batch dimension more", value.unsqueeze_batch_dim(0)),
        Child("on meta", value.to_device("meta")),
        Child("a data dimension more", value.unsqueeze_data_dim(value.dim())),
        Child("more padding", value.with_max_sample_size(value.max_sample_size + 2)),
        Child("empty", RaggedBatch.empty(value.batch_shape, ())),
        Child("other sizes", _with_sizes(value, value.max_sample_size - value.sample_sizes)),
        Child("integers", value.to_dtype(torch.int64)),
        Child("floats", value.to_dtype(torch.float32)),
        Child("bool", value.to_dtype(torch.bool)),
        Child("complex", value.to_dtype(torch.complex64)),
        Child("negative", (value.to_dtype(torch.float32) - 1000).to_dtype(value.dtype)),
        Child("no samples", RaggedBatch.empty((0,), value.shape[dims + 1 :])),
    ]
    if value.dim() > dims + 1:
        found.append(Child("transposed", value.get_non_uniform_dimension_transposed_to(value.dim() - 1)))
    return found


def of_dict(value: dict[Any, Any]) -> list[Child]:
    is_read = bool(READ_KEYS & set(value))
    found = [
        Child("its items", list(value.items())),
        Child("an unknown key more", value | {"unknown": 1}, refused=is_read),
    ]
    for key in value:
        rest = {name: item for name, item in value.items() if name != key}
        found += [
            Child(f"without {key!r}", rest),
            Child(f"{key!r} misspelt", rest | {f"{key}_": value[key]}, refused=is_read and value[key] is not None),
        ]
    return found


def of_sequence(value: Any) -> list[Child]:
    kind = type(value)
    return [
        Child("without its last", value[:-1]),
        Child("its last twice", kind([*value, *value[-1:]])),
        Child("in a list more", [value]),
        Child("a dict of it", dict(enumerate(value))),
    ]


def _with_sizes(value: RaggedBatch, sizes: Tensor) -> RaggedBatch:
    return RaggedBatch(value.tensor, sample_sizes=sizes, non_uniform_dim=value.non_uniform_dim)
