"""Small heads for the cases of ``criterion_cases``: a parameter for every number that a criterion reads."""

from __future__ import annotations

from typing import Any

import torch
from cases.common import cast
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from losses.testing import leaves_of


class Head(nn.Module):
    """Scales and moves predictions, each number of an image by its own parameters.

    Args:
        predictions: Of any number of images; their shapes say how many parameters there are.
    """

    def __init__(self, predictions: Any) -> None:
        super().__init__()
        leaves = leaves_of(cast(predictions, torch.float32))
        self.scales = nn.ParameterList(torch.ones(leaf.shape[1:]) for leaf in leaves)
        self.moves = nn.ParameterList(torch.zeros(leaf.shape[1:]) for leaf in leaves)

    def forward(self, predictions: Any) -> Any:
        parameters = iter(zip(self.scales, self.moves, strict=True))

        def changed(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or not leaf.requires_grad:
                return leaf
            scale, move = next(parameters)
            return leaf.detach() * scale + move

        return pytree.tree_map(changed, predictions)
