"""What a matcher says beside the match."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.pairs.pairs import Pairs
from ragged.values.checks import known_finite


def count_invalid(cost: Tensor, pairs: Pairs) -> Tensor:
    """(N,): how many costs (R, P) of valid rows are not finite, by image."""
    none = torch.zeros(pairs.problem.num_samples, dtype=torch.int64, device=cost.device)
    if known_finite(cost):
        return none
    bad = ((~cost.isfinite()) & pairs.valid.unsqueeze(-1)).sum(-1)
    return none.index_add_(0, pairs.sample, bad)
