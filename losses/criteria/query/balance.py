"""What the distillation of D-FINE is divided by: how many queries are matched, and how many are not."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.core.assigned import AssignedTargets
from matchers.assignments.parts import BACKGROUND

BALANCES = ("decoder", "own")
"""Whose numbers balance the two parts: those of the decoder's queries, or those of each layer's own."""


def numbers_of(targets: AssignedTargets) -> tuple[Tensor, Tensor]:
    """How many queries are matched, and how many are not, (L, B) each."""
    return targets.num_positives(), (targets.labels == BACKGROUND).sum(-1, dtype=torch.float32)


def shares(matched: Tensor, others: Tensor, *mixed: Tensor) -> Tensor:
    """The divisors of the sums of matched queries and of the others, (2, …).

    ``mixed`` are the numbers of both that balance, if not their own.
    """
    own = torch.stack([matched, others])
    roots = (torch.stack(mixed) if mixed else own).sqrt()
    return own.clamp(min=1) * roots.sum(0).clamp(min=1) / roots
