"""The memory layout of tensors."""

from __future__ import annotations

from torch import Tensor


def is_transposed(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory as its transpose is read, the last dimension before the one ahead of it.

    >>> import torch
    >>> is_transposed(torch.zeros(2, 3, 4).mT), is_transposed(torch.zeros(2, 3, 4))
    (True, False)
    """
    return not tensor.is_contiguous() and tensor.dim() > 1 and tensor.mT.is_contiguous()
