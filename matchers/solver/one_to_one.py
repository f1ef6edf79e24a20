"""One-to-one matching by costs that you have: what the solver says, as an assignment."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment
from matchers.solver.arguments import checked_problem
from matchers.solver.linear_assignment import solve_checked
from ragged import RaggedBatch
from ragged.values.sizes import prefix_mask


@torch.no_grad()
def one_to_one_assignment(
    cost: Tensor | RaggedBatch,
    num_targets: Tensor | None = None,
    *,
    forbidden: Tensor | None = None,
    solver: str = "auto",
) -> Assignment:
    """The ``Assignment`` of lowest total cost, each target to one prediction; as ``Hungarian`` returns it.

    Args:
        cost, num_targets, forbidden, solver: As for ``batched_linear_sum_assignment``, which is the same with an index
            as its result.

    Returns:
        An ``Assignment`` with room for ``min(P, G)`` pairs in each sample. ``num_invalid`` counts the costs of targets
        that are not finite, except those of forbidden pairs. The quality of each pair is 1.

    Raises:
        ImportError, TypeError, ValueError: As ``batched_linear_sum_assignment``.

    Three layers of costs with the targets of two images:

    >>> cost = torch.rand(3, 2, 5, 300)
    >>> assignment = one_to_one_assignment(cost, torch.tensor([5, 2]))
    >>> assignment.num_positives.tolist(), assignment.max_pairs
    ([[5, 2], [5, 2], [5, 2]], 5)
    """
    cost, num_targets, forbidden = checked_problem(cost, num_targets, forbidden, solver)
    width, count = cost.shape[-2:]
    index = solve_checked(cost, num_targets, forbidden, solver)
    invalid = ~cost.isfinite() & prefix_mask(num_targets, width).unsqueeze(-1)
    if forbidden is not None:
        invalid = invalid & ~forbidden
    num_targets = num_targets.to(torch.int64)
    return Assignment(index, (index >= 0).float(), num_targets, invalid.sum((-2, -1)), width, min(count, width))
