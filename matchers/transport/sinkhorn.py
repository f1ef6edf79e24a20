"""Soft matching by entropic optimal transport, solved with Sinkhorn's iterations for all images at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from matchers.assignments.assignment import Plan
from matchers.by_cost.dense_matcher import DenseMatcher, make_plan
from matchers.pairs.problem import Problem
from matchers.transport.transport import Iteration, Number, Transport, change, marginal_error, per_pair
from ragged.values.checks import check_flag, check_number, check_positive
from ragged.values.parameters import module_dataclass


@module_dataclass
class TransportMatcher(DenseMatcher):
    """The base class of matchers by optimal transport: costs in units of their regularisation, and marginals.

    Args:
        reg: Regularisation, in the unit of the costs after normalisation. None means
            ``reg_dimless / (log(2 P) + 1)``.
        reg_dimless: Regularisation without a dimension, which means about the same for any number P of predictions.
        normalize_cost_matrix: Whether each image's costs are divided by the largest magnitude of a cost of its targets
            or the background, at least 1e-8.
        background, background_cost: See ``DenseMatcher``.
    """

    reg: float | None = None
    reg_dimless: float = 0.12
    normalize_cost_matrix: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reg is not None:
            check_number(self.reg, "reg")
        check_number(self.reg_dimless, "reg_dimless")
        check_flag(self.normalize_cost_matrix, "normalize_cost_matrix")
        self.normalize_cost_matrix = bool(self.normalize_cost_matrix)

    def regularization(self, num_predictions: int | Tensor) -> Number:
        """The regularisation for this number of predictions; of several numbers, each one's."""
        if self.reg is not None:
            return self.reg
        if isinstance(num_predictions, Tensor):
            return self.reg_dimless / ((2 * num_predictions.clamp(min=1)).log() + 1)
        return self.reg_dimless / (math.log(2 * max(num_predictions, 1)) + 1)

    @torch.no_grad()
    def match_costs(self, problem: Problem, cost: Tensor) -> Plan:
        """Match by costs (N, G, P) that are known already; see ``DenseMatcher``."""
        transport = Transport.of(
            problem,
            cost,
            background_cost=self.background_cost if self.background else None,
            reg=self.regularization(problem.num_free),
            normalize=self.normalize_cost_matrix,
        )
        if transport.log_kernel.numel():
            plan, residual = self.transport_plan(transport)
        else:
            plan, residual = transport.log_kernel, transport.demand.new_zeros(problem.num_samples)
        return make_plan(self, problem, plan[:, :-1], plan[:, -1], transport.num_invalid, residual)

    def transport_plan(self, transport: Transport) -> tuple[Tensor, Tensor]:
        """A plan (N, K, P) that gives each prediction 1, and its residual (N,)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it solves the problem")


@module_dataclass
class BalancedSinkhorn(TransportMatcher):
    """Match by entropic optimal transport with marginals that are kept (Cuturi, Sinkhorn Distances, 2013).

    The plan ``W = P exp(f_i + g_j - C_ij / reg)`` has the smallest ``sum(W C) + reg sum(W log W)`` among those that
    give each prediction 1, each of T targets 1, and the background P - T (De Plaen et al., Unbalanced Optimal Transport
    for Object Detection, 2023). With more targets than predictions, each target has P / T and the background nothing;
    without background, each target has P / T too. An image without targets is all background.

    Targets and background have exactly their totals, predictions as far as the iterations have converged:
    ``Plan.residual`` is the largest error of a total. All is computed per image in logarithms, and so finite for any
    regularisation.

    Args:
        num_iter: Number of iterations.
        tolerance: If given, an image whose residual is not above it is iterated no further.
        reg, reg_dimless, normalize_cost_matrix: See ``TransportMatcher``.
        background, background_cost: See ``DenseMatcher``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.eye(4)[None, :3] / 4 + 0.25}
    >>> target = {"boxes": predictions["pred_boxes"][0, 1:2], "labels": torch.tensor([1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> plan = BalancedSinkhorn(background_cost=1.0)(predictions, targets)
    >>> plan.weights.tensor.round(decimals=3).flatten(), plan.background.sum().round(decimals=3)
    (tensor([0., 1., 0.]), tensor(2.))
    """

    num_iter: int = 20
    tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_iteration(self.num_iter, self.tolerance)

    def transport_plan(self, transport: Transport) -> tuple[Tensor, Tensor]:
        """A plan (N, K, P) that gives each prediction 1, and the largest error of a total (N,)."""
        f, _ = Iteration(1, 1, self.num_iter, self.tolerance).solve(transport)
        demand = transport.demand.unsqueeze(-1)
        plan = (transport.log_kernel + f.unsqueeze(1)).softmax(-1) * (demand * per_pair(transport.count))
        plan.masked_fill_(transport.gets_nothing.unsqueeze(-1), 0)
        return plan, marginal_error(plan, transport)


@module_dataclass
class UnbalancedSinkhorn(TransportMatcher):
    """Match by entropic optimal transport that pays for not keeping the marginals (Chizat et al., 2018).

    As ``BalancedSinkhorn``, but totals may differ from those asked for, at a cost of ``reg_pred`` and ``reg_target``
    times their Kullback-Leibler divergence (De Plaen et al., Unbalanced Optimal Transport for Object Detection, 2023).
    A large ``reg_pred`` and a small ``reg_target`` come near to giving each prediction to its cheapest target.

    Marginals are not an aim here: ``Plan.residual`` says how far from converged the plan is, as the largest change of a
    weight, as a part of itself, by the last iteration.

    Args:
        reg_pred: What a prediction's total is held by; in the unit of ``reg``.
        reg_target: What a target's and the background's total is held by.
        num_iter: Number of iterations.
        tolerance: If given, an image whose residual is not above it is iterated no further.
        reg, reg_dimless, normalize_cost_matrix: See ``TransportMatcher``.
        background, background_cost: See ``DenseMatcher``.
        cost, cls_match_module, loc_match_module, is_anchor_based, normalized, max_pairwise_bytes: See ``CostMatcher``.
        ignore_iof: See ``IgnoringMatcher``.

    >>> predictions = {"pred_logits": torch.zeros(1, 3, 2), "pred_boxes": torch.eye(4)[None, :3] / 4 + 0.25}
    >>> target = {"boxes": predictions["pred_boxes"][0, 1:2], "labels": torch.tensor([1])}
    >>> targets = Targets.of([target], box_format="cxcywh", normalized=True)
    >>> matcher = UnbalancedSinkhorn(background_cost=1.0, reg_pred=1e3, reg_target=1e-3)
    >>> matcher(predictions, targets).assignment().target_index
    tensor([[-1,  0, -1]])
    """

    reg_pred: float = 1.0
    reg_target: float = 1.0
    num_iter: int = 70
    tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.reg_pred, "reg_pred")
        check_number(self.reg_target, "reg_target")
        self.reg_pred, self.reg_target = float(self.reg_pred), float(self.reg_target)
        _check_iteration(self.num_iter, self.tolerance)

    def transport_plan(self, transport: Transport) -> tuple[Tensor, Tensor]:
        """A plan (N, K, P), and by which part of itself the last iteration has changed a weight at most (N,)."""
        reg = self.regularization(transport.count)
        supply, demand = (strength / (strength + reg) for strength in (self.reg_pred, self.reg_target))
        iteration = Iteration(supply, demand, self.num_iter, self.tolerance)
        f, before = iteration.solve(transport)
        sums = transport.row_sums(f)
        g = iteration.demand_potential(transport, sums)
        # The total of a row is exp(g + sums); written so, large numbers do not cancel.
        total = (demand * transport.log_demand + (1 - demand) * sums).exp() * transport.count
        plan = (transport.log_kernel + f.unsqueeze(1)).softmax(-1) * total.unsqueeze(-1)
        plan.masked_fill_(transport.gets_nothing.unsqueeze(-1), 0)
        return plan, change(transport, (f, g), before)


def _check_iteration(num_iter: int, tolerance: float | None) -> None:
    check_positive(num_iter, "num_iter")
    if tolerance is not None:
        check_number(tolerance, "tolerance")
