"""The results of a matcher besides the match."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.pairs.pairs import Pairs
from ragged.values.readable import known_finite


def count_invalid(cost: Tensor, pairs: Pairs, *, nonnegative: bool = False) -> Tensor:
    """(N,): how many costs (R, P) of valid rows are not finite, by image; ``nonnegative`` says that none is below 0."""
    if known_finite(cost):
        return torch.zeros(pairs.problem.num_samples, dtype=torch.int64, device=cost.device)
    finite = (cost if nonnegative else cost.abs()) < torch.inf
    bad = finite < pairs.valid.unsqueeze(-1)
    if pairs.is_whole:
        return bad.view(pairs.problem.num_samples, -1).sum(-1)
    return pairs.over_targets(bad.sum(-1), "sum")
