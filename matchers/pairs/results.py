"""The results of a matcher besides the match."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.pairs.pairs import Pairs
from ragged.values.readable import known_finite


def count_invalid(cost: Tensor, pairs: Pairs) -> Tensor:
    """(N,): how many costs (R, P) of valid rows are not finite, by image."""
    if known_finite(cost):
        return torch.zeros(pairs.problem.num_samples, dtype=torch.int64, device=cost.device)
    # A number less itself is 0, or NaN if it is not finite.
    bad = (cost - cost).ne(0) & pairs.valid.unsqueeze(-1)
    return pairs.over_targets(bad.sum(-1), "sum")
