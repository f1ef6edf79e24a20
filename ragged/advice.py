"""What a RaggedBatch says to those who take it for a tensor or an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from ragged import torch_functions

_OF_TENSORS = {
    "numpy": "an array of each sample is [sample.numpy() for sample in batch.split()], the padded one .tensor.numpy()",
    "tolist": "a list for each sample is [sample.tolist() for sample in batch.split()]",
    "item": "a number is made by a reduction, such as ragged.sum_over_targets",
    "backward": "a gradient starts from a number: reduce with ragged.sum_over_targets or average_over_targets, and sum",
}


class Advice:
    """Errors that say what to use instead. In a class of their own: ``RaggedBatch`` has more than enough to say."""

    if not TYPE_CHECKING:  # where it would hide from a type checker what the class does not have

        def __getattr__(self, name: str) -> NoReturn:
            """Only called for what is missing."""
            raise AttributeError(missing(name))

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        # Without this, numpy would make an array of one object.
        raise TypeError(f"a RaggedBatch is no array: {_OF_TENSORS['numpy']}")

    def __len__(self) -> NoReturn:
        # torch asks for it, too, where a batch is to become a tensor.
        raise TypeError("a RaggedBatch has no one length: batch_shape counts the samples, sample_sizes their entries")


def missing(name: str) -> str:
    """Why there is no attribute of this name, and what to use."""
    text = f"'RaggedBatch' object has no attribute {name!r}"
    if name.startswith("_") or not hasattr(Tensor, name):
        return text
    if name in _OF_TENSORS:
        return f"{text}: {_OF_TENSORS[name]}"
    instead = torch_functions.INSTEAD.get(name)
    if instead is not None:
        return f"{text}; use {instead}"
    if getattr(torch, name, None) in torch_functions.ELEMENTWISE:
        return f"{text}; use torch.{name}(batch)"
    return f"{text}; work on .tensor and .mask, or use RaggedBatch.apply"
