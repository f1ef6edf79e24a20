"""The base classes of matchers that minimise a cost: the cost and the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import torch
from torch import Tensor, nn

from matchers.assignments.assignment import Assignment
from matchers.costs.terms import PairCost, detr_costs, module_costs, padded_costs, total_cost
from matchers.pairs.ignored import in_ignored_region, predicted_box_in_region, prior_box_in_region
from matchers.pairs.pairs import Pairs
from matchers.pairs.problem import AnyPredictions, Problem
from matchers.pairs.reading import check_budget
from ragged import RaggedBatch
from ragged.values.checks import check_flag, check_is_callable, check_not_negative
from ragged.values.parameters import module_dataclass
from ragged.values.precision import WideModule

# A cost has many steps over the same pairs, so that a matrix of them should stay in the second-level cache.
_PAIRS_IN_CACHE = 1 << 16


@module_dataclass
class CostMatcher(WideModule):
    """A matcher with a cost: a function of pairs, named terms, or loss modules.

    Args:
        cost: A function ``Pairs -> (R, P)``, or a dict of functions to add up; see ``matchers.costs.terms``. Default,
            without modules: ``detr_costs()``, with boxes in fractions of the image.
        cls_match_module: A loss module as class cost, see ``module_costs``; not together with ``cost``.
        loc_match_module: A loss module as box cost.
        is_anchor_based: Whether to match priors, which are xyxy boxes, instead of predicted boxes.
        normalized: The unit of the boxes for the cost: fractions of the image, or pixels. None means the unit of the
            targets.
        max_pairwise_bytes: A bound of the temporary memory for costs; default 4 MiB on CPU, 1 GiB elsewhere. The
            result does not depend on it. The matcher keeps the costs themselves, 4 bytes for each pair of a prediction
            and one of G targets. On an accelerator, a call of ``Hungarian`` takes up to 2.5 times as much, one of a
            closest matcher 4 times, one of Sinkhorn 6.1 times. A compiled graph keeps what the compiler decides.

    Raises:
        TypeError: ``cost`` is neither a function nor a mapping of functions.
        ValueError: Both ``cost`` and modules are given, or a module reduces its result.
    """

    cost: PairCost | Mapping[str, PairCost] | None = field(default=None, kw_only=False)
    cls_match_module: nn.Module | None = None
    loc_match_module: nn.Module | None = None
    is_anchor_based: bool = False
    normalized: bool | None = None
    max_pairwise_bytes: int | None = None

    def __post_init__(self) -> None:
        check_budget(self.max_pairwise_bytes)
        check_flag(self.is_anchor_based, "is_anchor_based")
        if self.normalized is not None:
            check_flag(self.normalized, "normalized")
        self.uses_priors = self.is_anchor_based or self.cost is not None  # a cost of one's own may look at them
        self.terms = self._checked_terms()

    def _checked_terms(self) -> dict[str, PairCost]:
        cost, modules = self.cost, (self.cls_match_module, self.loc_match_module)
        has_modules = any(module is not None for module in modules)
        if has_modules and cost is not None:
            raise ValueError("give either cost or loss modules, not both")
        if has_modules or (self.is_anchor_based and cost is None):
            return module_costs(*modules, is_anchor_based=self.is_anchor_based)
        if cost is None:
            self.normalized = True if self.normalized is None else self.normalized
            return detr_costs()
        terms = cost if isinstance(cost, Mapping) else {"cost": cost}
        if not terms:
            raise TypeError("cost must be a function of pairs, or a mapping from names to such functions, got no term")
        for name, term in terms.items():
            check_is_callable(term, f"cost {name!r}" if isinstance(cost, Mapping) else "cost", "a function of pairs")
        return dict(terms)

    @torch.no_grad()
    def costs(self, predictions: AnyPredictions, targets: Any, priors: Tensor | None = None) -> dict[str, Tensor]:
        """The cost terms ``(*batch, G, P)`` by name, for ``Assignment.explain`` and plots; arguments as in a call."""
        return padded_costs(self.terms, self.problem(predictions, targets, priors))

    def problem(
        self,
        predictions: AnyPredictions,
        targets: Any,
        priors: Tensor | None = None,
        *,
        given: Assignment | None = None,
        free: RaggedBatch | Tensor | None = None,
    ) -> Problem:
        """The ``Problem`` that a call with these arguments solves."""
        if priors is not None and not self.uses_priors:
            raise ValueError(f"{type(self).__name__} compares predicted boxes; for priors set is_anchor_based=True")
        problem = Problem.of(
            predictions,
            targets,
            priors,
            normalized=self.normalized,
            max_pairwise_bytes=self.max_pairwise_bytes,
            given=given,
            free=free,
        )
        if self.is_anchor_based:
            problem.need_priors(type(self).__name__, "with is_anchor_based=True, xyxy boxes (P, 4) or (*batch, P, 4)")
        return problem

    def total_cost(self, pairs: Pairs) -> Tensor:
        """Costs (R, P), computed block by block."""
        usual = pairs.problem.device.type == "cpu" and self.max_pairwise_bytes is None
        blocks = pairs.blocks(most=_PAIRS_IN_CACHE if usual else None)
        costs = [total_cost(self.terms, block) for block in blocks]
        return costs[0] if len(costs) == 1 else torch.cat(costs)


@module_dataclass
class IgnoringMatcher(CostMatcher):
    """A matcher with a cost that leaves predictions in ignored regions out of the background.

    Args:
        ignore_iof: A prediction without a target is ignored if at least this fraction of its area lies in an ignored
            one; above 1, none is.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
    """

    ignore_iof: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self.ignore_iof, "ignore_iof")

    def ignored_region(self, problem: Problem) -> Tensor | None:
        """(N, P), true for predictions in an ignored region; None if there are none."""
        if problem.ignored is None or (problem.boxes is None and not self.is_anchor_based):
            return None
        test = prior_box_in_region if self.is_anchor_based else predicted_box_in_region
        return in_ignored_region(problem, test(self.ignore_iof))
