"""The precision that costs and losses are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """``values`` in float32, or in float64 if that is what they are in."""
    return values if values.dtype == torch.float64 else values.float()
