"""The errors of code that uses a RaggedBatch like a tensor or an array."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor

from ragged.batch import torch_functions

_INSTEAD = {
    "numpy": "use [sample.numpy() for sample in batch.split()], or .tensor.numpy() for the padded array",
    "tolist": "use [sample.tolist() for sample in batch.split()]",
    "item": "reduce first, for example with ragged.sum_over_targets",
    "is_nested": "pass batch.with_padded_set_to(0).tensor and key_padding_mask=ragged.key_padding_mask(batch) to "
    "nn.MultiheadAttention and transformer layers; ragged.to_nested makes a nested tensor",
    "backward": "reduce to a scalar first, with ragged.sum_over_targets or average_over_targets, and sum",
}
_OTHERS = ("T", "mT", "contiguous", "expand", "matmul", "numel", "permute", "repeat", "type", "unbind", "view")


class _Missing:
    """A missing attribute, whose error names the function to use. ``__getattr__`` would slow down all others."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError(self.text)


class Advice:
    """Errors that name the function to use. A base class, so that attributes of ``RaggedBatch`` take precedence."""

    def __dir__(self) -> Iterable[str]:
        return [name for name in object.__dir__(self) if name not in _MISSING or hasattr(self, name)]

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        # Without this, numpy would make an array of one object.
        raise TypeError(f"a RaggedBatch cannot become one array; {_INSTEAD['numpy']}")

    def __len__(self) -> NoReturn:
        # torch asks for it, too, where a batch is to become a tensor.
        raise TypeError("a RaggedBatch has no len(); use batch_shape for the samples, sample_sizes for their entries")


def _missing() -> dict[str, str]:
    """Methods of tensors, and what to use."""
    along = {function.__name__ for function in torch_functions.ALONG_DIM}
    known = {
        name: f"; use {instead}" + f", or torch.{name}(batch, dim) along a data dimension" * (name in along)
        for name, instead in torch_functions.INSTEAD.items()
    }
    along -= known.keys()
    single = {function.__name__ for function in torch_functions.ELEMENTWISE if hasattr(torch, function.__name__)}
    found = dict.fromkeys(_OTHERS, "; work on .tensor and .mask, or use RaggedBatch.apply")
    found |= {name: f"; use torch.{name}(batch)" for name in single if not name.startswith("_")}
    found |= {name: f"; use torch.{name}(batch, dim) along a data dimension" for name in along}
    found |= known | {name: f": {instead}" for name, instead in _INSTEAD.items()}
    return {
        name: f"'RaggedBatch' object has no attribute {name!r}{text}"
        for name, text in found.items()
        if hasattr(Tensor, name)
    }


_MISSING = _missing()
for _name, _text in _MISSING.items():
    setattr(Advice, _name, _Missing(_text))
