"""What the distillation of D-FINE is divided by: how many queries are matched, and how many are not."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.assigned import AssignedTargets
from matchers.assignments.parts import BACKGROUND

BALANCES = ("decoder", "own")
"""Whose numbers balance the two parts: those of the decoder's queries, or those of each layer's own."""


def numbers_of(targets: AssignedTargets, kind: str) -> dict[str, Tensor]:
    """How many queries are matched, and how many are not, (L, B) each; ``kind`` ends their names."""
    background = (targets.labels == BACKGROUND).sum(-1, dtype=torch.float32)
    return {f"num_matched_{kind}": targets.num_positives(), f"num_others_{kind}": background}


def share_of_matched(matched: Tensor, others: Tensor, *mixed: Tensor) -> Tensor:
    """The divisor of the matched queries' sum; ``mixed`` are the numbers that balance, if not its own."""
    n, m = mixed or (matched, others)
    return matched.clamp(min=1) * (n.sqrt() + m.sqrt()).clamp(min=1) / n.sqrt()


def share_of_others(matched: Tensor, others: Tensor, *mixed: Tensor) -> Tensor:
    """The same for the queries that are not matched."""
    n, m = mixed or (matched, others)
    return others.clamp(min=1) * (n.sqrt() + m.sqrt()).clamp(min=1) / m.sqrt()
