"""Soft matching by a softmax of the costs, on one side only."""

from __future__ import annotations

import torch
from torch import Tensor

from matchers.assignments.assignment import Plan
from matchers.by_cost.dense_matcher import SIDES, DenseMatcher, make_plan, usable_pairs
from matchers.pairs.problem import Problem
from ragged.values.checks import check_flag, check_number, check_one_of
from ragged.values.parameters import module_dataclass


@module_dataclass
class SoftMin(DenseMatcher):
    """Spread each target over the predictions, or each prediction over the targets, by their costs.

    With ``source="target"``, ``W_ij = exp(-C_ij / reg) / sum over predictions``: each target gives 1 in total. The
    background gives 1, or ``max(P - T, 0)`` with ``background_weight``, for P predictions and T targets. With
    ``source="prediction"`` the sum is over targets and background: each prediction gives 1. It is optimal transport
    with the marginals of one side only. An image without targets is all background. A pair whose cost is not finite
    has no weight.

    Args:
        source: ``"target"`` or ``"prediction"``.
        reg: Regularisation, in the unit of the costs. Towards 0, each source goes to its cheapest.
        background_weight: With ``source="target"``, whether the background gives ``max(P - T, 0)`` instead of 1.
        background, background_cost: See ``DenseMatcher``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    Raises:
        ValueError: ``source`` is unknown, or ``reg`` is not positive.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.eye(4)[None, :3] / 4 + 0.25}
    >>> target = {"boxes": predictions["pred_boxes"][0, 1:2], "labels": torch.tensor([1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> SoftMin(source="target")(predictions, targets).weights.tensor.sum()
    tensor(1.)
    """

    source: str = "target"
    reg: float = 1.0
    background_weight: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self.source, SIDES, "source")
        check_number(self.reg, "reg")
        check_flag(self.background_weight, "background_weight")
        self.reg, self.background_weight = float(self.reg), bool(self.background_weight)

    @torch.no_grad()
    def match_costs(self, problem: Problem, cost: Tensor) -> Plan:
        """Match by costs (N, G, P) that are known already; see ``DenseMatcher``."""
        usable, num_invalid = usable_pairs(problem, cost)
        logits = (cost / -self.reg).masked_fill_(~usable, -torch.inf)
        nothing = logits.new_zeros(logits.shape[0], logits.shape[2])
        if self.source == "target":
            weights = torch.where(usable, logits.softmax(-1), 0)
            background = nothing + self._background_total(problem).to(nothing.dtype) / problem.num_free
        else:
            level = -self.background_cost / self.reg if self.background else -torch.inf
            logits = torch.cat([logits, (nothing + level).unsqueeze(1)], 1)
            weights = logits.softmax(1).masked_fill_(logits == -torch.inf, 0)
            weights, background = weights[:, :-1], weights[:, -1]
        if not self.background:
            background = nothing.masked_fill(problem.is_empty, 1)
        return make_plan(self, problem, weights, background, num_invalid)

    def _background_total(self, problem: Problem) -> Tensor:
        count = problem.matchable.sum(-1, keepdim=True)
        return (problem.num_free - count).clamp(min=0) if self.background_weight else torch.ones_like(count)
