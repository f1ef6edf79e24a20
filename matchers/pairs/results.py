"""What a matcher says beside the match."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.pairs.pairs import Pairs
from ragged.values.readable import known_finite


def count_invalid(cost: Tensor, pairs: Pairs) -> Tensor:
    """(N,): how many costs (R, P) of valid rows are not finite, by image."""
    if known_finite(cost):
        return torch.zeros(pairs.problem.num_samples, dtype=torch.int64, device=cost.device)
    bad = ((~cost.isfinite()) & pairs.valid.unsqueeze(-1)).sum(-1)
    return pairs.over_targets(bad, "sum")
